"""The tokens of a connection: `/api/v1/admin/scim/connections/:id/tokens` (threats T44, T45, T48).

A secret is in the one answer that issues it. A connection has at most two live tokens of a kind, so that one can be
replaced while the other still works.
"""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import Response
from pydantic import AfterValidator, AwareDatetime, Field, StringConstraints
from pydantic_core import PydanticCustomError
from sqlalchemy.ext.asyncio import AsyncSession

from admin_api import audit
from admin_api.audit import Act, Subject
from admin_api.errors import Conflict, NotFound, Validation
from admin_api.notices import Notice, of_token
from admin_api.paging import PagingOf, page, time_and_id
from admin_api.principals import Admin
from admin_api.service import CoreOf
from admin_api.shapes import Body, Shape, new_router, refusals
from admin_api.store import connections
from admin_api.tokens import Issued, Terms, issue_token
from directory.tables import Connection, Token

router = new_router("/scim/connections/{id}/tokens", "tokens")

MAX_OVERLAP = timedelta(days=30)
DEFAULT_OVERLAP = timedelta(days=1)

Scope = Literal["read", "write", "preview"]


def _printable(text: str) -> str:
    if not text.isprintable():
        raise PydanticCustomError("printable", "must be printable characters")
    return text


def _scopes(scopes: list[Scope]) -> list[Scope]:
    if "preview" in scopes and len(set(scopes)) > 1:
        raise PydanticCustomError("scopes", "a token that previews does nothing else: preview stands alone")
    return sorted(set(scopes))


Label = Annotated[str, StringConstraints(max_length=100), AfterValidator(_printable), Field(examples=["Okta 2026"])]
Scopes = Annotated[list[Scope], Field(min_length=1, max_length=3), AfterValidator(_scopes)]


class NewToken(Body):
    """`scopes`: `read` and `write` are what identity providers need; `preview` alone makes a token whose requests are
    answered as they would be, and change nothing. Without `expiresAt` it lives until it is revoked."""

    label: Label = ""
    scopes: Scopes = Field(default_factory=lambda: ["read", "write"])
    expires_at: AwareDatetime | None = None


class Rotation(Body):
    """The old token lives for `overlapSeconds` more, at most; the new one for as long as the old one was to, unless
    `expiresAt` says otherwise."""

    overlap_seconds: Annotated[int, Field(ge=0, le=int(MAX_OVERLAP.total_seconds()))] = int(
        DEFAULT_OVERLAP.total_seconds()
    )
    expires_at: AwareDatetime | None = None
    label: Label | None = None


class TokenPatch(Body):
    """What is missing stays; `expiresAt: null` takes the expiry away."""

    label: Label = ""
    expires_at: AwareDatetime | None = None


class TokenShape(Shape):
    """A token without its secret, of which the last four characters are shown."""

    id: UUID
    hint: Annotated[str, Field(examples=["4xYz"])]
    label: str
    scopes: list[str]
    state: Literal["live", "expired", "revoked"]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None
    warnings: list[Notice]


class IssuedToken(TokenShape):
    """With its secret, this once."""

    scim_token: Annotated[str, Field(examples=["scim_ and 49 letters and digits"])]


class TokenList(Shape):
    tokens: list[TokenShape]
    next_cursor: str | None


@router.get("", responses=refusals(404))
async def list_tokens(id: UUID, principal: Admin, service: CoreOf, paging: PagingOf) -> TokenList:
    """The connection's tokens, newest first, those that have ended too."""
    now = datetime.now(UTC)
    async with service.transaction() as db:
        if await connections.find_open(db, principal.organization.id, id) is None:
            raise NotFound
        found = await connections.list_tokens(db, id, paging.after(time_and_id), paging.limit + 1)
    rows, next_cursor = page(found, paging, lambda token: (token.created_at, token.id))
    return TokenList(tokens=[token_shape(token, now) for token in rows], next_cursor=next_cursor)


@router.post("", status_code=201, responses=refusals(404, 409))
async def create_token(id: UUID, body: NewToken, principal: Admin, service: CoreOf) -> IssuedToken:
    """One more token; the secret is in this answer and nowhere else. 409 when two are live."""
    now = datetime.now(UTC)
    check_expiry(body.expires_at, now)
    terms = Terms(body.label, list(body.scopes), body.expires_at)
    async with service.transaction() as db:
        connection = await _locked(db, principal, id)
        issued = await issue_token(db, connection, service.pepper, now, terms)
        await record_issued(db, principal, issued)
    return _issued(issued, now)


