"""The tokens of a connection: `/admin/scim/connections/:id/tokens` (threat T44: a secret is in one answer only)."""

from datetime import UTC, datetime
from uuid import UUID

from fastapi import APIRouter, Request, Response

from admin_api import connection_tokens, sync_status
from admin_api.connection_tokens import IssuedToken, NewToken, Rotation, TokenPatch, TokenShape
from admin_api.console import connections, frame, presets
from admin_api.console.forms import Problems, day, parse, problems_of
from admin_api.console.session import Form, PageAdmin, Posted
from admin_api.errors import ApiError, NotFound
from admin_api.paging import MAX_LIMIT, Paging
from admin_api.principals import Principal
from admin_api.service import Service, ServiceOf
from admin_api.sync_status import ConnectionView

router = APIRouter(prefix="/admin/scim/connections/{id}/tokens", include_in_schema=False)

_SCOPES = (
    ("read write", "Read and write: for an identity provider"),
    ("read", "Read only"),
    ("preview", "Preview only: answers as if, and changes nothing"),
)
_OVERLAPS = (
    ("0", "End it at once"),
    ("3600", "Keep it for an hour"),
    ("86400", "Keep it for a day"),
    ("604800", "Keep it for a week"),
)


@router.get("/new")
async def ask_new(request: Request, id: UUID, principal: PageAdmin, service: ServiceOf) -> Response:
    """What the token is to be."""
    view = await sync_status.get_connection(id, principal, service)
    return _new(request, view, {"label": "", "scopes": "", "expiresAt": ""}, {})


@router.post("/new")
async def make(request: Request, id: UUID, principal: PageAdmin, form: Posted, service: ServiceOf) -> Response:
    """One more token."""
    view = await sync_status.get_connection(id, principal, service)
    typed = _typed(form, "label", "scopes", "expiresAt")
    try:
        body, problems = parse(
            NewToken,
            {"label": typed["label"], "scopes": typed["scopes"].split(), "expiresAt": day(typed["expiresAt"])},
        )
        if body is None:
            return _new(request, view, typed, problems, 400)
        issued = await connection_tokens.create_token(id, body, principal, service)
    except ApiError as error:
        return _new(request, view, typed, problems_of(error), error.status)
    return _shown(request, view, issued, f"A new token for {view.provider_id}", service)


@router.get("/{token_id}")
async def ask_change(request: Request, id: UUID, token_id: UUID, principal: PageAdmin, service: ServiceOf) -> Response:
    """Its label and its end."""
    view, token = await _find(principal, service, id, token_id)
    expires_at = token.expires_at.date().isoformat() if token.expires_at else ""
    return _edit(request, view, token, {"label": token.label, "expiresAt": expires_at}, {})


@router.post("/{token_id}")
async def change(
    request: Request, id: UUID, token_id: UUID, principal: PageAdmin, form: Posted, service: ServiceOf
) -> Response:
    """Change the label or the end; a day that was left as it was keeps its hour."""
    view, token = await _find(principal, service, id, token_id)
    typed = _typed(form, "label", "expiresAt")
    was = token.expires_at.date().isoformat() if token.expires_at else ""
    values = {"label": typed["label"]}
    try:
        if typed["expiresAt"] != was:
            values |= {"expiresAt": day(typed["expiresAt"])}
        body, problems = parse(TokenPatch, values)
        if body is None:
            return _edit(request, view, token, typed, problems, 400)
        await connection_tokens.change_token(id, token_id, body, principal, service)
    except ApiError as error:
        return _edit(request, view, token, typed, problems_of(error), error.status)
    return frame.see_other(f"{connections.HERE}/{id}", f"The token ending in {token.hint} is changed.")


@router.get("/{token_id}/rotate")
async def ask_rotate(request: Request, id: UUID, token_id: UUID, principal: PageAdmin, service: ServiceOf) -> Response:
    """How long the old one stays."""
    view, token = await _find(principal, service, id, token_id)
    return _rotation(request, view, token, {"overlapSeconds": "86400", "expiresAt": ""}, {})


