"""Connections: `/admin/scim/connections`, from the list to the last settings of one."""

from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response

from admin_api import connection_tokens, connections, sync_status
from admin_api.console import frame, presets
from admin_api.console.forms import Problems, day, lines, parse, problems_of
from admin_api.console.session import Form, PageAdmin, Posted
from admin_api.errors import ApiError, Conflict, NotFound
from admin_api.paging import PagingOf
from admin_api.principals import Principal
from admin_api.service import Service, ServiceOf
from admin_api.sync_status import ConnectionPatch, ConnectionView

router = APIRouter(prefix="/admin/scim/connections", include_in_schema=False)

HERE = router.prefix
_LINE = "allowedNetworks"
_SETTINGS = ("groupPatchAnswer", _LINE, "guard.users", "guard.percent")


@router.get("")
async def show_all(request: Request, principal: PageAdmin, service: ServiceOf) -> Response:
    """The connections, each with its state."""
    return frame.page(request, "connections.html", status=await sync_status.get_status(principal, service))


@router.get("/new")
async def ask_new(
    request: Request, principal: PageAdmin, preset: Annotated[str, Query(max_length=64)] = ""
) -> Response:
    """First which identity provider, then the form."""
    chosen = presets.preset_of(preset) if preset else None
    return _new(request, chosen, {"providerId": chosen.provider_id if chosen else ""}, {})


@router.post("/new")
async def make(request: Request, principal: PageAdmin, form: Posted, service: ServiceOf) -> Response:
    """A connection with its first token, which is in this answer and nowhere else."""
    preset = presets.preset_of(form.get("preset"))
    values = {name: form.get(name) for name in ("providerId", "label", "expiresAt")}
    try:
        terms, problems = parse(
            connection_tokens.TokenPatch, {"label": values["label"], "expiresAt": day(values["expiresAt"])}
        )
        if terms is None:
            return _new(request, preset, values, problems)
        made = await _make(principal, service, values["providerId"], terms)
    except ApiError as error:
        return _new(request, preset, values, problems_of(error, "providerId"), error.status)
    return frame.page(
        request,
        "token_shown.html",
        code=201,
        title=f"{made.provider_id} is ready to be set up",
        secret=made.scim_token,
        connection_id=made.connection_id,
        preset=preset,
        base_url=presets.base_url(request, service),
    )


@router.get("/{id}")
async def show(request: Request, id: UUID, principal: PageAdmin, service: ServiceOf, paging: PagingOf) -> Response:
    """One connection: how it does, its tokens, its settings."""
    view = await sync_status.get_connection(id, principal, service)
    return await _one(request, view, principal, service, paging, _settings_of(view), {})


@router.post("/{id}")
async def change(
    request: Request, id: UUID, principal: PageAdmin, form: Posted, service: ServiceOf, paging: PagingOf
) -> Response:
    """Change the settings."""
    view = await sync_status.get_connection(id, principal, service)
    typed = _typed(form)
    body, problems = parse(ConnectionPatch, _patch(typed), _SETTINGS)
    if body is None:
        if _LINE in problems:
            problems[_LINE] = "Give one network a line, such as 203.0.113.0/24 or 2001:db8::/32, without host bits."
        return await _one(request, view, principal, service, paging, typed, problems)
    await sync_status.change_connection(id, body, principal, service)
    return frame.see_other(f"{HERE}/{id}", "The settings are saved; clients notice within a second.")


@router.get("/{id}/setup")
async def show_setup(
    request: Request,
    id: UUID,
    principal: PageAdmin,
    service: ServiceOf,
    preset: Annotated[str, Query(max_length=64)] = "",
) -> Response:
    """What to enter at the identity provider, without the token."""
    view = await sync_status.get_connection(id, principal, service)
    chosen = presets.preset_of(preset) if preset else presets.guess(view.provider_id)
    return frame.page(
        request,
        "connection_setup.html",
        connection=view,
        preset=chosen,
        presets=presets.PRESETS,
        base_url=presets.base_url(request, service),
    )


