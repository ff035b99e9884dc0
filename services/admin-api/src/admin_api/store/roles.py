"""Roles, and what holds them."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import Select, func, select, tuple_
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from admin_api.errors import Conflict
from admin_api.store.database import constraint_of
from directory.tables import Account, Grant, GroupMapping, Role

ROLE_NAME_KEY = "roles_organization_id_name_key"


@dataclass(frozen=True, slots=True)
class ListedRow:
    """A role with the numbers of accounts that hold it and of live mappings that name it."""

    role: Role
    accounts: int
    mappings: int


@dataclass(frozen=True, slots=True)
class Holders:
    """What keeps a role from being deleted; some of the names."""

    mappings: int
    group_names: list[str]
    accounts: int
    account_names: list[str]


async def list_roles(
    db: AsyncSession, organization_id: UUID, after: tuple[str, UUID] | None, limit: int
) -> list[ListedRow]:
    """Ordered by name and id, behind `after`."""
    statement = _listed().where(col(Role.organization_id) == organization_id)
    if after is not None:
        statement = statement.where(tuple_(col(Role.name), col(Role.id)) > after)
    rows = await db.execute(statement.order_by(col(Role.name), col(Role.id)).limit(limit))
    return [ListedRow(*row) for row in rows]


async def find_role(db: AsyncSession, organization_id: UUID, role_id: UUID) -> ListedRow | None:
    statement = _listed().where(col(Role.organization_id) == organization_id, col(Role.id) == role_id)
    row = (await db.execute(statement)).one_or_none()
    return ListedRow(*row) if row else None


async def find_role_by_name(db: AsyncSession, organization_id: UUID, name: str) -> Role | None:
    """The role, which stays until the transaction ends."""
    statement = select(Role).where(col(Role.organization_id) == organization_id, col(Role.name) == name)
    return (await db.execute(statement.with_for_update(read=True, key_share=True))).scalar_one_or_none()


async def lock_role(db: AsyncSession, organization_id: UUID, role_id: UUID) -> Role | None:
    """The role, which nobody maps, grants or changes until the transaction ends."""
    statement = select(Role).where(col(Role.organization_id) == organization_id, col(Role.id) == role_id)
    return (await db.execute(statement.with_for_update())).scalar_one_or_none()


async def insert_role(db: AsyncSession, role: Role) -> None:
    """Raises Conflict when the organization has a role of this name."""
    db.add(role)
    await save_role(db, role)


async def save_role(db: AsyncSession, role: Role) -> None:
    """Write what was changed; raises Conflict for a name that is taken."""
    name = role.name
    try:
        await db.flush()
    except IntegrityError as error:
        if constraint_of(error) == ROLE_NAME_KEY:
            raise Conflict(f"there is a role {name!r} already") from error
        raise
    await db.refresh(role)


async def find_holders(db: AsyncSession, role_id: UUID, names: int) -> Holders:
    """What holds the role, with at most so many names of each kind."""
    mapped = (col(GroupMapping.role_id) == role_id, col(GroupMapping.deleted_at).is_(None))
    mappings = await db.scalar(select(func.count()).select_from(GroupMapping).where(*mapped))
    group_names = await db.scalars(
        select(col(GroupMapping.scim_group_name)).where(*mapped).order_by(col(GroupMapping.created_at)).limit(names)
    )
    holding = select(col(Grant.account_id)).where(col(Grant.role_id) == role_id).distinct().subquery()
    accounts = await db.scalar(select(func.count()).select_from(holding))
    found = await db.scalars(
        select(func.coalesce(col(Account.email), col(Account.display_name)))
        .where(col(Account.id).in_(select(holding.c.account_id)))
        .order_by(col(Account.created_at), col(Account.id))
        .limit(names)
    )
    return Holders(mappings or 0, list(group_names), accounts or 0, list(found))


async def delete_role(db: AsyncSession, role: Role) -> None:
    """Raises Conflict when an account got the role in the meantime."""
    name = role.name
    await db.delete(role)
    try:
        await db.flush()
    except IntegrityError as error:
        raise Conflict(f"role {name!r} has just been given to an account") from error


async def names_of(db: AsyncSession, role_ids: Sequence[UUID]) -> dict[UUID, str]:
    rows = await db.execute(select(col(Role.id), col(Role.name)).where(col(Role.id).in_(role_ids)))
    return {row.id: row.name for row in rows}


def _listed() -> Select[Role, int, int]:
    accounts = (
        select(func.count(col(Grant.account_id).distinct())).where(col(Grant.role_id) == Role.id).scalar_subquery()
    )
    mappings = (
        select(func.count())
        .select_from(GroupMapping)
        .where(col(GroupMapping.role_id) == Role.id, col(GroupMapping.deleted_at).is_(None))
        .scalar_subquery()
    )
    return select(Role, accounts, mappings)
