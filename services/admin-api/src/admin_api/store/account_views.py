"""Accounts as their organization's admin sees them: with their roles, links and SCIM users."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import or_, select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from admin_api.store.database import AnyRow
from directory.tables import Account, Connection, Grant, Group, Link, Role, User


async def list_accounts(
    db: AsyncSession,
    organization_id: UUID,
    *,
    search: str | None,
    status: str | None,
    after: tuple[datetime, UUID] | None,
    limit: int,
) -> Sequence[Account]:
    """Accounts whose email or name holds `search`, in any case; oldest first, from behind `after` on."""
    statement = select(Account).where(col(Account.organization_id) == organization_id, col(Account.epoch) >= 0)
    if search:
        found = [
            column.icontains(search, autoescape=True) for column in (col(Account.email), col(Account.display_name))
        ]
        statement = statement.where(or_(*found))
    if status:
        statement = statement.where(col(Account.status) == status)
    if after:
        statement = statement.where(tuple_(col(Account.created_at), col(Account.id)) > after)
    statement = statement.order_by(col(Account.created_at), col(Account.id)).limit(limit)
    return (await db.execute(statement)).scalars().all()


async def find_account(db: AsyncSession, organization_id: UUID, account_id: UUID) -> Account | None:
    statement = select(Account).where(col(Account.organization_id) == organization_id, col(Account.id) == account_id)
    return (await db.execute(statement)).scalar_one_or_none()


async def list_held_roles(db: AsyncSession, account_ids: Sequence[UUID]) -> Sequence[AnyRow]:
    """The grants of the accounts by name of the role: with the group and its connection, if a group is the source."""
    statement = (
        select(
            col(Grant.account_id),
            col(Grant.role_id),
            col(Role.name),
            col(Grant.group_id),
            col(Group.display_name).label("group_name"),
            col(Connection.id).label("connection_id"),
            col(Connection.provider_id),
            col(Grant.label),
            col(Grant.created_at),
        )
        .join(Role, col(Role.id) == col(Grant.role_id))
        .outerjoin(Group, col(Group.id) == col(Grant.group_id))
        .outerjoin(Connection, col(Connection.id) == col(Group.connection_id))
        .where(col(Grant.account_id).in_(account_ids))
        .order_by(col(Role.name), col(Group.display_name).nulls_first(), col(Grant.group_id))
    )
    return (await db.execute(statement)).all()


async def list_links(db: AsyncSession, account_ids: Sequence[UUID]) -> Sequence[AnyRow]:
    """Which open connections may change the accounts."""
    statement = (
        select(
            col(Link.account_id),
            col(Link.connection_id),
            col(Connection.provider_id),
            col(Link.origin),
            col(Link.created_at),
        )
        .join(Connection, col(Connection.id) == col(Link.connection_id))
        .where(col(Link.account_id).in_(account_ids), col(Connection.deleted_at).is_(None))
        .order_by(col(Link.created_at), col(Link.connection_id))
    )
    return (await db.execute(statement)).all()


async def list_users(db: AsyncSession, account_ids: Sequence[UUID]) -> Sequence[AnyRow]:
    """The live SCIM users of the accounts, at most one each."""
    statement = (
        select(
            col(User.account_id),
            col(User.id),
            col(User.connection_id),
            col(Connection.provider_id),
            col(User.user_name),
            col(User.external_id),
            col(User.active),
            col(User.last_modified),
        )
        .join(Connection, col(Connection.id) == col(User.connection_id))
        .where(col(User.account_id).in_(account_ids))
    )
    return (await db.execute(statement)).all()


async def find_role_id(db: AsyncSession, organization_id: UUID, name: str) -> UUID | None:
    statement = select(col(Role.id)).where(col(Role.organization_id) == organization_id, col(Role.name) == name)
    return (await db.execute(statement)).scalar_one_or_none()


async def holds_manually(db: AsyncSession, account_id: UUID, role_id: UUID) -> bool:
    """Whether the account has a manual grant of the role."""
    statement = select(col(Grant.role_id)).where(
        col(Grant.account_id) == account_id, col(Grant.role_id) == role_id, col(Grant.group_id).is_(None)
    )
    return (await db.execute(statement)).first() is not None


async def is_open_connection(db: AsyncSession, organization_id: UUID, connection_id: UUID) -> bool:
    statement = select(col(Connection.id)).where(
        col(Connection.id) == connection_id,
        col(Connection.organization_id) == organization_id,
        col(Connection.deleted_at).is_(None),
    )
    return (await db.execute(statement)).first() is not None


async def is_linked(db: AsyncSession, account_id: UUID, connection_id: UUID) -> bool:
    statement = select(col(Link.account_id)).where(
        col(Link.account_id) == account_id, col(Link.connection_id) == connection_id
    )
    return (await db.execute(statement)).first() is not None
