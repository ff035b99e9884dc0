"""Roles: `/admin/roles`."""

from uuid import UUID

from fastapi import APIRouter, Request, Response

from admin_api import roles
from admin_api.console import frame
from admin_api.console.forms import Problems, lines, parse, problems_of
from admin_api.console.session import Form, PageAdmin, Posted
from admin_api.errors import ApiError
from admin_api.paging import PagingOf
from admin_api.principals import Principal
from admin_api.service import Service, ServiceOf

router = APIRouter(prefix="/admin/roles", include_in_schema=False)

HERE = router.prefix
_NAMED = 20  # of what holds a role


@router.get("")
async def show_all(request: Request, principal: PageAdmin, service: ServiceOf, paging: PagingOf) -> Response:
    """The roles, and how many hold each."""
    found = await roles.list_roles(principal, service, paging)
    return frame.page(request, "roles.html", found=found, is_first=paging.cursor is None)


@router.get("/new")
async def ask_new(request: Request, principal: PageAdmin) -> Response:
    """Its name and what it permits."""
    return _new(request, {"name": "", "permissions": ""}, {})


@router.post("/new")
async def make(request: Request, principal: PageAdmin, form: Posted, service: ServiceOf) -> Response:
    """A role that nobody holds yet."""
    typed = _typed(form)
    body, problems = parse(roles.NewRole, {"name": typed["name"], "permissions": lines(typed["permissions"])})
    try:
        if body is None:
            return _new(request, typed, problems)
        made = await roles.create_role(body, principal, service)
    except ApiError as error:
        return _new(request, typed, problems_of(error, "name"), error.status)
    return frame.see_other(HERE, f"The role {made.name} is made. Map a group to it, or give it by hand.")


@router.get("/{id}")
async def show(request: Request, id: UUID, principal: PageAdmin, service: ServiceOf) -> Response:
    """One role: what it permits, what holds it."""
    role = await roles.get_role(id, principal, service)
    return await _one(
        request, principal, service, role, {"name": role.name, "permissions": "\n".join(role.permissions)}, {}
    )


@router.post("/{id}")
async def change(request: Request, id: UUID, principal: PageAdmin, form: Posted, service: ServiceOf) -> Response:
    """Rename it, or give it other permissions."""
    role = await roles.get_role(id, principal, service)
    typed = _typed(form)
    body, problems = parse(roles.RolePatch, {"name": typed["name"], "permissions": lines(typed["permissions"])})
    try:
        if body is None:
            return await _one(request, principal, service, role, typed, problems)
        changed = await roles.change_role(id, body, principal, service)
    except ApiError as error:
        return await _one(request, principal, service, role, typed, problems_of(error, "name"), error.status)
    return frame.see_other(HERE, f"The role {changed.name} is changed.")


@router.get("/{id}/delete")
async def ask_delete(request: Request, id: UUID, principal: PageAdmin, service: ServiceOf) -> Response:
    """What goes, or what keeps the role from going."""
    role = await roles.get_role(id, principal, service)
    if role.accounts or role.group_mappings:
        held = roles.describe(await roles.holders_of(id, principal, service, _NAMED))
        return frame.see_other(f"{HERE}/{id}", f"This role is {held}. Take these away first.", is_problem=True)
    return frame.page(
        request,
        "confirm.html",
        title=f"Delete the role {role.name}?",
        text=[
            f"It permits: {', '.join(role.permissions) or 'nothing'}. Nobody holds it, and no group is mapped to it.",
            "This cannot be undone.",
        ],
        action=f"{HERE}/{id}/delete",
        label=f"Delete {role.name}",
        back=f"{HERE}/{id}",
    )


@router.post("/{id}/delete")
async def delete(id: UUID, principal: PageAdmin, form: Posted, service: ServiceOf) -> Response:
    """Remove the role."""
    role = await roles.get_role(id, principal, service)
    try:
        await roles.delete_role(id, principal, service)
    except ApiError as error:
        return frame.see_other(f"{HERE}/{id}", frame.sentence(error.message), is_problem=True)
    return frame.see_other(HERE, f"The role {role.name} is deleted.")


def _typed(form: Form) -> dict[str, str]:
    return {name: form.get(name) for name in ("name", "permissions")}


def _new(request: Request, values: dict[str, str], problems: Problems, code: int | None = None) -> Response:
    code = code or (400 if problems else 200)
    return frame.page(request, "role_new.html", code=code, values=values, problems=problems)


async def _one(
    request: Request,
    principal: Principal,
    service: Service,
    role: roles.ListedRole,
    values: dict[str, str],
    problems: Problems,
    code: int | None = None,
) -> Response:
    return frame.page(
        request,
        "role.html",
        code=code or (400 if problems else 200),
        role=role,
        holders=await roles.holders_of(role.id, principal, service, _NAMED),
        values=values,
        problems=problems,
    )
