"""Reading the audit trail."""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, and_, select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased
from sqlmodel import col

from admin_api.store.database import AnyRow
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


@dataclass(frozen=True, slots=True)
class TrailFilter:
    """Which rows; what is None does not matter."""

    type: str | None = None
    actor: str | None = None
    subject_id: UUID | None = None
    connection_id: UUID | None = None
    since: datetime | None = None
    until: datetime | None = None


type Place = tuple[datetime, int, int]  # time, chain and seq: the order of the list


async def list_events(
    db: AsyncSession, organization_id: UUID, wanted: TrailFilter, *, before: Place | None, limit: int
) -> Sequence[Event]:
    """The organization's rows, the newest first."""
    order = (col(Event.at), col(Event.chain), col(Event.seq))
    statement = select(Event).where(col(Event.organization_id) == organization_id, *_conditions(wanted))
    if before:
        statement = statement.where(tuple_(*order) < before)
    return (await db.execute(statement.order_by(*(key.desc() for key in order)).limit(limit))).scalars().all()


async def list_links(
    db: AsyncSession, organization_id: UUID, *, after: tuple[int, int], limit: int
) -> Sequence[AnyRow]:
    """The organization's rows by chain and seq, each with the hash of the row before it in its chain."""
    previous = aliased(Event)
    statement = (
        select(*Event.__table__.columns, col(previous.hash).label("previous"))  # pyright: ignore[reportAttributeAccessIssue]
        .outerjoin(previous, and_(col(previous.chain) == col(Event.chain), col(previous.seq) == col(Event.seq) - 1))
        .where(col(Event.organization_id) == organization_id, tuple_(col(Event.chain), col(Event.seq)) > after)
        .order_by(col(Event.chain), col(Event.seq))
        .limit(limit)
    )
    return (await db.execute(statement)).all()


def _conditions(wanted: TrailFilter) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if wanted.type:
        conditions.append(col(Event.type) == wanted.type)
    if wanted.actor:
        conditions.append(col(Event.actor) == wanted.actor)
    if wanted.subject_id:
        conditions.append(col(Event.subject_id) == wanted.subject_id)
    if wanted.connection_id:
        conditions.append(col(Event.connection_id) == wanted.connection_id)
    if wanted.since:
        conditions.append(col(Event.at) >= wanted.since)
    if wanted.until:
        conditions.append(col(Event.at) < wanted.until)
    return conditions
