"""Accounts that connections asked for and may not touch; the provisioner writes the rows."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from admin_api.store.database import AnyRow
from directory.tables import Account, Connection, LinkRequest


async def list_link_requests(
    db: AsyncSession, organization_id: UUID, *, is_open: bool | None, after: tuple[datetime, UUID] | None, limit: int
) -> Sequence[AnyRow]:
    """Requests with the account's email and the connection's label, the newest first."""
    statement = _select().where(col(LinkRequest.organization_id) == organization_id)
    if is_open is not None:
        resolved = col(LinkRequest.resolved_at)
        statement = statement.where(resolved.is_(None) if is_open else resolved.is_not(None))
    if after:
        statement = statement.where(tuple_(col(LinkRequest.requested_at), col(LinkRequest.id)) < after)
    statement = statement.order_by(col(LinkRequest.requested_at).desc(), col(LinkRequest.id).desc()).limit(limit)
    return (await db.execute(statement)).all()


async def find_link_request(db: AsyncSession, organization_id: UUID, request_id: UUID) -> AnyRow | None:
    statement = _select().where(col(LinkRequest.organization_id) == organization_id, col(LinkRequest.id) == request_id)
    return (await db.execute(statement)).one_or_none()


def _select():
    return (
        select(
            *LinkRequest.__table__.columns,  # pyright: ignore[reportAttributeAccessIssue]
            col(Account.email).label("account_email"),
            col(Account.display_name).label("account_name"),
            col(Connection.provider_id),
        )
        .join(Account, col(Account.id) == col(LinkRequest.account_id))
        .join(Connection, col(Connection.id) == col(LinkRequest.connection_id))
    )
