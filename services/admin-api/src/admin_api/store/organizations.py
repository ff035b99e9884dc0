"""Organizations and their built-in roles."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID, uuid4

from sqlalchemy import func, select, tuple_, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from directory.tables import Organization, Role

BUILT_IN_ROLES = ("member", "admin")


async def lock_bootstrap(db: AsyncSession) -> None:
    """Until the transaction ends, others wait here: an organization's name is no constraint that could decide."""
    await db.execute(select(func.pg_advisory_xact_lock(func.hashtext("directory.bootstrap"))))


async def find_organization(db: AsyncSession, name: str) -> Organization | None:
    """The oldest organization of this name."""
    statement = select(Organization).where(col(Organization.name) == name).order_by(col(Organization.created_at))
    return (await db.execute(statement.limit(1))).scalar_one_or_none()


async def list_organizations(
    db: AsyncSession, after: tuple[datetime, UUID] | None, limit: int
) -> Sequence[Organization]:
    """All of them, oldest first."""
    statement = select(Organization)
    if after is not None:
        statement = statement.where(tuple_(col(Organization.created_at), col(Organization.id)) > after)
    ordered = statement.order_by(col(Organization.created_at), col(Organization.id))
    return (await db.scalars(ordered.limit(limit))).all()


async def get_organization(db: AsyncSession, organization_id: UUID) -> Organization | None:
    return await db.get(Organization, organization_id)


async def lock_organization(db: AsyncSession, organization_id: UUID) -> Organization | None:
    """The organization, which nobody else changes until the transaction ends."""
    statement = select(Organization).where(col(Organization.id) == organization_id)
    return (await db.execute(statement.with_for_update())).scalar_one_or_none()


async def insert_organization(db: AsyncSession, name: str, plan: str, now: datetime) -> Organization:
    organization = Organization(id=uuid4(), name=name, plan=plan, created_at=now)
    db.add(organization)
    await db.flush()
    return organization


async def set_plan(db: AsyncSession, organization_id: UUID, plan: str) -> None:
    await db.execute(update(Organization).where(col(Organization.id) == organization_id).values(plan=plan))


async def insert_built_in_roles(db: AsyncSession, organization_id: UUID, now: datetime) -> dict[str, UUID]:
    """The ids of the built-in roles by name; what is missing is made."""
    rows = [
        {"id": uuid4(), "organization_id": organization_id, "name": name, "built_in": True, "created_at": now}
        for name in BUILT_IN_ROLES
    ]
    await db.execute(insert(Role).values([{**row, "permissions": []} for row in rows]).on_conflict_do_nothing())
    statement = select(col(Role.name), col(Role.id)).where(
        col(Role.organization_id) == organization_id, col(Role.name).in_(BUILT_IN_ROLES)
    )
    return {row.name: row.id for row in await db.execute(statement)}
