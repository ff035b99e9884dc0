"""Previews: `POST /api/v1/admin/scim/connections/:id/preview` (design section 5). What a SCIM request would do.

The gateway reads the request, as it reads every other, with a token that is good for rehearsals only and for less than
a minute; the provisioner decides it, writes, looks at what it did and takes all of it back. So a preview says what
would happen by the code that makes it happen.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal
from uuid import UUID, uuid4

import httpx
from pydantic import Field
from sqlalchemy.ext.asyncio import AsyncSession

from admin_api import audit
from admin_api.audit import Act, Subject
from admin_api.errors import NotFound, Unavailable
from admin_api.principals import Admin
from admin_api.service import ServiceOf
from admin_api.shapes import Body, Shape, new_router, refusals
from admin_api.store import connections, effects, outcomes, previews
from admin_api.store.database import Transaction
from contracts import PREVIEW_HEADER, SCIM_TOKEN, Effects, Outcome
from directory.tables import Token
from servicekit import bearer

router = new_router("/scim/connections/{connection_id}/preview", "preview")

BASE = "/api/auth/scim/v2"
TOKEN_LIFETIME = timedelta(seconds=30)  # below the minute up to which the gateway takes a token for ours
TIMEOUT = 15.0  # seconds; above the gateway's own deadline
_PATH = r"^/((Users|Groups)(/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12})?|Bulk)$"


class ScimRequest(Body):
    """A request as an identity provider would send it; `path` is below the SCIM base URL."""

    method: Literal["POST", "PUT", "PATCH", "DELETE"]
    path: Annotated[str, Field(pattern=_PATH, examples=["/Users"])]
    body: Annotated[dict[str, Any] | None, Field(examples=[{"userName": "ada@example.com"}])] = None
    if_match: Annotated[str | None, Field(pattern=r'^[\w/",* -]{1,200}$', examples=['W/"3"'])] = None


class AccountWouldBe(Shape):
    """An account before and after; of an account that is changed, what differs."""

    account_id: UUID
    before: dict[str, Any] | None
    after: dict[str, Any] | None


class GrantWouldBe(Shape):
    """A role that an account would gain or lose, and the group that it comes from (None: by hand)."""

    gained: bool
    account_id: UUID
    email: str | None
    display_name: str
    role_id: UUID
    role_name: str
    group_id: UUID | None
    group_name: str | None


class Preview(Shape):
    """The answer that the identity provider would get, and what would come of the request."""

    status: Annotated[int, Field(examples=[201])]
    scim_type: Annotated[str | None, Field(examples=["uniqueness"])] = None
    detail: str | None = None
    change_id: Annotated[UUID | None, Field(description="Absent when the request could not even be read.")] = None
    resource: dict[str, Any] | None = None
    accounts: list[AccountWouldBe] = Field(default_factory=list)
    gained: int = 0
    lost: int = 0
    grants: list[GrantWouldBe] = Field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Asker:
    """On whose behalf, and by what means, a preview is asked for."""

    organization_id: UUID
    actor: str
    transaction: Transaction
    gateway: httpx.AsyncClient | None
    pepper: bytes


@router.post("", responses=refusals(404, 503))
async def preview_request(connection_id: UUID, body: ScimRequest, principal: Admin, service: ServiceOf) -> Preview:
    """What the request would do, if the connection's identity provider sent it now. Nothing is changed."""
    asker = Asker(principal.organization.id, principal.actor, service.transaction, service.gateway, service.pepper)
    return await rehearse(asker, connection_id, body)


def open_gateway(gateway_url: str) -> httpx.AsyncClient | None:
    """A client of the gateway; None when it is not known where that is. To be closed."""
    return httpx.AsyncClient(base_url=gateway_url.rstrip("/"), timeout=TIMEOUT) if gateway_url else None


async def rehearse(asker: Asker, connection_id: UUID, asked: ScimRequest) -> Preview:
    """Have gateway and provisioner rehearse the request; raises NotFound, or Unavailable without an answer."""
    if asker.gateway is None:
        raise Unavailable("previews need the gateway's address: set GATEWAY_URL")
    async with preview_token(asker, connection_id) as secret:
        answer = await _send(asker.gateway, secret, asked)
    change_id = answer.headers.get(PREVIEW_HEADER)
    if change_id is None and (answer.status_code in (401, 429) or answer.status_code >= 500):
        raise Unavailable(f"the gateway answered {answer.status_code}; try again", retry_after=5)
    async with asker.transaction() as db:
        shown = await _told(db, asker.organization_id, UUID(change_id)) if change_id else _unread(answer)
        did = {"method": asked.method, "path": asked.path, "changeId": change_id, "status": shown.status}
        subject = (Subject.CONNECTION, connection_id)
        await audit.record(
            db, asker.organization_id, asker.actor, Act.PREVIEWED, subject, did, connection_id=connection_id
        )
    return shown


@asynccontextmanager
async def preview_token(asker: Asker, connection_id: UUID) -> AsyncIterator[str]:
    """The secret of a token that can only rehearse, dead afterwards; raises NotFound without the connection."""
    secret, now = bearer.mint(SCIM_TOKEN), datetime.now(UTC)
    token = Token(
        id=uuid4(),
        connection_id=connection_id,
        digest=bearer.digest(asker.pepper, SCIM_TOKEN, secret),
        hint=bearer.hint(secret),
        created_at=now,
        expires_at=now + TOKEN_LIFETIME,
        label=connections.PREVIEW_LABEL,
        scopes=["preview"],
    )
    async with asker.transaction() as db:
        if await connections.find_open(db, asker.organization_id, connection_id) is None:
            raise NotFound
        await connections.insert_token(db, token)
    try:
        yield secret
    finally:
        async with asker.transaction() as db:
            await previews.revoke_token(db, token.id, datetime.now(UTC))


async def _send(gateway: httpx.AsyncClient, secret: str, asked: ScimRequest) -> httpx.Response:
    headers = {"Authorization": f"Bearer {secret}", "Content-Type": "application/scim+json"}
    if asked.if_match:
        headers["If-Match"] = asked.if_match
    try:
        return await gateway.request(asked.method, BASE + asked.path, json=asked.body, headers=headers)
    except httpx.HTTPError as error:
        raise Unavailable("the gateway cannot be reached; try again", retry_after=5) from error


def _unread(answer: httpx.Response) -> Preview:
    """What the gateway itself refused: the provisioner never saw it."""
    body = answer.json()
    return Preview(status=answer.status_code, scim_type=body.get("scimType"), detail=body.get("detail"))


async def _told(db: AsyncSession, organization_id: UUID, change_id: UUID) -> Preview:
    """What the outcome says, with the names of what it tells by ids."""
    reply = await outcomes.find_reply(db, change_id)
    if reply is None:
        raise Unavailable("the rehearsal took too long; try again", retry_after=5)
    outcome = Outcome.model_validate_json(reply)
    done = outcome.effects or Effects()
    names = await effects.find_names(db, organization_id, done.grants)
    return Preview(
        status=outcome.status,
        scim_type=outcome.scim_type,
        detail=outcome.detail,
        change_id=outcome.change_id,
        resource=outcome.resource,
        accounts=[AccountWouldBe.model_validate(account) for account in done.accounts],
        gained=done.gained,
        lost=done.lost,
        grants=[GrantWouldBe.model_validate(grant) for grant in effects.named(done.grants, names)],
    )
