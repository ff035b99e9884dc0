"""What the provisioner answered."""

from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from directory.tables import Outcome


async def find_reply(db: AsyncSession, change_id: UUID) -> bytes | None:
    """The outcome record's value; None while the change is undecided."""
    return (await db.execute(select(col(Outcome.reply)).where(col(Outcome.change_id) == change_id))).scalar()
