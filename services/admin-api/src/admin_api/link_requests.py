"""Link requests: `/api/v1/admin/scim/link-requests` (design section 5, "No takeover").

A connection that meets an account which it did not create is refused with 409, and the wish is kept here. Approving
one links the two; the identity provider's next try then succeeds.
"""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from fastapi import Query
from pydantic import Field

from admin_api import accounts
from admin_api.errors import Conflict, NotFound
from admin_api.paging import PagingOf, page, time_and_id
from admin_api.principals import Admin, Principal
from admin_api.service import Service, ServiceOf
from admin_api.shapes import Shape, new_router, refusals
from admin_api.store import link_requests as store
from admin_api.store.database import AnyRow
from contracts import AccountRequest

router = new_router("/scim/link-requests", "link requests")


class LinkRequestView(Shape):
    """A connection's wish for an account."""

    id: UUID
    connection_id: UUID
    provider_id: str
    account_id: UUID
    account_email: str | None
    account_name: str
    user_name: Annotated[str, Field(description="Of the SCIM user that the connection wanted to create or change.")]
    change_id: Annotated[UUID, Field(description="The refused change, in the provisioning log.")]
    requested_at: datetime
    resolution: Literal["approved", "rejected"] | None
    resolved_at: datetime | None
    resolved_by: str | None


class LinkRequestPage(Shape):
    link_requests: list[LinkRequestView]
    next_cursor: str | None


@router.get("")
async def list_link_requests(
    principal: Admin,
    service: ServiceOf,
    paging: PagingOf,
    status: Annotated[Literal["open", "resolved"] | None, Query(description="Both when it is not given.")] = None,
) -> LinkRequestPage:
    """The requests, the newest first."""
    after = paging.after(time_and_id)
    is_open = None if status is None else status == "open"
    async with service.transaction() as db:
        found = await store.list_link_requests(
            db, principal.organization.id, is_open=is_open, after=after, limit=paging.limit + 1
        )
    rows, next_cursor = page(found, paging, lambda row: (row.requested_at, row.id))
    return LinkRequestPage(link_requests=[LinkRequestView.model_validate(row) for row in rows], next_cursor=next_cursor)


@router.post("/{request_id}/approve", responses=refusals(404, 409, 503))
async def approve_link_request(request_id: UUID, principal: Admin, service: ServiceOf) -> LinkRequestView:
    """Link the account to the connection; the identity provider gets it with its next try."""
    request = await _open_request(service, principal, request_id)
    await accounts.submit(service, principal, request.account_id, AccountRequest(link=request.connection_id))
    return await read(service, principal, request_id)


@router.post("/{request_id}/reject", responses=refusals(404, 409, 503))
async def reject_link_request(request_id: UUID, principal: Admin, service: ServiceOf) -> LinkRequestView:
    """Turn the request down; the connection may ask again."""
    request = await _open_request(service, principal, request_id)
    await accounts.submit(service, principal, request.account_id, AccountRequest(reject_link=request.connection_id))
    return await read(service, principal, request_id)


async def _open_request(service: Service, principal: Principal, request_id: UUID) -> AnyRow:
    request = await _find(service, principal, request_id)
    if request.resolved_at is not None:
        raise Conflict(f"the request was {request.resolution} before")
    return request


async def read(service: Service, principal: Principal, request_id: UUID) -> LinkRequestView:
    """The request as it is now; raises NotFound."""
    return LinkRequestView.model_validate(await _find(service, principal, request_id))


async def _find(service: Service, principal: Principal, request_id: UUID) -> AnyRow:
    async with service.transaction() as db:
        request = await store.find_link_request(db, principal.organization.id, request_id)
    if request is None:
        raise NotFound
    return request
