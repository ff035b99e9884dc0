"""API keys, found by the digest of their secret."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from directory.tables import ApiKey, Organization


async def find_key(db: AsyncSession, digest: bytes) -> tuple[ApiKey, Organization | None] | None:
    """The key with its organization, None for an operator's, whatever its state."""
    statement = (
        select(ApiKey, Organization)
        .join(Organization, col(Organization.id) == ApiKey.organization_id, isouter=True)
        .where(col(ApiKey.digest) == digest)
    )
    found = (await db.execute(statement)).one_or_none()
    return (found[0], found[1]) if found else None


async def touch(db: AsyncSession, key_id: UUID, now: datetime) -> None:
    """The key was in use at `now`."""
    await db.execute(update(ApiKey).where(col(ApiKey.id) == key_id).values(last_used_at=now))
