"""Held deactivations: `/api/v1/admin/scim/holds` (design section 5, "Guard").

Confirmed, the change that was held is published again and passes the guard; discarded, it is forgotten. Releasing the
brake of a connection lets its deactivations pass for a while, and discards what is held: the identity provider is asked
to send again what it still means.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal
from uuid import UUID

from fastapi import Query
from pydantic import Field, model_validator
from sqlalchemy.ext.asyncio import AsyncSession

from admin_api import audit
from admin_api.audit import Act, Subject
from admin_api.changes import DECISION_TIMEOUT, Changes, admin_change
from admin_api.errors import NotFound
from admin_api.paging import PagingOf, page, time_and_id
from admin_api.principals import Admin
from admin_api.service import ServiceOf
from admin_api.shapes import Body, Shape, new_router, refusals
from admin_api.store import holds as store
from admin_api.store.database import Transaction
from contracts import Change, Operation, ResourceType
from directory.tables import Hold
from servicekit.ids import uuid7

router = new_router("/scim", "holds")

MAX_HOLDS = 200  # in one request
AT_ONCE = 8  # changes of one request that wait for their outcomes; below the pool's size


class HoldView(Shape):
    """A deactivation or deletion that waits for an admin."""

    id: UUID
    connection_id: UUID
    provider_id: str
    user_id: UUID
    account_id: UUID
    account_email: str | None
    account_name: str
    operation: Annotated[str, Field(examples=["patch"])]
    held_at: datetime
    resolution: Literal["confirmed", "discarded", "cancelled"] | None
    resolved_at: datetime | None
    resolved_by: str | None


class HoldPage(Shape):
    holds: list[HoldView]
    next_cursor: str | None


class Chosen(Body):
    """Which holds: some by id, or all of a connection."""

    hold_ids: Annotated[list[UUID], Field(min_length=1, max_length=MAX_HOLDS)] | None = None
    connection_id: UUID | None = None

    @model_validator(mode="after")
    def _either(self) -> "Chosen":
        if (self.hold_ids is None) == (self.connection_id is None):
            raise ValueError("give either holdIds or connectionId")
        return self


class Resolved(Shape):
    """How it went with one hold: `status` is that of the change, 4xx when it was refused."""

    hold_id: UUID
    status: int
    detail: str | None


class Resolutions(Shape):
    """`remaining`: open holds of the connection that this request did not get to; send it again."""

    results: list[Resolved]
    remaining: int


class Release(Body):
    minutes: Annotated[int, Field(ge=1, le=24 * 60, description="How long the guard lets everything pass.")] = 60


class Released(Shape):
    guard_released_until: datetime
    discarded: int
    remaining: int


@dataclass(frozen=True, slots=True)
class Desk:
    """Where holds are resolved: by what means, for whom, by whom."""

    changes: Changes
    transaction: Transaction
    organization_id: UUID
    actor: str


@router.get("/holds")
async def list_holds(
    principal: Admin,
    service: ServiceOf,
    paging: PagingOf,
    connection_id: Annotated[UUID | None, Query(alias="connectionId")] = None,
    status: Annotated[Literal["open", "resolved"] | None, Query(description="Both when it is not given.")] = None,
) -> HoldPage:
    """What is or was held, the oldest first."""
    after = paging.after(time_and_id)
    async with service.transaction() as db:
        found = await store.list_holds(
            db,
            principal.organization.id,
            connection_id=connection_id,
            is_open=None if status is None else status == "open",
            after=after,
            limit=paging.limit + 1,
        )
    rows, next_cursor = page(found, paging, lambda row: (row.held_at, row.id))
    views = [HoldView.model_validate({**row._asdict(), "operation": row.change["operation"]}) for row in rows]
    return HoldPage(holds=views, next_cursor=next_cursor)


@router.post("/holds/confirm", responses=refusals(404, 503))
async def confirm_holds(body: Chosen, principal: Admin, service: ServiceOf) -> Resolutions:
    """Do what was held: each change is published again and passes the guard."""
    desk = Desk(service.changes, service.transaction, principal.organization.id, principal.actor)
    return await resolve(desk, body, confirmed)


@router.post("/holds/discard", responses=refusals(404, 503))
async def discard_holds(body: Chosen, principal: Admin, service: ServiceOf) -> Resolutions:
    """Forget what was held: the users stay active."""
    desk = Desk(service.changes, service.transaction, principal.organization.id, principal.actor)
    return await resolve(desk, body, discarded)


@router.post("/connections/{connection_id}/release-guard", responses=refusals(404, 503))
async def release_guard_of_connection(
    connection_id: UUID, body: Release, principal: Admin, service: ServiceOf
) -> Released:
    """Let the connection's deactivations pass for a while, and discard what is held."""
    until = datetime.now(UTC) + timedelta(minutes=body.minutes)
    async with service.transaction() as db:
        await release_guard(db, principal.organization.id, principal.actor, connection_id, until)
    done = await discard_holds(Chosen(connection_id=connection_id), principal, service)
    count = sum(result.status < 400 for result in done.results)
    return Released(guard_released_until=until, discarded=count, remaining=done.remaining)


async def release_guard(
    db: AsyncSession, organization_id: UUID, actor: str, connection_id: UUID, until: datetime
) -> None:
    """From now on the guard lets everything of the connection pass, until then; raises NotFound."""
    if not await store.release_guard(db, organization_id, connection_id, until):
        raise NotFound
    after = {"after": {"guardReleasedUntil": until.isoformat()}}
    subject = (Subject.CONNECTION, connection_id)
    await audit.record(db, organization_id, actor, Act.CONNECTION_CHANGED, subject, after, connection_id=connection_id)


def confirmed(hold: Hold, actor: str) -> Change:
    """The change that was held, as one of now that an admin asks for."""
    now = datetime.now(UTC)
    return Change.model_validate(hold.change).model_copy(
        update={
            "version": 2,
            "id": uuid7(),
            "hold_id": hold.id,
            "actor": actor,
            "token_id": None,
            "reply_partition": None,
            "received_at": now,
            "deadline": now + DECISION_TIMEOUT,
        }
    )


def discarded(hold: Hold, actor: str) -> Change:
    """The wish that the held change be forgotten."""
    return admin_change(hold.organization_id, actor, ResourceType.HOLD, Operation.DELETE, hold.id, hold.connection_id)


async def resolve(desk: Desk, chosen: Chosen, as_change: Callable[[Hold, str], Change]) -> Resolutions:
    """Submit the change that `as_change` makes of each chosen hold, and wait for all of their outcomes."""
    async with desk.transaction() as db:
        open_holds = await store.find_open_holds(
            db, desk.organization_id, ids=chosen.hold_ids, connection_id=chosen.connection_id, limit=MAX_HOLDS
        )
    if chosen.hold_ids is not None and len(open_holds) < len(set(chosen.hold_ids)):
        raise NotFound("one of these holds is not there, or was resolved before")
    turn = asyncio.Semaphore(AT_ONCE)

    async def one(hold: Hold) -> Resolved:
        async with turn:
            outcome = await desk.changes.submit(as_change(hold, desk.actor))
        return Resolved(hold_id=hold.id, status=outcome.status, detail=outcome.detail)

    results = await asyncio.gather(*map(one, open_holds))
    async with desk.transaction() as db:
        remaining = await store.count_open_holds(db, chosen.connection_id) if chosen.connection_id else 0
    return Resolutions(results=list(results), remaining=remaining)
