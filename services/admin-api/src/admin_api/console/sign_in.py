"""Sign-in and sign-out in the browser: `/admin/sign-in`, `/admin/sign-out`."""

from typing import Annotated
from urllib.parse import quote, urlencode

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from admin_api.auth import SignIn, clear_cookie, end_session, set_cookie, start_session
from admin_api.console import frame
from admin_api.console.session import SIGN_IN, Form, PagePerson, Posted, find_principal, parse, read_form, return_path
from admin_api.errors import ApiError, Conflict, TooManyRequests, Unauthenticated
from admin_api.service import Service, ServiceOf
from admin_api.sessions import check_origin

router = APIRouter(include_in_schema=False)


@router.get("/admin", include_in_schema=False)
@router.get("/admin/", include_in_schema=False)
async def home() -> Response:
    return RedirectResponse(frame.HOME, 303)


@router.get(SIGN_IN)
async def show(
    request: Request,
    service: ServiceOf,
    return_to: Annotated[str, Query(alias="returnTo", max_length=2000)] = "",
    organization_id: Annotated[str, Query(alias="organizationId", max_length=64)] = "",
) -> Response:
    """The form; whoever is signed in goes on at once."""
    if request.headers.get("sec-fetch-site") == "cross-site":
        return _hop(request, return_path(return_to))
    if await find_principal(request, service):
        return frame.see_other(return_path(return_to))
    return _form(request, service, return_path(return_to), organization_id.strip())


@router.post(SIGN_IN)
async def sign_in(request: Request, service: ServiceOf) -> Response:
    """A new session, always (threat T53); or the form again with what was wrong."""
    check_origin(request)
    form = await read_form(request)
    path = return_path(form.get("returnTo"))
    body, _ = parse(SignIn, _credentials(form))
    try:
        if body is None:
            raise Unauthenticated("Enter your email and your password.")
        client = request.client.host if request.client else ""
        started = await start_session(service, body, client)
    except (Unauthenticated, Conflict, TooManyRequests) as error:
        return _form(request, service, path, form.get("organizationId"), form.get("email"), error)
    response = frame.see_other(path)
    set_cookie(response, started.secret)
    return response


@router.post("/admin/sign-out")
async def sign_out(request: Request, principal: PagePerson, form: Posted, service: ServiceOf) -> Response:
    """End the session."""
    assert principal.person is not None
    await end_session(service, principal.person)
    response = frame.see_other(SIGN_IN, "You are signed out.")
    clear_cookie(response)
    return response


def _credentials(form: Form) -> dict[str, str | None]:
    return {
        "email": form.get("email"),
        "password": form.exact("password"),
        "organizationId": form.get("organizationId") or None,
    }


def _form(
    request: Request,
    service: Service,
    path: str,
    organization_id: str = "",
    email: str = "",
    error: ApiError | None = None,
) -> Response:
    query = {"returnTo": path} | ({"organizationId": organization_id} if organization_id else {})
    response = frame.page(
        request,
        "sign_in.html",
        code=error.status if error else 200,
        return_to=path,
        oidc=f"/api/auth/sign-in/oidc?{urlencode(query, safe='/')}" if service.provider else None,
        email=email,
        error=error.message if error else None,
        organization_id=organization_id,
        asks_organization=isinstance(error, Conflict) or bool(organization_id),
    )
    if error and error.retry_after is not None:
        response.headers["Retry-After"] = str(error.retry_after)
    return response


def _hop(request: Request, path: str) -> HTMLResponse:
    """Whoever follows a link on another site comes without their cookie, which is Strict; from this page it comes."""
    return frame.page(request, "hop.html", target=f"{SIGN_IN}?returnTo={quote(path, safe='/')}")
