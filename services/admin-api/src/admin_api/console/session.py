"""Who is at the browser, and whether a form is really theirs (threat T53).

Pages know the session's cookie only; a bearer token or an API key opens none (threat T54). A form is taken when the
browser says that it comes from our own origin, and it carries the token that its page was given.
"""

import hmac
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any
from urllib.parse import parse_qsl, quote, urlsplit

import structlog
from fastapi import Depends, Request
from fastapi.responses import RedirectResponse, Response
from pydantic import BaseModel, ValidationError

from admin_api.console.frame import HOME, is_partial, sentence
from admin_api.errors import EnterpriseRequired, Forbidden, Unauthenticated, Validation
from admin_api.principals import Principal
from admin_api.service import Service, ServiceOf
from admin_api.sessions import COOKIE, REFUSED, SESSION, check_origin, find_person, is_own_origin
from admin_api.sign_in import is_own_path
from servicekit import bearer

SIGN_IN = "/admin/sign-in"
LIVE = "/live"  # how the addresses of streams end
CSRF_FIELD = "csrf"

_CSRF = "csrf"  # kind of the digest: of a session's secret, and never its own digest
_MAX_FIELDS = 500


class Form:
    """The fields of a form; a field may come several times."""

    def __init__(self, fields: list[tuple[str, str]]) -> None:
        self._fields = fields

    def get(self, name: str, default: str = "") -> str:
        """The field without blanks around it."""
        return next((value.strip() for key, value in self._fields if key == name), default)

    def exact(self, name: str) -> str:
        """The field as it was typed: for passwords."""
        return next((value for key, value in self._fields if key == name), "")

    def all(self, name: str) -> list[str]:
        return [value.strip() for key, value in self._fields if key == name]

    def __contains__(self, name: object) -> bool:
        return any(key == name for key, _ in self._fields)


async def page_person(request: Request, service: ServiceOf) -> Principal:
    """Whose session the cookie is; raises Unauthenticated."""
    principal = await find_principal(request, service)
    if principal is None:
        raise Unauthenticated(REFUSED)
    return principal


PagePerson = Annotated[Principal, Depends(page_person)]


async def page_admin(principal: PagePerson) -> Principal:
    """An admin of an organization whose plan includes directory sync; raises Forbidden or EnterpriseRequired."""
    if not principal.is_admin:
        raise Forbidden("You are signed in, but only admins of the organization can use the console. Ask one of them.")
    if principal.organization.plan != "enterprise":
        raise EnterpriseRequired(
            "Directory sync is part of the enterprise plan, which this organization does not have at the moment. "
            "Nothing is lost: connections, users and settings are as they were when the plan is back."
        )
    return principal


PageAdmin = Annotated[Principal, Depends(page_admin)]


async def posted(request: Request, principal: PagePerson) -> Form:
    """The fields of a form of ours; raises Forbidden for any other."""
    form = await read_form(request)
    if not hmac.compare_digest(form.get(CSRF_FIELD).encode(), request.state.csrf.encode()):
        raise Forbidden("This form is not from your session. Load the page again and repeat what you did.")
    return form


Posted = Annotated[Form, Depends(posted)]


async def find_principal(request: Request, service: Service) -> Principal | None:
    """Whose session the cookie is, if it is anybody's; from then on pages are made for them."""
    secret = request.cookies.get(COOKIE)
    if secret is None or not bearer.is_well_formed(secret):
        return None
    if request.method != "GET":
        check_origin(request)
    try:
        async with service.transaction() as db:
            person = await find_person(db, bearer.digest(service.pepper, SESSION, secret), datetime.now(UTC))
    except Unauthenticated:
        return None
    principal = Principal(person.organization, person.actor, person.is_admin, person)
    request.state.principal = principal
    request.state.csrf = csrf_token(service.pepper, secret)
    structlog.contextvars.bind_contextvars(actor=principal.actor, organization_id=str(principal.organization.id))
    return principal


def csrf_token(pepper: bytes, secret: str) -> str:
    """What the forms of this session carry; it tells nothing of the session's secret."""
    return bearer.digest(pepper, _CSRF, secret).hex()


async def read_form(request: Request) -> Form:
    try:
        text = (await request.body()).decode()
        fields = parse_qsl(text, keep_blank_values=True, max_num_fields=_MAX_FIELDS, errors="strict")
    except ValueError as error:
        raise Validation("The form cannot be read.") from error
    if any("\0" in value for field in fields for value in field):
        raise Validation("The form cannot be read.")
    return Form(fields)


def parse[M: BaseModel](model: type[M], values: Mapping[str, Any]) -> tuple[M | None, dict[str, str]]:
    """The model, or by the name of each field what is wrong with it (`""` for the form as a whole)."""
    try:
        return model.model_validate(values), {}
    except ValidationError as error:
        problems = {".".join(map(str, each["loc"])): sentence(each["msg"]) for each in error.errors()}
        return None, problems


def sign_in_page(request: Request) -> Response:
    """Where somebody without a session goes, and comes back from to where they were."""
    target = f"{SIGN_IN}?returnTo={quote(_wanted(request), safe='/')}"
    if is_partial(request):
        # A stream that is opened again needs a refusal; for the rest 204 is an answer that changes nothing.
        code = 401 if request.url.path.endswith(LIVE) else 204
        return Response(status_code=code, headers={"HX-Redirect": target})
    return RedirectResponse(target, 303)


def return_path(path: str) -> str:
    """The page to go to after sign-in: one of the console's."""
    place = path.split("?")[0]
    is_page = is_own_path(path) and place.startswith("/admin/") and "/." not in place and place != SIGN_IN
    return path if is_page and len(path) <= 500 else HOME


def _wanted(request: Request) -> str:
    if request.method == "GET" and not is_partial(request):
        query = f"?{request.url.query}" if request.url.query else ""
        return return_path(request.url.path + query)
    came_from = request.headers.get("hx-current-url") or request.headers.get("referer", "")
    parts = urlsplit(came_from)
    origin = f"{parts.scheme}://{parts.netloc}"
    is_own = is_own_origin(origin, request.headers.get("host", ""), request.app.state.service.public_origin)
    return return_path(parts._replace(scheme="", netloc="", fragment="").geturl()) if is_own else HOME
