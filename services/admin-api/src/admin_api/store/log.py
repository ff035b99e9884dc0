"""The provisioning log: outcomes, and the events of the same changes."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, func, or_, select, union_all
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from admin_api.store.database import AnyRow
from directory.tables import Connection, Event, Outcome, User, UserTombstone


@dataclass(frozen=True, slots=True)
class LogFilter:
    """Which entries; what is None does not matter. Ids and times bound `change_id`, which begins with a time."""

    connection_id: UUID | None = None
    resource_id: UUID | None = None
    user_name_key: str | None = None
    statuses: tuple[int, int] | None = None
    operation: str | None = None
    first_id: UUID | None = None
    end_id: UUID | None = None


async def list_entries(
    db: AsyncSession, organization_id: UUID, wanted: LogFilter, *, before: UUID | None, limit: int
) -> Sequence[AnyRow]:
    """Outcomes with the label of their connection, the newest first, from before the change `before` on."""
    statement = (
        select(*Outcome.__table__.columns, col(Connection.provider_id))  # pyright: ignore[reportAttributeAccessIssue]
        .outerjoin(Connection, col(Connection.id) == col(Outcome.connection_id))
        .where(col(Outcome.organization_id) == organization_id, *_conditions(organization_id, wanted))
        .order_by(col(Outcome.change_id).desc())
        .limit(limit)
    )
    if before:
        statement = statement.where(col(Outcome.change_id) < before)
    return (await db.execute(statement)).all()


async def find_entry(db: AsyncSession, organization_id: UUID, change_id: UUID) -> AnyRow | None:
    statement = (
        select(*Outcome.__table__.columns, col(Connection.provider_id))  # pyright: ignore[reportAttributeAccessIssue]
        .outerjoin(Connection, col(Connection.id) == col(Outcome.connection_id))
        .where(col(Outcome.organization_id) == organization_id, col(Outcome.change_id) == change_id)
    )
    return (await db.execute(statement)).one_or_none()


async def list_events(
    db: AsyncSession, organization_id: UUID, change_ids: Sequence[UUID], times: Sequence[datetime]
) -> Sequence[Event]:
    """The events of these changes, which were received at these times, in the order of their chains."""
    if not change_ids:
        return []
    statement = (
        select(Event)
        .where(
            col(Event.organization_id) == organization_id,
            col(Event.at).between(min(times), max(times)),
            col(Event.change_id).in_(change_ids),
        )
        .order_by(col(Event.chain), col(Event.seq))
    )
    return (await db.execute(statement)).scalars().all()


def _conditions(organization_id: UUID, wanted: LogFilter) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if wanted.connection_id:
        conditions.append(col(Outcome.connection_id) == wanted.connection_id)
    if wanted.resource_id:
        conditions.append(col(Outcome.resource_id) == wanted.resource_id)
    if wanted.user_name_key is not None:
        conditions.append(_about_user(organization_id, wanted.user_name_key))
    if wanted.statuses:
        conditions.append(col(Outcome.status).between(*wanted.statuses))
    if wanted.operation:
        conditions.append(col(Outcome.operation) == wanted.operation)
    if wanted.first_id:
        conditions.append(col(Outcome.change_id) >= wanted.first_id)
    if wanted.end_id:
        conditions.append(col(Outcome.change_id) < wanted.end_id)
    return conditions


def _about_user(organization_id: UUID, key: str) -> ColumnElement[bool]:
    """About a user who has or had this userName, or a request that brought it and made no user."""

    def ids(table: Any) -> Any:
        of_organization = select(col(Connection.id)).where(col(Connection.organization_id) == organization_id)
        return select(table.id).where(table.user_name_key == key, table.connection_id.in_(of_organization))

    sent = func.jsonb_extract_path_text(col(Outcome.request), "body", "userName")
    return or_(col(Outcome.resource_id).in_(union_all(ids(User), ids(UserTombstone))), func.lower(sent) == key)