@router.get("/{id}/delete")
async def ask_delete(request: Request, id: UUID, principal: PageAdmin, service: ServiceOf) -> Response:
    """What would go."""
    view = await sync_status.get_connection(id, principal, service)
    users, groups = frame.count(view.users, "user"), frame.count(view.groups, "group")
    return frame.page(
        request,
        "confirm.html",
        title=f"Delete connection {view.provider_id}?",
        text=[
            f"{users} and {groups} of this connection go, and its tokens end at once.",
            "Their accounts stay, with the roles that they hold now. Group mappings for this connection alone end.",
            "This cannot be undone: a new connection of the same name begins empty.",
        ],
        action=f"{HERE}/{id}/delete",
        label=f"Delete {view.provider_id}",
        back=f"{HERE}/{id}",
    )


@router.post("/{id}/delete")
async def delete(id: UUID, principal: PageAdmin, form: Posted, service: ServiceOf) -> Response:
    """End the connection."""
    view = await sync_status.get_connection(id, principal, service)
    await sync_status.delete_connection(id, principal, service)
    return frame.see_other(HERE, f"Connection {view.provider_id} is deleted. Its accounts stay.")


async def _make(
    principal: Principal, service: Service, provider_id: str, terms: connection_tokens.TokenPatch
) -> connections.GeneratedToken:
    connection_tokens.check_expiry(terms.expires_at, datetime.now(UTC))
    try:
        await connections.get_provider_connection(provider_id, principal, service)
    except NotFound:
        made = await connections.generate_token(
            connections.ConnectionName.model_validate({"providerId": provider_id}), principal, service
        )
        await connection_tokens.change_token(made.connection_id, made.token_id, terms, principal, service)
        return made
    raise Conflict(f"there is a connection {provider_id} already; open it to issue another token")


def _new(
    request: Request, preset: presets.Preset | None, values: dict[str, str], problems: Problems, code: int | None = None
) -> Response:
    code = code or (400 if problems else 200)
    return frame.page(
        request,
        "connection_new.html",
        code=code,
        preset=preset,
        presets=presets.PRESETS,
        values=values,
        problems=problems,
    )


async def _one(
    request: Request,
    view: ConnectionView,
    principal: Principal,
    service: Service,
    paging: PagingOf,
    settings: dict[str, str],
    problems: Problems,
) -> Response:
    return frame.page(
        request,
        "connection.html",
        code=400 if problems else 200,
        connection=view,
        tokens=await connection_tokens.list_tokens(view.id, principal, service, paging),
        is_first=paging.cursor is None,
        settings=settings,
        problems=problems,
    )


def _settings_of(view: ConnectionView) -> dict[str, str]:
    return {
        "groupPatchAnswer": view.group_patch_answer,
        "linkExistingAccounts": "yes" if view.link_existing_accounts else "",
        _LINE: "\n".join(view.allowed_networks),
        "appendOnly": "yes" if view.append_only else "",
        "guard.users": str(view.guard.users),
        "guard.percent": str(view.guard.percent),
        "guard.holds": "yes" if view.guard.holds else "",
    }


def _typed(form: Form) -> dict[str, str]:
    names = ("linkExistingAccounts", "appendOnly", "guard.holds", *_SETTINGS)
    return {name: form.get(name) for name in names}


def _patch(typed: dict[str, str]) -> dict[str, object]:
    """The body that the form means; a box that is not ticked is not sent."""
    return {
        "groupPatchAnswer": typed["groupPatchAnswer"],
        "linkExistingAccounts": bool(typed["linkExistingAccounts"]),
        _LINE: lines(typed[_LINE]),
        "appendOnly": bool(typed["appendOnly"]),
        "guard": {
            "users": typed["guard.users"],
            "percent": typed["guard.percent"],
            "holds": bool(typed["guard.holds"]),
        },
    }
