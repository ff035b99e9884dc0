"""Quarantine: `/admin/scim/quarantine`. Changes that could not be applied because of a fault on our side."""

from typing import Literal
from uuid import UUID

from fastapi import APIRouter, Request, Response

from admin_api import quarantine_view
from admin_api.console import frame
from admin_api.console.session import PageAdmin, Posted
from admin_api.errors import ApiError
from admin_api.paging import PagingOf
from admin_api.service import ServiceOf

router = APIRouter(prefix="/admin/scim/quarantine", include_in_schema=False)

HERE = router.prefix


@router.get("")
async def show_all(
    request: Request,
    principal: PageAdmin,
    service: ServiceOf,
    paging: PagingOf,
    status: Literal["open", "resolved"] = "open",
) -> Response:
    """Those that wait, or those that were decided."""
    return frame.page(
        request,
        "quarantine.html",
        found=await quarantine_view.list_quarantine(principal, service, paging, status),
        status=status,
        is_first=paging.cursor is None,
    )


@router.get("/{record_id}")
async def show(request: Request, record_id: UUID, principal: PageAdmin, service: ServiceOf) -> Response:
    """One record, with what it asked for."""
    record = await quarantine_view.get_quarantined(record_id, principal, service)
    return frame.page(request, "quarantined.html", record=record)


@router.post("/{record_id}/retry")
async def retry(record_id: UUID, principal: PageAdmin, form: Posted, service: ServiceOf) -> Response:
    """Have the change decided again."""
    try:
        done = await quarantine_view.retry_quarantined(record_id, principal, service)
    except ApiError as error:
        return _refused(record_id, error)
    if done.change_id is None:
        return frame.see_other(HERE, "The record is sent again.")
    text = f"The change is sent again, in your name, as {done.change_id}; its outcome is in the activity."
    return frame.see_other(HERE, text)


@router.get("/{record_id}/discard")
async def ask_discard(request: Request, record_id: UUID, principal: PageAdmin, service: ServiceOf) -> Response:
    """What is lost with it."""
    record = await quarantine_view.get_quarantined(record_id, principal, service)
    what = f"{record.operation} of a {record.resource_type}" if record.operation else "change, which cannot be read"
    return frame.page(
        request,
        "confirm.html",
        title="Discard this record?",
        text=[
            f"The {what} is not applied, now or later, unless the identity provider sends it again.",
            "The record stays among those that were decided.",
        ],
        action=f"{HERE}/{record_id}/discard",
        label="Discard record",
        back=f"{HERE}/{record_id}",
    )


@router.post("/{record_id}/discard")
async def discard(record_id: UUID, principal: PageAdmin, form: Posted, service: ServiceOf) -> Response:
    """Give the record up."""
    try:
        await quarantine_view.discard_quarantined(record_id, principal, service)
    except ApiError as error:
        return _refused(record_id, error)
    return frame.see_other(HERE, "The record is discarded.")


def _refused(record_id: UUID, error: ApiError) -> Response:
    path = HERE if error.status == 404 else f"{HERE}/{record_id}"
    return frame.see_other(path, frame.sentence(error.message), is_problem=True)
