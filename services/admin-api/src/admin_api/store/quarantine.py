"""Records that could not be applied; the provisioner sets them aside, people resolve them."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from directory.tables import Quarantined


async def list_quarantine(
    db: AsyncSession,
    organization_id: UUID | None,
    *,
    is_open: bool | None,
    before: tuple[datetime, UUID] | None,
    limit: int,
) -> Sequence[Quarantined]:
    """Records set aside, the latest first; of one organization, or of all and of none."""
    statement = select(Quarantined).order_by(col(Quarantined.created_at).desc(), col(Quarantined.id).desc())
    if organization_id:
        statement = statement.where(col(Quarantined.organization_id) == organization_id)
    if is_open is not None:
        resolved = col(Quarantined.resolved_at)
        statement = statement.where(resolved.is_(None) if is_open else resolved.is_not(None))
    if before:
        statement = statement.where(tuple_(col(Quarantined.created_at), col(Quarantined.id)) < before)
    return (await db.execute(statement.limit(limit))).scalars().all()


async def find_quarantined(
    db: AsyncSession, quarantine_id: UUID, organization_id: UUID | None, *, for_update: bool = False
) -> Quarantined | None:
    """One record; with `for_update` nobody else resolves it meanwhile."""
    statement = select(Quarantined).where(col(Quarantined.id) == quarantine_id)
    if organization_id:
        statement = statement.where(col(Quarantined.organization_id) == organization_id)
    if for_update:
        statement = statement.with_for_update()
    return (await db.execute(statement)).scalar_one_or_none()


async def resolve(db: AsyncSession, quarantine_id: UUID, resolution: str, resolved_by: str, at: datetime) -> None:
    """`resolution` is `retried` or `discarded`."""
    await db.execute(
        update(Quarantined)
        .where(col(Quarantined.id) == quarantine_id)
        .values(resolved_at=at, resolution=resolution, resolved_by=resolved_by)
    )
