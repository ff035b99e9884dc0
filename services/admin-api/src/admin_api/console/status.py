"""Sync status: `/admin/scim`."""

from fastapi import APIRouter, Request, Response

from admin_api import sync_status
from admin_api.console import frame
from admin_api.console.session import PageAdmin
from admin_api.service import ServiceOf

router = APIRouter(include_in_schema=False)


@router.get(frame.HOME)
async def show(request: Request, principal: PageAdmin, service: ServiceOf) -> Response:
    """Totals, and each connection's state."""
    status = await sync_status.get_status(principal, service)
    return frame.page(request, "status.html", status=status)
