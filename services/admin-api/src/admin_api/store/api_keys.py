"""API keys, found by the digest of their secret."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import ColumnElement, or_, select, tuple_, update
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


async def list_keys(
    db: AsyncSession, organization_id: UUID | None, after: tuple[datetime, UUID] | None, limit: int
) -> Sequence[ApiKey]:
    """All keys of the organization, or (None) of operators, newest first."""
    statement = select(ApiKey).where(_owned(organization_id))
    if after is not None:
        statement = statement.where(tuple_(col(ApiKey.created_at), col(ApiKey.id)) < after)
    ordered = statement.order_by(col(ApiKey.created_at).desc(), col(ApiKey.id).desc())
    return (await db.scalars(ordered.limit(limit))).all()


async def list_live(db: AsyncSession, organization_id: UUID | None, now: datetime) -> Sequence[ApiKey]:
    """Those that are neither revoked nor expired."""
    statement = select(ApiKey).where(
        _owned(organization_id),
        col(ApiKey.revoked_at).is_(None),
        or_(col(ApiKey.expires_at).is_(None), col(ApiKey.expires_at) > now),
    )
    return (await db.scalars(statement)).all()


async def insert_key(db: AsyncSession, key: ApiKey) -> None:
    db.add(key)
    await db.flush()


async def revoke(db: AsyncSession, organization_id: UUID | None, key_id: UUID, now: datetime) -> ApiKey | None:
    """The key, when it was not revoked yet."""
    statement = update(ApiKey).where(
        _owned(organization_id), col(ApiKey.id) == key_id, col(ApiKey.revoked_at).is_(None)
    )
    return (await db.execute(statement.values(revoked_at=now).returning(ApiKey))).scalar_one_or_none()


async def touch(db: AsyncSession, key_id: UUID, now: datetime) -> None:
    """The key was in use at `now`."""
    await db.execute(update(ApiKey).where(col(ApiKey.id) == key_id).values(last_used_at=now))


def _owned(organization_id: UUID | None) -> ColumnElement[bool]:
    owner = col(ApiKey.organization_id)
    return owner.is_(None) if organization_id is None else owner == organization_id
