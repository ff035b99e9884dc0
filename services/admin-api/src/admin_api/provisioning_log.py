"""The provisioning log: `/api/v1/admin/scim/log`. What was asked, what came of it, why, and what it changed."""

from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import Depends, Query
from fastapi.responses import StreamingResponse
from pydantic import Field

from admin_api.errors import NotFound, Validation
from admin_api.exports import DOWNLOADS, PAGE, Format, download
from admin_api.paging import PagingOf, page
from admin_api.principals import Admin
from admin_api.service import Service, ServiceOf
from admin_api.shapes import Shape, new_router, refusals
from admin_api.store import log as store
from admin_api.store.database import AnyRow
from admin_api.store.log import LogFilter
from contracts import Operation, Outcome
from directory.tables import Event
from scim.errors import InvalidValue
from scim.keys import identity_key

router = new_router("/scim/log", "provisioning log")

STATUS_CLASSES = {"2xx": (200, 299), "4xx": (400, 499), "5xx": (500, 599)}
COLUMNS = (
    "receivedAt",
    "changeId",
    "providerId",
    "actor",
    "operation",
    "resourceType",
    "resourceId",
    "status",
    "scimType",
    "detail",
    "dryRun",
    "request",
    "events",
)


class Request(Shape):
    """What the identity provider sent; passwords and secrets are masked, a long body is cut."""

    method: Annotated[str, Field(examples=["PATCH"])]
    path: Annotated[str, Field(examples=["/Users/{id}"])]
    body: Any = None


class Happened(Shape):
    """An effect of the change; `data` holds `before` and `after` of what differs, or roles `gained` and `lost`."""

    type: Annotated[str, Field(examples=["urn:ietf:params:scim:event:prov:patch:full"])]
    subject_type: Annotated[str, Field(examples=["Account"])]
    subject_id: UUID
    data: Annotated[dict[str, Any] | None, Field(description="Absent when it was erased.")]


class LogEntry(Shape):
    """One change and its outcome."""

    change_id: UUID
    received_at: datetime
    applied_at: datetime
    connection_id: UUID | None
    provider_id: str | None
    token_id: UUID | None
    actor: Annotated[str, Field(examples=["scim:okta"])]
    resource_type: str
    operation: str
    resource_id: UUID
    status: int
    scim_type: Annotated[str | None, Field(examples=["uniqueness"])]
    detail: Annotated[str | None, Field(description="Why it was refused.")]
    dry_run: Annotated[bool, Field(description="A preview: nothing was changed.")]
    request: Request | None
    events: list[Happened]
    effects: dict[str, Any] | None
    similar: Annotated[
        int | None,
        Field(description="Set when the request was refused before it became a change: how many more were, untold."),
    ]


class LogPage(Shape):
    entries: list[LogEntry]
    next_cursor: str | None


async def log_filter(
    connection_id: Annotated[UUID | None, Query(alias="connectionId")] = None,
    user_id: Annotated[UUID | None, Query(alias="userId", description="Id of a SCIM user or group.")] = None,
    user_name: Annotated[
        str | None, Query(alias="userName", max_length=256, description="A userName, whole, in any case.")
    ] = None,
    status: Annotated[Literal["2xx", "4xx", "5xx"] | None, Query(description="Class of the status.")] = None,
    operation: Annotated[
        Operation | Literal["read"] | None, Query(description="`read` was refused before it became a change.")
    ] = None,
    since: Annotated[datetime | None, Query(alias="from", description="Received then or later.")] = None,
    until: Annotated[datetime | None, Query(alias="to", description="Received before then.")] = None,
) -> LogFilter:
    return LogFilter(
        connection_id=connection_id,
        resource_id=user_id,
        user_name_key=_key(user_name) if user_name else None,
        statuses=STATUS_CLASSES[status] if status else None,
        operation=operation,
        first_id=first_id_at(since) if since else None,
        end_id=first_id_at(until) if until else None,
    )


Wanted = Annotated[LogFilter, Depends(log_filter)]


@router.get("")
async def list_log(principal: Admin, service: ServiceOf, paging: PagingOf, wanted: Wanted) -> LogPage:
    """The entries, the newest first."""
    before = paging.after(UUID)
    found = await _read(service, principal.organization.id, wanted, before, paging.limit + 1)
    entries, next_cursor = page(found, paging, lambda entry: [entry.change_id])
    return LogPage(entries=entries, next_cursor=next_cursor)


@router.get("/export", response_class=StreamingResponse, responses=DOWNLOADS)
async def export_log(
    principal: Admin, service: ServiceOf, wanted: Wanted, format: Annotated[Format, Query()] = "csv"
) -> StreamingResponse:
    """All entries as CSV or JSON lines, the newest first."""
    return download("provisioning-log", format, COLUMNS, _pages(service, principal.organization.id, wanted))


@router.get("/{change_id}", responses=refusals(404))
async def get_log_entry(change_id: UUID, principal: Admin, service: ServiceOf) -> LogEntry:
    """One entry."""
    async with service.transaction() as db:
        row = await store.find_entry(db, principal.organization.id, change_id)
        if row is None:
            raise NotFound
        events = await store.list_events(db, principal.organization.id, [change_id], [row.received_at])
    return entry_of(row, events)


async def _pages(service: Service, organization_id: UUID, wanted: LogFilter) -> AsyncIterator[list[dict[str, Any]]]:
    """Each page in a transaction of its own: a slow reader holds nothing."""
    before = None
    while entries := await _read(service, organization_id, wanted, before, PAGE):
        yield [entry.model_dump(mode="json", by_alias=True) for entry in entries]
        before = entries[-1].change_id


async def _read(
    service: Service, organization_id: UUID, wanted: LogFilter, before: UUID | None, limit: int
) -> list[LogEntry]:
    async with service.transaction() as db:
        rows = await store.list_entries(db, organization_id, wanted, before=before, limit=limit)
        ids, times = [row.change_id for row in rows], [row.received_at for row in rows]
        events = await store.list_events(db, organization_id, ids, times)
    of_change = defaultdict[UUID | None, list[Event]](list)
    for event in events:
        of_change[event.change_id].append(event)
    return [entry_of(row, of_change[row.change_id]) for row in rows]


def entry_of(row: AnyRow, events: Sequence[Event]) -> LogEntry:
    """From an outcome's row and the events of its change."""
    outcome = Outcome.model_validate_json(row.reply)
    return LogEntry.model_validate(
        {
            **row._asdict(),
            "scim_type": outcome.scim_type,
            "detail": outcome.detail,
            "dry_run": bool(outcome.dry_run),
            "similar": outcome.similar,
            "effects": outcome.effects.model_dump(mode="json") if outcome.effects else None,
            "events": [Happened.model_validate(event) for event in events],
        }
    )


def first_id_at(time: datetime) -> UUID:
    """The smallest UUIDv7 of that moment; a time without a zone is one of UTC."""
    at = time if time.tzinfo else time.replace(tzinfo=UTC)
    milliseconds = int(at.timestamp() * 1000)
    if not 0 <= milliseconds < 1 << 48:
        raise Validation("query: the time is out of range")
    return UUID(int=(milliseconds << 80) | (0x7 << 76) | (0x2 << 62))


def _key(user_name: str) -> str:
    try:
        return identity_key(user_name)
    except InvalidValue as error:
        raise Validation(f"query.userName: {error.detail}") from error
