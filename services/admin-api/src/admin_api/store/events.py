"""The audit trail; rows are only ever added."""

from dataclasses import asdict

from sqlalchemy import func, insert, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from contracts import EVENTS_CHAIN_OF_ADMIN
from contracts.events import FIRST_HASH, EventRow, chained, digest_of
from directory.tables import Event


async def append(db: AsyncSession, row: EventRow) -> None:
    """Add the row to the chain of admin-api, which is locked until the transaction ends."""
    await db.execute(select(func.pg_advisory_xact_lock(func.hashtext("directory.events.admin"))))
    last = (
        select(col(Event.seq), col(Event.hash))
        .where(col(Event.chain) == EVENTS_CHAIN_OF_ADMIN)
        .order_by(col(Event.seq).desc())
        .limit(1)
    )
    found = (await db.execute(last)).one_or_none()
    seq, previous = found if found is not None else (0, FIRST_HASH)
    digest = digest_of(row.data)
    place = {"chain": EVENTS_CHAIN_OF_ADMIN, "seq": seq + 1, "digest": digest, "hash": chained(previous, row, digest)}
    await db.execute(insert(Event).values({**asdict(row), **place}))
