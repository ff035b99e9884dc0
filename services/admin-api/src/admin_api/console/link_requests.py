"""Link requests: `/admin/scim/link-requests`. A connection asks for an account that it did not make."""

from typing import Literal
from uuid import UUID

from fastapi import APIRouter, Request, Response

from admin_api import link_requests
from admin_api.console import frame
from admin_api.console.session import PageAdmin, Posted
from admin_api.errors import ApiError
from admin_api.link_requests import LinkRequestView
from admin_api.paging import PagingOf
from admin_api.principals import Principal
from admin_api.service import Service, ServiceOf

router = APIRouter(prefix="/admin/scim/link-requests", include_in_schema=False)

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
        "link_requests.html",
        found=await link_requests.list_link_requests(principal, service, paging, status),
        status=status,
        is_first=paging.cursor is None,
    )


@router.get("/{request_id}/approve")
async def ask_approve(request: Request, request_id: UUID, principal: PageAdmin, service: ServiceOf) -> Response:
    """What approving gives away."""
    wish = await link_requests.read(service, principal, request_id)
    who, where = wish.account_email or wish.account_name, wish.provider_id
    return frame.page(
        request,
        "confirm.html",
        title=f"Link {who} to {where}?",
        text=[
            f"{where} wanted the SCIM user {wish.user_name} and met the account of {wish.account_name} ({who}), which "
            "it did not make.",
            f"Once linked, {where} may change the account's name and email, suspend it, and give it roles by groups. "
            "The roles that the account holds stay.",
            f"{where} gets the account with its next try; nothing changes before.",
        ],
        action=f"{HERE}/{request_id}/approve",
        label=f"Link to {where}",
        back=HERE,
        kind="primary",
    )


@router.post("/{request_id}/approve")
async def approve(request_id: UUID, principal: PageAdmin, form: Posted, service: ServiceOf) -> Response:
    """Link the account to the connection."""
    return await _decide(request_id, principal, service, is_approved=True)


@router.get("/{request_id}/reject")
async def ask_reject(request: Request, request_id: UUID, principal: PageAdmin, service: ServiceOf) -> Response:
    """What rejecting means."""
    wish = await link_requests.read(service, principal, request_id)
    who = wish.account_email or wish.account_name
    return frame.page(
        request,
        "confirm.html",
        title=f"Reject the request of {wish.provider_id} for {who}?",
        text=[
            f"The account of {who} stays as it is, and {wish.user_name} stays unknown to {wish.provider_id}. "
            "The connection may ask again.",
        ],
        action=f"{HERE}/{request_id}/reject",
        label="Reject request",
        back=HERE,
    )


@router.post("/{request_id}/reject")
async def reject(request_id: UUID, principal: PageAdmin, form: Posted, service: ServiceOf) -> Response:
    """Turn the request down."""
    return await _decide(request_id, principal, service, is_approved=False)


async def _decide(request_id: UUID, principal: Principal, service: Service, *, is_approved: bool) -> Response:
    wish = await link_requests.read(service, principal, request_id)
    act = link_requests.approve_link_request if is_approved else link_requests.reject_link_request
    try:
        await act(request_id, principal, service)
    except ApiError as error:
        return frame.see_other(HERE, frame.sentence(error.message), is_problem=True)
    return frame.see_other(HERE, _told(wish, is_approved))


def _told(wish: LinkRequestView, is_approved: bool) -> str:
    who = wish.account_email or wish.account_name
    if is_approved:
        return f"{who} is linked to {wish.provider_id}, which gets the account with its next try."
    return f"The request of {wish.provider_id} for {who} is rejected."
