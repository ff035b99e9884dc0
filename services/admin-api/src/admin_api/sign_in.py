"""Sign-in with an OpenID provider, for the console: `/api/auth/sign-in/oidc`.

The account is the one that the person signed in to before; the first time, the organization's one with the email that
the provider has verified. What the browser must bring back is in a cookie of its own, which is Lax: it comes with a
navigation from the provider. The session's is Strict, so the answer is a page of ours that goes on by itself.
"""

import base64
import hmac
import json
import secrets
import time
from datetime import UTC, datetime
from html import escape
from typing import Annotated, Any
from uuid import UUID

import structlog
from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from sqlalchemy.ext.asyncio import AsyncSession

import scim.errors
from admin_api import audit
from admin_api.audit import Act, Subject
from admin_api.errors import Conflict, NotFound, Unauthenticated, Validation
from admin_api.openid import Claims, NotProven, Provider
from admin_api.service import Service, ServiceOf
from admin_api.sessions import COOKIE, LIFETIME, open_session
from admin_api.shapes import Shape, refusals
from admin_api.store import identities
from directory.tables import Account
from scim.keys import email_key
from servicekit import bearer

log = structlog.get_logger()

router = APIRouter(prefix="/api/auth", tags=["sign-in"])

STATE_COOKIE = "__Host-oidc"
STATE_SECONDS = 600  # that signing in may take
HOME = "/admin/scim"

_STATE = "oidc-state"  # kind of the digest that seals the cookie
_REFUSED = "the sign-in did not succeed; start again"
_NOBODY = "no account of this installation is yours"
_CSP = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'"


class Ways(Shape):
    """How people can sign in."""

    password: bool
    oidc: bool


@router.get("/sign-in/ways")
async def ways(service: ServiceOf) -> Ways:
    """How people can sign in here."""
    return Ways(password=True, oidc=service.provider is not None)


@router.get("/sign-in/oidc", status_code=302, response_class=Response, responses=refusals(400, 404, 503))
async def start(
    service: ServiceOf,
    organization_id: Annotated[UUID | None, Query(alias="organizationId")] = None,
    return_to: Annotated[str, Query(alias="returnTo", max_length=500)] = HOME,
) -> Response:
    """Go to the provider; `organizationId` is needed only by who is in several, `returnTo` is a path of ours."""
    provider = _provider(service)
    if not is_own_path(return_to):
        raise Validation("query.returnTo: must be a path of this site")
    state = {
        "state": secrets.token_urlsafe(24),
        "nonce": secrets.token_urlsafe(24),
        "verifier": secrets.token_urlsafe(48),
        "organization": str(organization_id) if organization_id else None,
        "returnTo": return_to,
        "until": int(time.time()) + STATE_SECONDS,
    }
    url = await provider.authorization_url(state["state"], state["nonce"], state["verifier"])
    response = RedirectResponse(url, 302)
    response.set_cookie(
        STATE_COOKIE, seal(service.pepper, state), max_age=STATE_SECONDS, secure=True, httponly=True, samesite="lax"
    )
    return response


@router.get(
    "/callback/oidc",
    response_class=Response,
    responses={200: {"content": {"text/html": {}}}, **refusals(400, 401, 404, 409, 503)},
)
async def finish(
    request: Request,
    service: ServiceOf,
    code: Annotated[str, Query(max_length=4096)] = "",
    state: Annotated[str, Query(max_length=256)] = "",
) -> Response:
    """Where the provider sends the browser back to: a session, and on to the page that was wanted."""
    provider = _provider(service)
    begun = unseal(service.pepper, request.cookies.get(STATE_COOKIE, ""))
    if begun is None or not code or not hmac.compare_digest(state.encode(), begun["state"].encode()):
        raise Unauthenticated(_REFUSED)
    try:
        claims = await provider.claims(code, begun["nonce"], begun["verifier"])
    except NotProven as error:
        log.warning("oidc.refused", reason=str(error))
        raise Unauthenticated(_REFUSED) from error
    now = datetime.now(UTC)
    async with service.transaction() as db:
        account = await find_account(db, claims, UUID(begun["organization"]) if begun["organization"] else None, now)
        secret, _ = await open_session(db, account.id, account.epoch, service.pepper, now)
        subject = (Subject.ACCOUNT, account.id)
        await audit.record(db, account.organization_id, f"account:{account.id}", Act.SIGNED_IN, subject, {"by": "oidc"})
    return _go_on(begun["returnTo"], secret)


async def find_account(db: AsyncSession, claims: Claims, organization_id: UUID | None, now: datetime) -> Account:
    """The active account that the person may sign in to, linked from now on; raises Unauthenticated or Conflict."""
    linked = await identities.find_linked(db, claims.issuer, claims.subject, organization_id)
    known = {account.organization_id for account in linked}
    key = _email_key(claims.email)
    # An account that another subject of the provider signed in to is not this person's: addresses are given anew.
    by_email = await identities.find_unlinked(db, claims.issuer, key, organization_id) if key else []
    found = [*linked, *(account for account in by_email if account.organization_id not in known)]
    match [account for account in found if account.status == "active"]:
        case []:
            raise Unauthenticated(_NOBODY)
        case [account]:
            if account not in linked:
                await _link(db, account, claims, now)
            return account
        case _:
            raise Conflict("you are in several organizations; name one in organizationId")


async def _link(db: AsyncSession, account: Account, claims: Claims, now: datetime) -> None:
    await identities.insert_identity(db, claims.issuer, claims.subject, account.id, now)
    actor = f"account:{account.id}"
    subject = (Subject.ACCOUNT, account.id)
    data = {"issuer": claims.issuer}
    await audit.record(db, account.organization_id, actor, Act.IDENTITY_LINKED, subject, data)


def seal(pepper: bytes, state: dict[str, Any]) -> str:
    """The state as a cookie that nobody else can make."""
    text = base64.urlsafe_b64encode(json.dumps(state).encode()).decode()
    return f"{text}.{bearer.digest(pepper, _STATE, text).hex()}"


def unseal(pepper: bytes, cookie: str) -> dict[str, Any] | None:
    """The state, unless it is not ours or too old."""
    text, _, digest = cookie.partition(".")
    if not hmac.compare_digest(digest.encode(), bearer.digest(pepper, _STATE, text).hex().encode()):
        return None
    state = json.loads(base64.urlsafe_b64decode(text))
    return state if time.time() < state["until"] else None


def is_own_path(path: str) -> bool:
    """Whether a browser stays on our site when it follows the path."""
    return path.startswith("/") and not path.startswith(("//", "/\\")) and path.isascii() and path.isprintable()


def _go_on(path: str, secret: str) -> Response:
    target = escape(path, quote=True)
    page = f'<!doctype html><meta http-equiv="refresh" content="0;url={target}"><a href="{target}">Go on</a>'
    response = HTMLResponse(page, headers={"Content-Security-Policy": _CSP, "Referrer-Policy": "no-referrer"})
    response.set_cookie(
        COOKIE, secret, max_age=int(LIFETIME.total_seconds()), secure=True, httponly=True, samesite="strict"
    )
    response.delete_cookie(STATE_COOKIE, secure=True, httponly=True, samesite="lax")
    return response


def _provider(service: Service) -> Provider:
    if service.provider is None:
        raise NotFound("signing in with an OpenID provider is not set up here")
    return service.provider


def _email_key(email: str | None) -> str | None:
    try:
        return email_key(email) if email else None
    except scim.errors.InvalidValue:
        return None
