"""Sessions, found by the digest of their secret."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import Row, Select, delete, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from directory.tables import Account, Organization, Session


async def insert_session(db: AsyncSession, session: Session) -> None:
    db.add(session)
    await db.flush()


async def find_session(db: AsyncSession, digest: bytes) -> Row[Session, Account, Organization] | None:
    """The session with its account and organization, whatever their state."""
    return (await db.execute(select_session(digest))).one_or_none()


def select_session(digest: bytes) -> Select[Session, Account, Organization]:
    return (
        select(Session, Account, Organization)
        .join(Account, col(Account.id) == Session.account_id)
        .join(Organization, col(Organization.id) == Account.organization_id)
        .where(col(Session.digest) == digest)
    )


async def touch(db: AsyncSession, session_id: UUID, now: datetime) -> None:
    """The session was in use at `now`."""
    await db.execute(update(Session).where(col(Session.id) == session_id).values(last_seen_at=now))


async def revoke(db: AsyncSession, session_id: UUID, now: datetime) -> None:
    await db.execute(
        update(Session).where(col(Session.id) == session_id, col(Session.revoked_at).is_(None)).values(revoked_at=now)
    )


async def delete_expired(db: AsyncSession, before: datetime) -> None:
    """Forget the sessions that expired before then."""
    await db.execute(delete(Session).where(col(Session.expires_at) < before))
