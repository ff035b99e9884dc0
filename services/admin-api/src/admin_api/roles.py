"""Roles of an organization: `/api/v1/admin/roles`. Permissions are opaque to us; `member` and `admin` are built in."""

from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID, uuid4

from fastapi import Response
from pydantic import AfterValidator, Field, StringConstraints
from pydantic_core import PydanticCustomError
from sqlalchemy.ext.asyncio import AsyncSession

from admin_api import audit
from admin_api.audit import Act, Subject
from admin_api.errors import Conflict, NotFound
from admin_api.paging import PagingOf, page
from admin_api.principals import Admin, Principal
from admin_api.service import Core, CoreOf
from admin_api.shapes import Body, Shape, new_router, refusals
from admin_api.store import roles as store
from admin_api.store.organizations import BUILT_IN_ROLES
from directory.tables import Role

router = new_router("/roles", "roles")

MAX_PERMISSIONS = 200
_SHOWN = 5  # of what holds a role that cannot go


def _printable(text: str) -> str:
    if not text.isprintable() or text != text.strip():
        raise PydanticCustomError("printable", "must be printable characters, without blanks around them")
    return text


Name = Annotated[str, StringConstraints(min_length=1, max_length=100), AfterValidator(_printable)]
Permission = Annotated[str, StringConstraints(min_length=1, max_length=200), AfterValidator(_printable)]
Permissions = Annotated[
    list[Permission],
    Field(max_length=MAX_PERMISSIONS, examples=[["reports:read"]]),
    AfterValidator(lambda permissions: list(dict.fromkeys(permissions))),
]


class NewRole(Body):
    name: Annotated[Name, Field(examples=["Auditor"])]
    permissions: Annotated[Permissions, Field(default_factory=list)]


class RolePatch(Body):
    """What is missing stays as it is."""

    name: Name | None = None
    permissions: Permissions | None = None


class RoleShape(Shape):
    """`isProtected`: given by groups only after an admin's explicit confirmation."""

    id: UUID
    name: Annotated[str, Field(examples=["Auditor"])]
    permissions: Annotated[list[str], Field(examples=[["reports:read"]])]
    built_in: bool
    is_protected: bool
    created_at: datetime


class ListedRole(RoleShape):
    """With how many accounts hold it, by whatever grant, and how many group mappings name it."""

    accounts: int
    group_mappings: int


class RoleList(Shape):
    roles: list[ListedRole]
    next_cursor: str | None


@router.get("")
async def list_roles(principal: Admin, service: CoreOf, paging: PagingOf) -> RoleList:
    """The roles of the organization, by name."""
    async with service.transaction() as db:
        after = paging.after(lambda name, id: (name, UUID(id)))
        found = await store.list_roles(db, principal.organization.id, after, paging.limit + 1)
    rows, next_cursor = page(found, paging, lambda row: (row.role.name, row.role.id))
    return RoleList(roles=[_listed(row) for row in rows], next_cursor=next_cursor)


@router.post("", status_code=201, responses=refusals(409))
async def create_role(body: NewRole, principal: Admin, service: CoreOf) -> RoleShape:
    """A new role; nobody holds it yet."""
    _check_name(body.name)
    role = Role(
        id=uuid4(),
        organization_id=principal.organization.id,
        name=body.name,
        permissions=body.permissions,
        built_in=False,
        created_at=datetime.now(UTC),
    )
    async with service.transaction() as db:
        await store.insert_role(db, role)
        await _record(db, principal, Act.ROLE_CREATED, role, {"after": _facts(role)})
    return RoleShape.model_validate(role)


@router.get("/{id}", responses=refusals(404))
async def get_role(id: UUID, principal: Admin, service: CoreOf) -> ListedRole:
    """One role."""
    async with service.transaction() as db:
        found = await store.find_role(db, principal.organization.id, id)
    if found is None:
        raise NotFound
    return _listed(found)


@router.patch("/{id}", responses=refusals(404, 409))
async def change_role(id: UUID, body: RolePatch, principal: Admin, service: CoreOf) -> RoleShape:
    """Rename a role or change its permissions; who holds it keeps it. Built-in roles stay as they are."""
    async with service.transaction() as db:
        role = await _locked_custom(db, principal, id, "changed")
        before = _facts(role)
        if body.name is not None and body.name != role.name:
            _check_name(body.name)
            role.name = body.name
        if body.permissions is not None:
            role.permissions = body.permissions
        if _facts(role) != before:
            await store.save_role(db, role)
            await _record(db, principal, Act.ROLE_CHANGED, role, {"before": before, "after": _facts(role)})
    return RoleShape.model_validate(role)


@router.delete("/{id}", status_code=204, responses=refusals(404, 409))
async def delete_role(id: UUID, principal: Admin, service: CoreOf) -> Response:
    """Remove a role that no group mapping names and no account holds; 409 says which do."""
    async with service.transaction() as db:
        role = await _locked_custom(db, principal, id, "deleted")
        holders = await store.find_holders(db, role.id, _SHOWN)
        if holders.mappings or holders.accounts:
            raise Conflict(f"role {role.name!r} is {describe(holders)}; take these away first")
        await store.delete_role(db, role)
        await _record(db, principal, Act.ROLE_DELETED, role, {"before": _facts(role)})
    return Response(status_code=204)


async def holders_of(id: UUID, principal: Principal, service: Core, names: int) -> store.Holders:
    """What holds the role, with at most so many names of each kind; raises NotFound."""
    async with service.transaction() as db:
        if await store.find_role(db, principal.organization.id, id) is None:
            raise NotFound
        return await store.find_holders(db, id, names)


def describe(holders: store.Holders) -> str:
    """What holds a role, in words."""
    parts = []
    if holders.mappings:
        parts.append("mapped from " + _some("group", holders.mappings, [repr(name) for name in holders.group_names]))
    if holders.accounts:
        parts.append("held by " + _some("account", holders.accounts, holders.account_names))
    return " and ".join(parts)


def _some(noun: str, count: int, names: list[str]) -> str:
    shown = ", ".join(names) + (", …" if count > len(names) else "")
    return f"{count} {noun}{'' if count == 1 else 's'} ({shown})"


def _check_name(name: str) -> None:
    if name.casefold() in BUILT_IN_ROLES:
        raise Conflict(f"{name!r} is the name of a built-in role")


async def _locked_custom(db: AsyncSession, principal: Admin, id: UUID, done: str) -> Role:
    role = await store.lock_role(db, principal.organization.id, id)
    if role is None:
        raise NotFound
    if role.built_in:
        raise Conflict(f"the role {role.name!r} is built in and cannot be {done}")
    return role


def _listed(row: store.ListedRow) -> ListedRole:
    shape = RoleShape.model_validate(row.role)
    return ListedRole(**shape.model_dump(), accounts=row.accounts, group_mappings=row.mappings)


def _facts(role: Role) -> dict[str, Any]:
    return {"name": role.name, "permissions": role.permissions}


async def _record(db: AsyncSession, principal: Admin, act: Act, role: Role, data: dict[str, Any]) -> None:
    await audit.record(db, principal.organization.id, principal.actor, act, (Subject.ROLE, role.id), data)
