"""Reading the audit trail."""

from collections.abc import AsyncGenerator, Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from contracts import CHANGES
from directory.tables import Event, PartitionOffset

PAGE = 2_000  # rows of a stream that are in memory


async def list_chains(db: AsyncSession) -> Sequence[int]:
    """The chains that have rows."""
    return (await db.execute(select(col(Event.chain)).distinct())).scalars().all()


async def published_events(db: AsyncSession) -> dict[int, int]:
    """By chain, the last row that the provisioner is known to have published."""
    statement = select(col(PartitionOffset.partition), col(PartitionOffset.published_event)).where(
        col(PartitionOffset.topic) == CHANGES.name
    )
    return {row.partition: row.published_event for row in await db.execute(statement)}


async def stream_chain(db: AsyncSession, chain: int) -> AsyncGenerator[dict[str, Any]]:
    """The rows of a chain in order, a page at a time."""
    statement = select(*Event.__table__.columns).where(col(Event.chain) == chain).order_by(col(Event.seq))  # pyright: ignore[reportAttributeAccessIssue]
    result = await db.stream(statement, execution_options={"yield_per": PAGE})
    try:
        async for row in result:
            yield row._asdict()
    finally:
        await result.close()
