"""Settings of the organization: `/admin/settings`. Its plan, how people sign in, what is kept, and its API keys."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from fastapi import APIRouter, Request, Response

from admin_api import automation
from admin_api.automation import NewKey
from admin_api.console import frame
from admin_api.console.session import Form, PageAdmin, Posted, parse
from admin_api.errors import NotFound, Validation
from admin_api.paging import MAX_LIMIT, Paging
from admin_api.principals import Principal
from admin_api.service import Service, ServiceOf
from admin_api.sessions import IDLE_LIFETIME, LIFETIME
from admin_api.tokens import MAX_LIVE_TOKENS

router = APIRouter(include_in_schema=False)

PATH = "/admin/settings"
KEYS = PATH + "/api-keys"


@router.get(PATH)
async def show(request: Request, principal: PageAdmin, service: ServiceOf) -> Response:
    return await _page(request, principal, service)


@router.post(KEYS)
async def create_key(request: Request, principal: PageAdmin, service: ServiceOf, form: Posted) -> Response:
    """The new key, shown in this answer and nowhere else; or the form again."""
    values = {
        "name": form.get("name"),
        "expiresAt": f"{form.get('expires')}T23:59:59Z" if form.get("expires") else None,
    }
    body, errors = parse(NewKey, values)
    if body is None:
        return await _page(request, principal, service, form=form, errors=errors)
    try:
        issued = await automation.create_key(body, principal, service)
    except Validation:
        return await _page(request, principal, service, form=form, errors={"expiresAt": "Choose a day to come."})
    return frame.page(request, "settings_key.html", key=issued)


@router.get(KEYS + "/{id}/revoke")
async def ask_to_revoke(id: UUID, request: Request, principal: PageAdmin, service: ServiceOf) -> Response:
    """What will happen, before it does."""
    keys = await _keys(principal, service)
    key = next((key for key in keys if key.id == id and key.state == "live"), None)
    if key is None:
        raise NotFound("There is no live key of this id.")
    return frame.page(
        request,
        "confirm.html",
        title=f"Revoke the key {key.name}?",
        text=[
            f"Whatever uses the key ending in {key.hint} is refused from now on. This cannot be undone; "
            "a new key can be made at any time."
        ],
        action=f"{KEYS}/{id}/revoke",
        label="Revoke the key",
        back=PATH,
    )


@router.post(KEYS + "/{id}/revoke")
async def revoke_key(id: UUID, principal: PageAdmin, service: ServiceOf, form: Posted) -> Response:
    await automation.revoke_key(id, principal, service)
    return frame.see_other(PATH, "The key is revoked.")


async def _page(
    request: Request,
    principal: Principal,
    service: Service,
    *,
    form: Form | None = None,
    errors: dict[str, str] | None = None,
) -> Response:
    facts: dict[str, Any] = {
        "keys": await _keys(principal, service),
        "has_oidc": service.provider is not None,
        "idle_lifetime": IDLE_LIFETIME,
        "lifetime": LIFETIME,
        "max_tokens": MAX_LIVE_TOKENS,
        "today": datetime.now(UTC).date(),
        "form": form or Form([]),
        "errors": errors or {},
    }
    return frame.page(request, "settings.html", code=422 if errors else 200, **facts)


async def _keys(principal: Principal, service: Service) -> list[automation.KeyShape]:
    return (await automation.list_keys(principal, service, Paging(MAX_LIMIT, None))).api_keys
