"""The quarantine over HTTP: `/api/v1/admin/scim/quarantine`. Records of the organization that could not be applied."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import Query
from pydantic import Field, ValidationError

from admin_api import quarantine
from admin_api.paging import PagingOf, page, time_and_id
from admin_api.principals import Admin
from admin_api.service import ServiceOf
from admin_api.shapes import Shape, new_router, refusals
from contracts import Change, RequestSummary
from directory.tables import Quarantined

router = new_router("/scim/quarantine", "quarantine")


class QuarantinedView(Shape):
    """A record that was set aside, and why."""

    id: UUID
    change_id: UUID | None
    error: Annotated[str, Field(examples=["KeyError: 'emails'"])]
    created_at: datetime
    resolution: Literal["retried", "discarded"] | None
    resolved_at: datetime | None
    resolved_by: str | None


class QuarantinedRecord(QuarantinedView):
    """With what it asked for, as far as it can be read; passwords and secrets are masked."""

    connection_id: UUID | None = None
    actor: str | None = None
    resource_type: str | None = None
    operation: str | None = None
    resource_id: UUID | None = None
    request: dict[str, Any] | None = None


class QuarantinePage(Shape):
    records: list[QuarantinedView]
    next_cursor: str | None


class Retried(Shape):
    """The change that was published instead; its outcome is in the provisioning log."""

    change_id: UUID | None


@router.get("")
async def list_quarantine(
    principal: Admin,
    service: ServiceOf,
    paging: PagingOf,
    status: Annotated[Literal["open", "resolved"] | None, Query(description="Both when it is not given.")] = None,
) -> QuarantinePage:
    """The records, the latest first."""
    is_open = None if status is None else status == "open"
    before = paging.after(time_and_id)
    async with service.transaction() as db:
        found = await quarantine.list_quarantine(
            db, principal.organization.id, is_open=is_open, before=before, limit=paging.limit + 1
        )
    rows, next_cursor = page(found, paging, lambda row: (row.created_at, row.id))
    return QuarantinePage(records=[QuarantinedView.model_validate(row) for row in rows], next_cursor=next_cursor)


@router.get("/{record_id}", responses=refusals(404))
async def get_quarantined(record_id: UUID, principal: Admin, service: ServiceOf) -> QuarantinedRecord:
    """One record, with what it asked for."""
    async with service.transaction() as db:
        found = await quarantine.show(db, record_id, principal.organization.id)
    return described(found)


@router.post("/{record_id}/retry", responses=refusals(404, 409, 503))
async def retry_quarantined(record_id: UUID, principal: Admin, service: ServiceOf) -> Retried:
    """Have the change decided again, on the directory as it is now, in the name of who asks."""
    async with service.transaction() as db:
        change_id = await quarantine.retry(db, service.publisher, record_id, principal.actor, principal.organization.id)
    return Retried(change_id=change_id)


@router.post("/{record_id}/discard", status_code=204, responses=refusals(404, 409))
async def discard_quarantined(record_id: UUID, principal: Admin, service: ServiceOf) -> None:
    """Give the record up."""
    async with service.transaction() as db:
        await quarantine.discard(db, record_id, principal.actor, principal.organization.id)


def described(found: Quarantined) -> QuarantinedRecord:
    """The record, and the request in it: never the record's own bytes, in which nothing is masked."""
    view = QuarantinedView.model_validate(found)
    try:
        change = Change.model_validate_json(found.value or b"")
    except ValidationError:
        return QuarantinedRecord(**dict(view))
    summary: RequestSummary | None = change.request
    return QuarantinedRecord(
        **dict(view),
        connection_id=change.connection_id,
        actor=change.actor,
        resource_type=change.resource_type,
        operation=change.operation,
        resource_id=change.resource_id,
        request=summary.model_dump(mode="json") if summary else None,
    )