@router.post("/{token_id}/rotate")
async def rotate(
    request: Request, id: UUID, token_id: UUID, principal: PageAdmin, form: Posted, service: ServiceOf
) -> Response:
    """A new token in the place of the old one."""
    view, token = await _find(principal, service, id, token_id)
    typed = _typed(form, "overlapSeconds", "expiresAt")
    try:
        values = {"overlapSeconds": typed["overlapSeconds"], "expiresAt": day(typed["expiresAt"])}
        body, problems = parse(Rotation, values)
        if body is None:
            return _rotation(request, view, token, typed, problems, 400)
        issued = await connection_tokens.rotate_token(id, token_id, body, principal, service)
    except ApiError as error:
        return _rotation(request, view, token, typed, problems_of(error), error.status)
    return _shown(request, view, issued, f"The token that follows …{token.hint}", service)


@router.get("/{token_id}/revoke")
async def ask_revoke(request: Request, id: UUID, token_id: UUID, principal: PageAdmin, service: ServiceOf) -> Response:
    """What ends with it."""
    view, token = await _find(principal, service, id, token_id)
    others = [each for each in view.tokens if each.id != token_id and "write" in each.scopes]
    last = "The connection has no other token that can write: the identity provider is locked out until it has one."
    used = frame.ago(token.last_used_at, datetime.now(UTC)) if token.last_used_at else "never"
    return frame.page(
        request,
        "confirm.html",
        title=f"Revoke the token ending in {token.hint}?",
        text=[
            f"It belongs to {view.provider_id}{f' and is called {token.label}' if token.label else ''}; "
            f"last used: {used}. It writes nothing from now on, and reads nothing two seconds later.",
            *([] if others else [last]),
            "This cannot be undone.",
        ],
        action=f"{connections.HERE}/{id}/tokens/{token_id}/revoke",
        label=f"Revoke …{token.hint}",
        back=f"{connections.HERE}/{id}",
    )


@router.post("/{token_id}/revoke")
async def revoke(id: UUID, token_id: UUID, principal: PageAdmin, form: Posted, service: ServiceOf) -> Response:
    """End the token."""
    _, token = await _find(principal, service, id, token_id)
    await connection_tokens.revoke_token(id, token_id, principal, service)
    return frame.see_other(f"{connections.HERE}/{id}", f"The token ending in {token.hint} is revoked.")


async def _find(principal: Principal, service: Service, id: UUID, token_id: UUID) -> tuple[ConnectionView, TokenShape]:
    """The connection and its token that has not been revoked; raises NotFound."""
    view = await sync_status.get_connection(id, principal, service)
    tokens = (await connection_tokens.list_tokens(id, principal, service, Paging(MAX_LIMIT, None))).tokens
    token = next((each for each in tokens if each.id == token_id and each.state != "revoked"), None)
    if token is None:
        raise NotFound("There is no such token, or it was revoked.")
    return view, token


def _typed(form: Form, *names: str) -> dict[str, str]:
    return {name: form.get(name) for name in names}


def _new(
    request: Request, view: ConnectionView, values: dict[str, str], problems: Problems, code: int = 200
) -> Response:
    return frame.page(
        request, "token_new.html", code=code, connection=view, values=values, problems=problems, scopes=_SCOPES
    )


def _edit(
    request: Request,
    view: ConnectionView,
    token: TokenShape,
    values: dict[str, str],
    problems: Problems,
    code: int = 200,
) -> Response:
    return frame.page(
        request, "token_edit.html", code=code, connection=view, token=token, values=values, problems=problems
    )


def _rotation(
    request: Request,
    view: ConnectionView,
    token: TokenShape,
    values: dict[str, str],
    problems: Problems,
    code: int = 200,
) -> Response:
    return frame.page(
        request,
        "token_rotate.html",
        code=code,
        connection=view,
        token=token,
        values=values,
        problems=problems,
        overlaps=_OVERLAPS,
    )


def _shown(request: Request, view: ConnectionView, issued: IssuedToken, title: str, service: Service) -> Response:
    return frame.page(
        request,
        "token_shown.html",
        code=201,
        title=title,
        secret=issued.scim_token,
        connection_id=view.id,
        preset=presets.guess(view.provider_id),
        base_url=presets.base_url(request, service),
    )
