"""Sync status: `/admin/scim`. Totals, what needs attention, the last day as a chart, and each connection."""

from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from fastapi import APIRouter, Request, Response

from admin_api import sync_status
from admin_api.console import frame
from admin_api.console.chart import Chart, chart_of
from admin_api.console.live import LiveOf, Message
from admin_api.console.session import PageAdmin
from admin_api.console.volume import Volume, VolumeOf
from admin_api.errors import Unavailable
from admin_api.notices import Notice
from admin_api.principals import Principal
from admin_api.service import Service, ServiceOf
from admin_api.sync_status import ConnectionView, Status

router = APIRouter(include_in_schema=False)

# Where an admin deals with a warning; the connection's own page for all others.
_PLACES = {
    "last_change_failed": "/admin/scim/activity?connection={id}&status=4xx",
    "link_requests": "/admin/scim/link-requests",
}
_SERIOUS = frozenset(("no_token", "guard_tripped", "held"))


@dataclass(frozen=True, slots=True)
class Warning:
    """Something that an admin should look at, and where."""

    provider_id: str
    notice: Notice
    path: str
    is_serious: bool


@router.get(frame.HOME)
async def show(request: Request, principal: PageAdmin, service: ServiceOf, volume: VolumeOf) -> Response:
    """The page."""
    return frame.page(request, "status.html", **await _facts(principal, service, volume))


@router.get(frame.HOME + "/live")
async def follow(
    request: Request, principal: PageAdmin, service: ServiceOf, volume: VolumeOf, live: LiveOf
) -> Response:
    """The parts of the page, again whenever something changed."""

    async def parts() -> Message:
        return Message(frame.render(request, "_status_parts.html", **await _facts(principal, service, volume)))

    return live.stream(request, principal, parts)


async def _facts(principal: Principal, service: Service, volume: Volume) -> dict[str, Any]:
    status = await sync_status.get_status(principal, service)
    chart = await _chart(volume, principal.organization.id)
    return {"status": status, "chart": chart, "warnings": warnings_of(status)}


async def _chart(volume: Volume, organization_id: UUID) -> Chart | None:
    """None when counting takes too long; the rest of the page does not wait for it."""
    with suppress(Unavailable):
        return chart_of(await volume.of(organization_id, datetime.now(UTC)))
    return None


def warnings_of(status: Status) -> list[Warning]:
    """The serious ones first."""
    found = [_warning(connection, notice) for connection in status.connections for notice in connection.warnings]
    return sorted(found, key=lambda warning: not warning.is_serious)


def _warning(connection: ConnectionView, notice: Notice) -> Warning:
    path = _PLACES.get(notice.code, "/admin/scim/connections/{id}").format(id=connection.id)
    return Warning(connection.provider_id, notice, path, notice.code in _SERIOUS)
