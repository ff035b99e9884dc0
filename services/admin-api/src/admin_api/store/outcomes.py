"""What the provisioner answered."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from directory.tables import Outcome


async def find_reply(db: AsyncSession, change_id: UUID) -> bytes | None:
    """The outcome record's value; None while the change is undecided."""
    return (await db.execute(select(col(Outcome.reply)).where(col(Outcome.change_id) == change_id))).scalar()


async def keep(db: AsyncSession, days: int, now: datetime) -> tuple[int, int]:
    """Make the partitions of the coming days, drop those older than `days`; how many of each (migration 0007)."""
    kept = func.keep_outcomes(days, now).table_valued("created", "dropped")
    row = (await db.execute(select(kept.c.created, kept.c.dropped))).one()
    return row.created, row.dropped
