"""Accounts that can sign in, their passwords and roles."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from directory.tables import Account, Credential, Grant, Role


@dataclass(frozen=True, slots=True)
class Candidate:
    """An account with a password that a sign-in may mean."""

    id: UUID
    organization_id: UUID
    email: str | None
    display_name: str
    is_active: bool
    epoch: int
    password_hash: str


async def find_candidates(
    db: AsyncSession, email_key: str, organization_id: UUID | None, limit: int
) -> Sequence[Candidate]:
    """At most `limit` accounts with this email and a password, oldest first: an email is unique per organization only.

    Reached through the passwords, of which there are few beside the accounts that directories push.
    """
    statement = (
        select(Account, col(Credential.password_hash))
        .join(Credential, col(Credential.account_id) == Account.id)
        .where(col(Account.email_key) == email_key)
        .order_by(col(Account.created_at), col(Account.id))
        .limit(limit)
    )
    if organization_id is not None:
        statement = statement.where(col(Account.organization_id) == organization_id)
    return [_candidate(account, password_hash) for account, password_hash in await db.execute(statement)]


def _candidate(account: Account, password_hash: str) -> Candidate:
    return Candidate(
        id=account.id,
        organization_id=account.organization_id,
        email=account.email,
        display_name=account.display_name,
        is_active=account.status == "active",
        epoch=account.epoch,
        password_hash=password_hash,
    )


async def find_account(db: AsyncSession, organization_id: UUID, email_key: str) -> Account | None:
    statement = select(Account).where(
        col(Account.organization_id) == organization_id, col(Account.email_key) == email_key
    )
    return (await db.execute(statement)).scalar_one_or_none()


async def find_roles(db: AsyncSession, account_id: UUID) -> list[Role]:
    """The roles that the account holds, by whatever grant, each once."""
    statement = select(Role).where(
        col(Role.id).in_(select(col(Grant.role_id)).where(col(Grant.account_id) == account_id))
    )
    return list((await db.execute(statement.order_by(col(Role.name)))).scalars())


async def is_active_admin(db: AsyncSession, account_id: UUID) -> bool:
    """Whether the account is active and holds the built-in role `admin`."""
    statement = (
        select(col(Account.id))
        .join(Grant, col(Grant.account_id) == Account.id)
        .join(Role, col(Role.id) == Grant.role_id)
        .where(col(Account.id) == account_id, col(Account.status) == "active", col(Role.is_protected))
    )
    return (await db.execute(statement.limit(1))).first() is not None


async def insert_account(db: AsyncSession, account: Account) -> None:
    db.add(account)
    await db.flush()


async def find_password_hash(db: AsyncSession, account_id: UUID) -> str | None:
    credential = await db.get(Credential, account_id)
    return credential.password_hash if credential else None


async def set_password_hash(db: AsyncSession, account_id: UUID, password_hash: str, now: datetime) -> None:
    await db.merge(Credential(account_id=account_id, password_hash=password_hash, updated_at=now))
    await db.flush()


async def insert_grant(db: AsyncSession, account_id: UUID, role_id: UUID, now: datetime) -> None:
    """A manual grant; nothing when the account has it."""
    statement = insert(Grant).values(account_id=account_id, role_id=role_id, group_id=None, created_at=now)
    await db.execute(statement.on_conflict_do_nothing())
