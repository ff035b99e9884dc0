"""Whom an OpenID provider means by a subject."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import Select, exists, insert, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from directory.tables import Account, Identity

MAX_ACCOUNTS = 20  # of one person


async def find_linked(db: AsyncSession, issuer: str, subject: str, organization_id: UUID | None) -> list[Account]:
    """The accounts that this subject has signed in to, of one organization or of all."""
    linked = select(Account).join(Identity, col(Identity.account_id) == Account.id)
    statement = linked.where(col(Identity.issuer) == issuer, col(Identity.subject) == subject)
    return await _accounts(db, statement, organization_id)


async def find_unlinked(db: AsyncSession, issuer: str, email_key: str, organization_id: UUID | None) -> list[Account]:
    """The accounts with this email that no subject of the issuer has signed in to."""
    is_linked = exists().where(col(Identity.account_id) == Account.id, col(Identity.issuer) == issuer)
    statement = select(Account).where(col(Account.email_key) == email_key, ~is_linked)
    return await _accounts(db, statement, organization_id)


async def insert_identity(db: AsyncSession, issuer: str, subject: str, account_id: UUID, now: datetime) -> None:
    """From now on the subject is this account's person."""
    await db.execute(insert(Identity).values(issuer=issuer, subject=subject, account_id=account_id, created_at=now))


async def _accounts(db: AsyncSession, statement: Select[Account], organization_id: UUID | None) -> list[Account]:
    if organization_id is not None:
        statement = statement.where(col(Account.organization_id) == organization_id)
    ordered = statement.order_by(col(Account.created_at), col(Account.id)).limit(MAX_ACCOUNTS)
    return list(await db.scalars(ordered))
