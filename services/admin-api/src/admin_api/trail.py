"""The audit trail as an organization's admin sees it: `/api/v1/admin/audit`.

The rows stand in chains that other organizations share. `verify` proves the own rows, each against the hash before it;
that no row is missing from a whole chain is proved by `directory-sync verify`.
"""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import Depends, Query
from fastapi.responses import StreamingResponse
from pydantic import Field

from admin_api.chains import fault_of
from admin_api.exports import DOWNLOADS, PAGE, Format, download
from admin_api.paging import PagingOf, page
from admin_api.principals import Admin
from admin_api.service import Service, ServiceOf
from admin_api.shapes import Shape, new_router
from admin_api.store import trail as store
from admin_api.store.trail import Place, TrailFilter
from contracts.events import FIRST_HASH
from directory.tables import Event

router = new_router("/audit", "audit")

COLUMNS = ("at", "type", "actor", "subjectType", "subjectId", "connectionId", "tokenId", "changeId", "data", "id")


class AuditEvent(Shape):
    """What happened, by whom, to what; `hash` chains the row to the one before it."""

    id: UUID
    at: datetime
    type: Annotated[str, Field(examples=["urn:directory-sync:event:roles-changed"])]
    actor: Annotated[str, Field(examples=["scim:okta", "account:0199c2a4-0000-7000-8000-000000000001"])]
    subject_type: str
    subject_id: UUID
    connection_id: UUID | None
    token_id: UUID | None
    change_id: Annotated[UUID | None, Field(description="Of the entry in the provisioning log.")]
    data: Annotated[dict[str, Any] | None, Field(description="What was and what is; absent when it was erased.")]
    chain: int
    seq: int
    hash: Annotated[str, Field(description="SHA-256, in hexadecimal digits.")]


class AuditPage(Shape):
    events: list[AuditEvent]
    next_cursor: str | None


class Broken(Shape):
    """A row that is not as it was written."""

    id: UUID
    chain: int
    seq: int
    at: datetime
    why: str


class Proof(Shape):
    """`rows` were looked at; `broken` names the first that is wrong."""

    rows: int
    broken: Broken | None


async def trail_filter(
    type: Annotated[str | None, Query(max_length=200)] = None,
    actor: Annotated[str | None, Query(max_length=200)] = None,
    subject_id: Annotated[UUID | None, Query(alias="subjectId")] = None,
    connection_id: Annotated[UUID | None, Query(alias="connectionId")] = None,
    since: Annotated[datetime | None, Query(alias="from")] = None,
    until: Annotated[datetime | None, Query(alias="to")] = None,
) -> TrailFilter:
    return TrailFilter(type, actor, subject_id, connection_id, in_utc(since), in_utc(until))


Wanted = Annotated[TrailFilter, Depends(trail_filter)]


@router.get("")
async def list_audit(principal: Admin, service: ServiceOf, paging: PagingOf, wanted: Wanted) -> AuditPage:
    """The organization's events, the newest first."""
    before = paging.after(_place)
    async with service.transaction() as db:
        found = await store.list_events(db, principal.organization.id, wanted, before=before, limit=paging.limit + 1)
    events, next_cursor = page(found, paging, lambda event: (event.at, event.chain, event.seq))
    return AuditPage(events=[event_of(event) for event in events], next_cursor=next_cursor)


@router.get("/export", response_class=StreamingResponse, responses=DOWNLOADS)
async def export_audit(
    principal: Admin, service: ServiceOf, wanted: Wanted, format: Annotated[Format, Query()] = "csv"
) -> StreamingResponse:
    """All events as CSV or JSON lines, the newest first."""
    return download("audit", format, COLUMNS, _pages(service, principal.organization.id, wanted))


@router.post("/verify")
async def verify_audit(principal: Admin, service: ServiceOf) -> Proof:
    """Prove that the organization's events are as they were written."""
    after, rows = (-2, 0), 0
    while True:
        async with service.transaction() as db:
            found = await store.list_links(db, principal.organization.id, after=after, limit=PAGE)
        for row in found:
            rows += 1
            previous = FIRST_HASH if row.seq == 1 else row.previous
            why = "the row before it is missing" if previous is None else fault_of(previous, row._asdict())
            if why:
                return Proof(rows=rows, broken=Broken(id=row.id, chain=row.chain, seq=row.seq, at=row.at, why=why))
        if not found:
            return Proof(rows=rows, broken=None)
        after = (found[-1].chain, found[-1].seq)


async def _pages(service: Service, organization_id: UUID, wanted: TrailFilter) -> AsyncIterator[list[dict[str, Any]]]:
    before: Place | None = None
    while True:
        async with service.transaction() as db:
            events = await store.list_events(db, organization_id, wanted, before=before, limit=PAGE)
        if not events:
            return
        yield [event_of(event).model_dump(mode="json", by_alias=True) for event in events]
        before = (events[-1].at, events[-1].chain, events[-1].seq)


def event_of(event: Event) -> AuditEvent:
    return AuditEvent.model_validate({**event.model_dump(), "hash": event.hash.hex()})


def in_utc(time: datetime | None) -> datetime | None:
    """A time without a zone is one of UTC."""
    return time.replace(tzinfo=UTC) if time and time.tzinfo is None else time


def _place(at: str, chain: str, seq: str) -> Place:
    time = datetime.fromisoformat(at)
    if time.tzinfo is None:
        raise ValueError("a time without its zone")
    return time, int(chain), int(seq)
