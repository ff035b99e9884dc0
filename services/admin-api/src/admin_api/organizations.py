"""Organizations and their plans, for operators: `/api/v1/admin/organizations`.

A plan that lapses takes nothing away: admins and identity providers are refused until it is back.
"""

from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import Field
from sqlalchemy.ext.asyncio import AsyncSession

from admin_api import audit
from admin_api.audit import Act, Subject
from admin_api.errors import NotFound
from admin_api.paging import PagingOf, page, time_and_id
from admin_api.principals import Operator
from admin_api.roles import Name
from admin_api.service import ServiceOf
from admin_api.shapes import Body, Shape, new_router, refusals
from admin_api.store import organizations as store
from directory.tables import Organization

router = new_router("/organizations", "organizations")

Plan = Literal["free", "enterprise"]


class NewOrganization(Body):
    name: Annotated[Name, Field(examples=["Acme"])]
    plan: Plan = "enterprise"


class OrganizationPatch(Body):
    """What is missing stays as it is."""

    name: Name | None = None
    plan: Plan | None = None


class OrganizationShape(Shape):
    id: UUID
    name: Annotated[str, Field(examples=["Acme"])]
    plan: Plan
    created_at: datetime


class OrganizationList(Shape):
    organizations: list[OrganizationShape]
    next_cursor: str | None


@router.get("")
async def list_organizations(operator: Operator, service: ServiceOf, paging: PagingOf) -> OrganizationList:
    """All organizations, oldest first."""
    async with service.transaction() as db:
        found = await store.list_organizations(db, paging.after(time_and_id), paging.limit + 1)
    rows, next_cursor = page(found, paging, lambda row: (row.created_at, row.id))
    return OrganizationList(
        organizations=[OrganizationShape.model_validate(row) for row in rows], next_cursor=next_cursor
    )


@router.post("", status_code=201)
async def create_organization(body: NewOrganization, operator: Operator, service: ServiceOf) -> OrganizationShape:
    """A new organization with the built-in roles; `directory-sync bootstrap` gives it an admin."""
    now = datetime.now(UTC)
    async with service.transaction() as db:
        made = await create(db, operator.actor, body.name, body.plan, now)
    return OrganizationShape.model_validate(made)


@router.get("/{id}", responses=refusals(404))
async def get_organization(id: UUID, operator: Operator, service: ServiceOf) -> OrganizationShape:
    """One organization."""
    async with service.transaction() as db:
        found = await store.get_organization(db, id)
    if found is None:
        raise NotFound
    return OrganizationShape.model_validate(found)


@router.patch("/{id}", responses=refusals(404))
async def change_organization(
    id: UUID, body: OrganizationPatch, operator: Operator, service: ServiceOf
) -> OrganizationShape:
    """Rename it, or change its plan: effective for admins at once, for identity providers within a second."""
    async with service.transaction() as db:
        changed = await change(db, operator.actor, id, body.name, body.plan)
    return OrganizationShape.model_validate(changed)


async def create(db: AsyncSession, actor: str, name: str, plan: str, now: datetime) -> Organization:
    """A new organization with the built-in roles, audited."""
    made = await store.insert_organization(db, name, plan, now)
    await store.insert_built_in_roles(db, made.id, now)
    subject = (Subject.ORGANIZATION, made.id)
    await audit.record(db, made.id, actor, Act.ORGANIZATION_CREATED, subject, {"after": _facts(made)})
    return made


async def change(db: AsyncSession, actor: str, id: UUID, name: str | None, plan: str | None) -> Organization:
    """The organization with another name or plan (None: as it is), audited; raises NotFound."""
    found = await store.lock_organization(db, id)
    if found is None:
        raise NotFound
    before = _facts(found)
    found.name = name or found.name
    found.plan = plan or found.plan
    await db.flush()
    if _facts(found) != before:
        data = {"before": before, "after": _facts(found)}
        await audit.record(db, id, actor, Act.ORGANIZATION_CHANGED, (Subject.ORGANIZATION, id), data)
    return found


def _facts(organization: Organization) -> dict[str, Any]:
    return {"name": organization.name, "plan": organization.plan}
