"""Deactivations that the guard holds back; the provisioner writes and resolves them."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import func, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from admin_api.store.database import AnyRow
from directory.tables import Account, Connection, Hold


async def list_holds(
    db: AsyncSession,
    organization_id: UUID,
    *,
    connection_id: UUID | None,
    is_open: bool | None,
    after: tuple[datetime, UUID] | None,
    limit: int,
) -> Sequence[AnyRow]:
    """Holds with the account's email and the connection's label, the oldest first."""
    statement = (
        select(
            *Hold.__table__.columns,  # pyright: ignore[reportAttributeAccessIssue]
            col(Account.email).label("account_email"),
            col(Account.display_name).label("account_name"),
            col(Connection.provider_id),
        )
        .join(Account, col(Account.id) == col(Hold.account_id))
        .join(Connection, col(Connection.id) == col(Hold.connection_id))
        .where(col(Hold.organization_id) == organization_id)
        .order_by(col(Hold.held_at), col(Hold.id))
        .limit(limit)
    )
    if connection_id:
        statement = statement.where(col(Hold.connection_id) == connection_id)
    if is_open is not None:
        resolved = col(Hold.resolved_at)
        statement = statement.where(resolved.is_(None) if is_open else resolved.is_not(None))
    if after:
        statement = statement.where(tuple_(col(Hold.held_at), col(Hold.id)) > after)
    return (await db.execute(statement)).all()


async def find_open_holds(
    db: AsyncSession, organization_id: UUID, *, ids: Sequence[UUID] | None, connection_id: UUID | None, limit: int
) -> Sequence[Hold]:
    """At most `limit` open holds: those of these ids, or all of a connection, the oldest first."""
    statement = select(Hold).where(col(Hold.organization_id) == organization_id, col(Hold.resolved_at).is_(None))
    if ids is not None:
        statement = statement.where(col(Hold.id).in_(ids))
    if connection_id is not None:
        statement = statement.where(col(Hold.connection_id) == connection_id)
    return (await db.execute(statement.order_by(col(Hold.held_at), col(Hold.id)).limit(limit))).scalars().all()


async def count_open_holds(db: AsyncSession, connection_id: UUID) -> int:
    statement = (
        select(func.count())
        .select_from(Hold)
        .where(col(Hold.connection_id) == connection_id, col(Hold.resolved_at).is_(None))
    )
    return (await db.execute(statement)).scalar_one()


async def release_guard(db: AsyncSession, organization_id: UUID, connection_id: UUID, until: datetime) -> bool:
    """The guard lets everything of the connection pass until then; False without such a connection."""
    statement = (
        update(Connection)
        .where(
            col(Connection.id) == connection_id,
            col(Connection.organization_id) == organization_id,
            col(Connection.deleted_at).is_(None),
        )
        .values(guard_released_until=until)
        .returning(col(Connection.id))
    )
    return (await db.execute(statement)).first() is not None
