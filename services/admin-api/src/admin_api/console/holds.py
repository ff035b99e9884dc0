"""What the guard holds back: `/admin/scim/connections/:id/holds`."""

from uuid import UUID

from fastapi import APIRouter, Request, Response

from admin_api import holds, sync_status
from admin_api.console import connections, frame
from admin_api.console.forms import parse, problems_of
from admin_api.console.session import Form, PageAdmin, Posted
from admin_api.errors import ApiError
from admin_api.holds import Chosen, Release, Resolutions
from admin_api.paging import MAX_LIMIT, Paging, PagingOf
from admin_api.principals import Principal
from admin_api.service import Service, ServiceOf

router = APIRouter(prefix="/admin/scim/connections/{id}/holds", include_in_schema=False)

_PERIODS = (("15", "15 minutes"), ("60", "an hour"), ("240", "4 hours"), ("1440", "a day"))
_NAMED = 20  # people on the confirmation


@router.get("")
async def show(request: Request, id: UUID, principal: PageAdmin, service: ServiceOf, paging: PagingOf) -> Response:
    """Who waits, and what the guard did before."""
    view = await sync_status.get_connection(id, principal, service)
    return frame.page(
        request,
        "holds.html",
        connection=view,
        waiting=await holds.list_holds(principal, service, paging, id, "open"),
        resolved=await holds.list_holds(principal, service, Paging(10, None), id, "resolved"),
        is_first=paging.cursor is None,
        periods=_PERIODS,
    )


@router.post("/review")
async def review(request: Request, id: UUID, principal: PageAdmin, form: Posted, service: ServiceOf) -> Response:
    """What confirming or discarding the chosen ones would do."""
    view = await sync_status.get_connection(id, principal, service)
    back = f"{connections.HERE}/{id}/holds"
    is_confirmed = form.get("act") == "confirm"
    waiting = await holds.list_holds(principal, service, Paging(MAX_LIMIT, None), id, "open")
    chosen = _ids(form)
    names = [h.account_email or h.account_name for h in waiting.holds if chosen is None or str(h.id) in chosen]
    total = view.guard.open_holds if chosen is None else len(names)
    if not names:
        return frame.see_other(back, "Choose who is meant, first.", is_problem=True)
    people = frame.count(total, "user")
    act = f"Deactivate {people}" if is_confirmed else f"Forget {frame.count(total, 'deactivation')}"
    after = (
        "Their accounts are suspended and their sessions end at once, unless another reason keeps them active."
        if is_confirmed
        else "They stay active. The identity provider may ask for it again."
    )
    return frame.page(
        request,
        "confirm.html",
        title=f"{act}?",
        text=[", ".join(names[:_NAMED]) + (f" and {total - _NAMED} more" if total > _NAMED else ""), after],
        action=f"{back}/{'confirm' if is_confirmed else 'discard'}",
        label=act,
        back=back,
        fields={"all": "yes"} if chosen is None else {"holds": ",".join(sorted(chosen))},
    )


@router.post("/confirm")
async def confirm(id: UUID, principal: PageAdmin, form: Posted, service: ServiceOf) -> Response:
    """Do what was held."""
    await sync_status.get_connection(id, principal, service)
    return await _resolve(id, form, principal, service, is_confirmed=True)


@router.post("/discard")
async def discard(id: UUID, principal: PageAdmin, form: Posted, service: ServiceOf) -> Response:
    """Forget what was held."""
    await sync_status.get_connection(id, principal, service)
    return await _resolve(id, form, principal, service, is_confirmed=False)


@router.get("/release")
async def ask_release(request: Request, id: UUID, principal: PageAdmin, service: ServiceOf) -> Response:
    """For how long the guard is to let everything pass."""
    view = await sync_status.get_connection(id, principal, service)
    return frame.page(request, "guard_release.html", connection=view, periods=_PERIODS, problems={})


@router.post("/release")
async def release(request: Request, id: UUID, principal: PageAdmin, form: Posted, service: ServiceOf) -> Response:
    """Let everything pass for a while."""
    view = await sync_status.get_connection(id, principal, service)
    body, problems = parse(Release, {"minutes": form.get("minutes")})
    try:
        if body is not None:
            done = await holds.release_guard_of_connection(id, body, principal, service)
            text = f"The guard lets everything pass until {frame.utc(done.guard_released_until)}."
            forgotten = f" {frame.count(done.discarded, 'held deactivation')} forgotten." if done.discarded else ""
            return frame.see_other(f"{connections.HERE}/{id}", text + forgotten)
    except ApiError as error:
        problems = problems_of(error)
    return frame.page(request, "guard_release.html", code=400, connection=view, periods=_PERIODS, problems=problems)


async def _resolve(id: UUID, form: Form, principal: Principal, service: Service, *, is_confirmed: bool) -> Response:
    back = f"{connections.HERE}/{id}/holds"
    chosen = _ids(form)
    body, _ = parse(Chosen, {"connectionId": id} if chosen is None else {"holdIds": sorted(chosen)})
    if body is None:
        return frame.see_other(back, "Choose who is meant, first.", is_problem=True)
    try:
        act = holds.confirm_holds if is_confirmed else holds.discard_holds
        done = await act(body, principal, service)
    except ApiError as error:
        return frame.see_other(back, frame.sentence(error.message), is_problem=True)
    text, is_problem = _told(done, is_confirmed)
    return frame.see_other(back, text, is_problem=is_problem)


def _told(done: Resolutions, is_confirmed: bool) -> tuple[str, bool]:
    """The notice, and whether it is about a problem."""
    refused = [result for result in done.results if result.status >= 400]
    count = len(done.results) - len(refused)
    text = (
        f"{frame.count(count, 'user')} deactivated."
        if is_confirmed
        else f"{frame.count(count, 'wish', 'wishes')} forgotten."
    )
    if refused:
        text += f" {len(refused)} refused: {frame.sentence(refused[0].detail or 'the change was refused')}"
    if done.remaining:
        text += f" {done.remaining} are still waiting."
    return text, bool(refused)


def _ids(form: Form) -> set[str] | None:
    """The chosen holds; None for all of the connection."""
    if form.get("all"):
        return None
    return {id for text in [*form.all("hold"), form.get("holds")] for id in text.split(",") if id}
