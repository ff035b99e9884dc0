"""Group mappings; deleted ones stay, for they are what grants are founded on."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import ColumnElement, ScalarSelect, Select, exists, or_, select, tuple_, update
from sqlalchemy.dialects.postgresql import array_agg
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from admin_api.errors import Conflict
from admin_api.store.database import constraint_of
from directory.tables import GROUP_MAPPING_KEY, Connection, Group, GroupMapping, Organization, Role


@dataclass(frozen=True, slots=True)
class Row:
    """A live mapping with its role and the groups that bear its name.

    `latecomers`: those that were renamed to it or took another's place, which a protected role does not reach.
    """

    mapping: GroupMapping
    role: Role
    groups: list[UUID]
    latecomers: list[UUID]


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which mappings to list; None is no condition."""

    organization_id: UUID
    scim_group_name: str | None
    connection_id: UUID | None


async def list_mappings(
    db: AsyncSession, wanted: Wanted, after: tuple[datetime, UUID] | None, limit: int
) -> Sequence[Row]:
    """Live mappings, oldest first."""
    statement = _live(wanted.organization_id)
    if wanted.scim_group_name is not None:
        statement = statement.where(col(GroupMapping.scim_group_name) == wanted.scim_group_name)
    if wanted.connection_id is not None:
        statement = statement.where(col(GroupMapping.connection_id) == wanted.connection_id)
    key = tuple_(col(GroupMapping.created_at), col(GroupMapping.id))
    if after is not None:
        statement = statement.where(key > after)
    rows = await db.execute(statement.order_by(col(GroupMapping.created_at), col(GroupMapping.id)).limit(limit))
    return [_row(*row) for row in rows]


async def find_mapping(db: AsyncSession, organization_id: UUID, mapping_id: UUID) -> Row | None:
    """The live mapping."""
    found = (await db.execute(_live(organization_id).where(col(GroupMapping.id) == mapping_id))).one_or_none()
    return _row(*found) if found else None


async def raise_version(db: AsyncSession, organization_id: UUID) -> int:
    """The version that this edit makes; other edits wait until the transaction ends."""
    statement = (
        update(Organization)
        .where(col(Organization.id) == organization_id)
        .values(mappings_version=col(Organization.mappings_version) + 1)
        .returning(col(Organization.mappings_version))
    )
    return (await db.execute(statement)).scalar_one()


async def insert_mapping(db: AsyncSession, mapping: GroupMapping) -> None:
    """Raises Conflict when there is the same one."""
    db.add(mapping)
    try:
        await db.flush()
    except IntegrityError as error:
        if constraint_of(error) == GROUP_MAPPING_KEY:
            raise Conflict("this group name is mapped to this role already") from error
        raise


async def mark_deleted(db: AsyncSession, mapping_id: UUID, version: int, now: datetime) -> bool:
    """Whether the mapping was live until now."""
    statement = update(GroupMapping).where(col(GroupMapping.id) == mapping_id, col(GroupMapping.deleted_at).is_(None))
    done = await db.execute(statement.values(deleted_at=now, deleted_version=version).returning(col(GroupMapping.id)))
    return done.first() is not None


async def has_mappings_of(db: AsyncSession, connection_id: UUID) -> bool:
    """Whether live mappings are for this connection only."""
    statement = select(exists().where(*_of_connection(connection_id)))
    return bool(await db.scalar(statement))


async def mark_connection_deleted(db: AsyncSession, connection_id: UUID, version: int, now: datetime) -> None:
    """The mappings that were for this connection only are gone with it."""
    await db.execute(
        update(GroupMapping).where(*_of_connection(connection_id)).values(deleted_at=now, deleted_version=version)
    )


async def find_groups(
    db: AsyncSession, organization_id: UUID, scim_group_name: str, connection_id: UUID | None
) -> list[UUID]:
    """The groups that bear exactly this name now, of one connection or of all of the organization."""
    statement = (
        select(col(Group.id))
        .join(Connection, col(Connection.id) == Group.connection_id)
        .where(*_bears(organization_id), col(Group.display_name) == scim_group_name)
        .order_by(col(Group.id))
    )
    if connection_id is not None:
        statement = statement.where(col(Group.connection_id) == connection_id)
    return list(await db.scalars(statement))


async def list_group_names(
    db: AsyncSession, organization_id: UUID, *, limit: int, only_unmapped: bool = False
) -> Sequence[str]:
    """Names that the groups of open connections bear, each once, by name."""
    statement = (
        select(col(Group.display_name))
        .join(Connection, col(Connection.id) == Group.connection_id)
        .where(*_bears(organization_id))
    )
    if only_unmapped:
        mapped = select(col(GroupMapping.scim_group_name)).where(
            col(GroupMapping.organization_id) == organization_id, col(GroupMapping.deleted_at).is_(None)
        )
        statement = statement.where(col(Group.display_name).not_in(mapped))
    names = await db.scalars(statement.distinct().order_by(col(Group.display_name)).limit(limit))
    return names.all()


def _row(mapping: GroupMapping, role: Role, groups: list[UUID] | None, latecomers: list[UUID] | None) -> Row:
    return Row(mapping, role, groups or [], latecomers or [])


def _live(organization_id: UUID) -> Select[GroupMapping, Role, list[UUID] | None, list[UUID] | None]:
    groups = _groups(organization_id)
    latecomers = _groups(organization_id, col(Group.owns_name).is_(False))
    return (
        select(GroupMapping, Role, groups, latecomers)
        .join(Role, col(Role.id) == GroupMapping.role_id)
        .where(col(GroupMapping.organization_id) == organization_id, col(GroupMapping.deleted_at).is_(None))
    )


def _groups(organization_id: UUID, *conditions: ColumnElement[bool]) -> ScalarSelect[list[UUID] | None]:
    return (
        select(array_agg(col(Group.id)))
        .join(Connection, col(Connection.id) == Group.connection_id)
        .where(
            *_bears(organization_id),
            col(Group.display_name) == col(GroupMapping.scim_group_name),
            or_(col(GroupMapping.connection_id).is_(None), col(GroupMapping.connection_id) == Group.connection_id),
            *conditions,
        )
        .correlate(GroupMapping)
        .scalar_subquery()
    )


def _bears(organization_id: UUID) -> tuple[ColumnElement[bool], ...]:
    return (col(Connection.organization_id) == organization_id, col(Connection.deleted_at).is_(None))


def _of_connection(connection_id: UUID) -> tuple[ColumnElement[bool], ...]:
    return (col(GroupMapping.connection_id) == connection_id, col(GroupMapping.deleted_at).is_(None))