@router.post("/{token_id}/rotate", status_code=201, responses=refusals(404, 409))
async def rotate_token(id: UUID, token_id: UUID, body: Rotation, principal: Admin, service: CoreOf) -> IssuedToken:
    """A new token in the place of this one, which ends after the overlap; 409 when two are live already."""
    now = datetime.now(UTC)
    check_expiry(body.expires_at, now)
    async with service.transaction() as db:
        connection = await _locked(db, principal, id)
        old = await _live(db, connection, token_id, now)
        lifetime = old.expires_at - old.created_at if old.expires_at else None
        terms = Terms(
            old.label if body.label is None else body.label,
            list(old.scopes),
            body.expires_at or (now + lifetime if lifetime else None),
        )
        issued = await issue_token(db, connection, service.pepper, now, terms)
        ends_at = now + timedelta(seconds=body.overlap_seconds)
        if old.expires_at is None or ends_at < old.expires_at:
            await connections.set_token(db, old.id, expires_at=ends_at)
        await record_issued(db, principal, issued, instead_of=old.id)
    return _issued(issued, now)


@router.patch("/{token_id}", responses=refusals(404, 409))
async def change_token(id: UUID, token_id: UUID, body: TokenPatch, principal: Admin, service: CoreOf) -> TokenShape:
    """Change the label, or when the token expires; one that has ended stays so."""
    now = datetime.now(UTC)
    check_expiry(body.expires_at, now)
    async with service.transaction() as db:
        connection = await _locked(db, principal, id)
        token = await _live(db, connection, token_id, now)
        before = _facts(token)
        given = {name: getattr(body, name) for name in body.model_fields_set}
        if given:
            await connections.set_token(db, token.id, **given)
            token = await _live(db, connection, token_id, now)
        if _facts(token) != before:
            data = {"before": before, "after": _facts(token)}
            await _record(db, principal, Act.TOKEN_CHANGED, token, data)
    return token_shape(token, now)


@router.delete("/{token_id}", status_code=204, responses=refusals(404))
async def revoke_token(id: UUID, token_id: UUID, principal: Admin, service: CoreOf) -> Response:
    """End the token: it writes nothing from now on, and reads nothing two seconds later."""
    now = datetime.now(UTC)
    async with service.transaction() as db:
        connection = await _locked(db, principal, id)
        token = await connections.find_token(db, connection.id, token_id)
        if token is None or token.revoked_at is not None:
            raise NotFound
        await connections.set_token(db, token.id, revoked_at=now)
        await _record(db, principal, Act.TOKEN_REVOKED, token, {"before": _facts(token)})
    return Response(status_code=204)


def token_shape(token: Token, now: datetime) -> TokenShape:
    """The token as it is at `now`."""
    state = "revoked" if token.revoked_at else "expired" if token.expires_at and token.expires_at <= now else "live"
    return TokenShape(
        id=token.id,
        hint=token.hint,
        label=token.label,
        scopes=token.scopes,
        state=state,
        created_at=token.created_at,
        expires_at=token.expires_at,
        revoked_at=token.revoked_at,
        last_used_at=token.last_used_at,
        warnings=of_token(token, now) if state == "live" else [],
    )


async def record_issued(db: AsyncSession, principal: Admin, issued: Issued, instead_of: UUID | None = None) -> None:
    """The audit's row of a new token."""
    data: dict[str, Any] = {"after": _facts(issued.token)}
    if instead_of:
        data["insteadOf"] = str(instead_of)
    await _record(db, principal, Act.TOKEN_ISSUED, issued.token, data)


async def _record(db: AsyncSession, principal: Admin, act: Act, token: Token, data: dict[str, Any]) -> None:
    await audit.record(
        db,
        principal.organization.id,
        principal.actor,
        act,
        (Subject.TOKEN, token.id),
        data,
        connection_id=token.connection_id,
        token_id=token.id,
    )


async def _locked(db: AsyncSession, principal: Admin, id: UUID) -> Connection:
    connection = await connections.lock_open(db, principal.organization.id, id)
    if connection is None:
        raise NotFound
    return connection


async def _live(db: AsyncSession, connection: Connection, token_id: UUID, now: datetime) -> Token:
    token = await connections.find_token(db, connection.id, token_id)
    if token is None or token.revoked_at is not None:
        raise NotFound
    if token.expires_at and token.expires_at <= now:
        raise Conflict("the token has expired; issue another one")
    return token


def check_expiry(expires_at: datetime | None, now: datetime) -> None:
    """Raise Validation for a time that has passed."""
    if expires_at is not None and expires_at <= now:
        raise Validation("body.expiresAt: must lie in the future")


def _issued(issued: Issued, now: datetime) -> IssuedToken:
    return IssuedToken(**token_shape(issued.token, now).model_dump(), scim_token=issued.secret)


def _facts(token: Token) -> dict[str, Any]:
    return {
        "label": token.label,
        "hint": token.hint,
        "scopes": token.scopes,
        "expiresAt": token.expires_at.isoformat() if token.expires_at else None,
    }
