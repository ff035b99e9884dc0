"""The API keys of an organization: `/api/v1/admin/api-keys`.

A key may what an admin may, except making keys: whoever gets hold of one cannot make it last longer than its maker.
"""

from datetime import UTC, datetime
from typing import Annotated, Literal
from uuid import UUID

from fastapi import Response
from pydantic import AwareDatetime, Field

from admin_api import api_keys
from admin_api.api_keys import Wanted
from admin_api.errors import Forbidden, Validation
from admin_api.paging import PagingOf, page, time_and_id
from admin_api.principals import Admin
from admin_api.roles import Name
from admin_api.service import ServiceOf
from admin_api.shapes import Body, Shape, new_router, refusals
from admin_api.store import api_keys as store
from directory.tables import ApiKey

router = new_router("/api-keys", "API keys")


class NewKey(Body):
    """Without `expiresAt` it lives until it is revoked, or its maker is no admin any more."""

    name: Annotated[Name, Field(examples=["nightly export"])]
    expires_at: AwareDatetime | None = None


class KeyShape(Shape):
    """A key without its secret, of which the last four characters are shown."""

    id: UUID
    name: str
    hint: Annotated[str, Field(examples=["4xYz"])]
    state: Literal["live", "expired", "revoked"]
    created_by: str
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None


class IssuedKey(KeyShape):
    """With its secret, this once."""

    api_key: Annotated[str, Field(examples=["apikey_ and 49 letters and digits"])]


class KeyList(Shape):
    api_keys: list[KeyShape]
    next_cursor: str | None


@router.get("")
async def list_keys(principal: Admin, service: ServiceOf, paging: PagingOf) -> KeyList:
    """The organization's keys, newest first, those that have ended too."""
    now = datetime.now(UTC)
    async with service.transaction() as db:
        found = await store.list_keys(db, principal.organization.id, paging.after(time_and_id), paging.limit + 1)
    rows, next_cursor = page(found, paging, lambda key: (key.created_at, key.id))
    return KeyList(api_keys=[_shape(key, now) for key in rows], next_cursor=next_cursor)


@router.post("", status_code=201, responses=refusals(409))
async def create_key(body: NewKey, principal: Admin, service: ServiceOf) -> IssuedKey:
    """A new key; its secret is in this answer and nowhere else. Only people make keys."""
    if principal.person is None:
        raise Forbidden("sign in to make a key: a key makes none")
    now = datetime.now(UTC)
    if body.expires_at is not None and body.expires_at <= now:
        raise Validation("body.expiresAt: must lie in the future")
    wanted = Wanted(principal.organization.id, body.name, body.expires_at)
    async with service.transaction() as db:
        secret, key = await api_keys.issue(db, wanted, principal.actor, service.pepper, now)
    return IssuedKey(**_shape(key, now).model_dump(), api_key=secret)


@router.delete("/{id}", status_code=204, responses=refusals(404))
async def revoke_key(id: UUID, principal: Admin, service: ServiceOf) -> Response:
    """End the key."""
    async with service.transaction() as db:
        await api_keys.revoke(db, principal.organization.id, id, principal.actor, datetime.now(UTC))
    return Response(status_code=204)


def _shape(key: ApiKey, now: datetime) -> KeyShape:
    state = "revoked" if key.revoked_at else "live" if api_keys.is_open(key, now) else "expired"
    return KeyShape(
        id=key.id,
        name=key.name,
        hint=key.hint,
        state=state,
        created_by=key.created_by,
        created_at=key.created_at,
        expires_at=key.expires_at,
        revoked_at=key.revoked_at,
        last_used_at=key.last_used_at,
    )
