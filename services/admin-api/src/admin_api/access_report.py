"""The access report: `/api/v1/admin/scim/access-report`. Who holds which role through which group."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import Query
from fastapi.responses import StreamingResponse
from pydantic import Field
from sqlalchemy.ext.asyncio import AsyncSession

from admin_api.exports import DOWNLOADS, PAGE, Format, download
from admin_api.paging import PagingOf, page
from admin_api.principals import Admin
from admin_api.service import Service, ServiceOf
from admin_api.shapes import Shape, new_router
from admin_api.store import access as store
from admin_api.store.database import AnyRow

router = new_router("/scim/access-report", "access report")

MAX_NAMED = 1_000  # admins, and break-glass accounts
MANUAL = UUID(int=0)
COLUMNS = (
    "role",
    "email",
    "displayName",
    "status",
    "source",
    "groupName",
    "providerId",
    "label",
    "breakGlass",
    "isProtected",
    "grantedAt",
    "accountId",
    "roleId",
    "groupId",
)


class RoleInUse(Shape):
    """A role and how many accounts hold it, suspended ones counted in `accounts` too."""

    role: str
    role_id: UUID
    is_protected: bool
    permissions: list[str]
    accounts: int
    active_accounts: int
    by_hand: int
    by_groups: int


class Named(Shape):
    account_id: UUID
    email: str | None
    display_name: str
    status: Literal["active", "suspended"]
    break_glass: bool


class Holder(Shape):
    """One reason for which an account holds a role."""

    role: Annotated[str, Field(examples=["engineer"])]
    role_id: UUID
    is_protected: bool
    account_id: UUID
    email: str | None
    display_name: str
    status: Literal["active", "suspended"]
    break_glass: bool
    source: Literal["manual", "group"]
    group_id: UUID | None
    group_name: str | None
    connection_id: UUID | None
    provider_id: str | None
    label: str | None
    granted_at: datetime


class Summary(Shape):
    """`lastAdmin`: the only active admin, whom nothing can suspend."""

    generated_at: datetime
    roles: list[RoleInUse]
    admins: list[Named]
    admins_without_group: list[Named]
    last_admin: Named | None
    break_glass_accounts: list[Named]


class AccessReport(Summary):
    holders: list[Holder]
    next_cursor: str | None


@router.get("")
async def access_report(principal: Admin, service: ServiceOf, paging: PagingOf) -> AccessReport:
    """The summary, and a page of who holds what, by role."""
    after = paging.after(_place)
    async with service.transaction() as db:
        summary = await summarize(db, principal.organization.id, datetime.now(UTC))
        found = await store.list_holders(db, principal.organization.id, after=after, limit=paging.limit + 1)
    rows, next_cursor = page(found, paging, _key)
    return AccessReport(**dict(summary), holders=[holder_of(row) for row in rows], next_cursor=next_cursor)


@router.get("/export", response_class=StreamingResponse, responses=DOWNLOADS)
async def export_access_report(
    principal: Admin, service: ServiceOf, format: Annotated[Format, Query()] = "csv"
) -> StreamingResponse:
    """Who holds what, all of it, as CSV or JSON lines."""
    return download("access-report", format, COLUMNS, _pages(service, principal.organization.id))


async def summarize(db: AsyncSession, organization_id: UUID, now: datetime) -> Summary:
    """The report without its list."""
    admins = await store.list_admins(db, organization_id, MAX_NAMED)
    active = [admin for admin in admins if admin.status == "active"]
    return Summary(
        generated_at=now,
        roles=[RoleInUse.model_validate(role) for role in await store.list_roles(db, organization_id)],
        admins=[Named.model_validate(admin) for admin in admins],
        admins_without_group=[Named.model_validate(admin) for admin in admins if not admin.by_group],
        last_admin=Named.model_validate(active[0]) if len(active) == 1 else None,
        break_glass_accounts=[
            Named.model_validate(account) for account in await store.list_break_glass(db, organization_id, MAX_NAMED)
        ],
    )


async def holders(db: AsyncSession, organization_id: UUID) -> AsyncIterator[list[Holder]]:
    """Who holds what, page by page."""
    after = None
    while rows := await store.list_holders(db, organization_id, after=after, limit=PAGE):
        yield [holder_of(row) for row in rows]
        after = _key(rows[-1])


def holder_of(row: AnyRow) -> Holder:
    return Holder.model_validate({**row._asdict(), "source": "group" if row.group_id else "manual"})


async def _pages(service: Service, organization_id: UUID) -> AsyncIterator[list[dict[str, Any]]]:
    after = None
    while True:
        async with service.transaction() as db:
            rows = await store.list_holders(db, organization_id, after=after, limit=PAGE)
        if not rows:
            return
        yield [holder_of(row).model_dump(mode="json", by_alias=True) for row in rows]
        after = _key(rows[-1])


def _key(row: AnyRow) -> tuple[str, UUID, UUID]:
    return row.role, row.account_id, row.group_id or MANUAL


def _place(role: str, account_id: str, group_id: str) -> tuple[str, UUID, UUID]:
    return role, UUID(account_id), UUID(group_id)
