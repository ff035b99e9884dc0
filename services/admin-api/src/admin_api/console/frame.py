"""How a page is made: templates whose values are text, never markup (threat T52), and the notice of what was just done.

No page has code or style of its own in it, so the headers can forbid it (`HEADERS`, which `edge` puts on all of them).
"""

import base64
import json
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import jinja2
from fastapi import Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from admin_api.console import assets
from admin_api.errors import ApiError

CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
# On everything that a browser shows or loads.
HEADERS = [
    (b"content-security-policy", CSP.encode()),
    (b"referrer-policy", b"same-origin"),
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
]

STREAM = b"text/event-stream; charset=utf-8"
HOME = "/admin/scim"
# Address, name and icon of each page, in groups.
NAVIGATION = (
    (
        "Directory sync",
        (
            (HOME, "Sync status", "status"),
            ("/admin/scim/connections", "Connections", "connections"),
            ("/admin/scim/mappings", "Group mappings", "mappings"),
            ("/admin/scim/activity", "Activity", "activity"),
            ("/admin/scim/link-requests", "Link requests", "links"),
            ("/admin/scim/quarantine", "Quarantine", "quarantine"),
        ),
    ),
    (
        "Organization",
        (
            ("/admin/users", "Users", "users"),
            ("/admin/roles", "Roles", "roles"),
            ("/admin/settings", "Settings", "settings"),
        ),
    ),
)

_NOTICE = "__Host-notice"
_NOTICE_SECONDS = 60
_NOTICE_LENGTH = 500  # characters; a cookie has 4 KB

# What each status of an error page is called.
_TITLES = {
    400: "This request cannot be read",
    401: "Sign in first",
    403: "Not allowed",
    404: "Nothing here",
    405: "Not allowed here",
    409: "Not possible now",
    503: "Not available at the moment",
}


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("admin_api.console"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        ago=ago, utc=utc, iso=iso, count=count, compact=compact, pretty=pretty, sentence=sentence
    )
    environment.globals.update(asset=assets.address, navigation=NAVIGATION, home=HOME)
    return environment


def page(request: Request, template: str, *, code: int = 200, **context: Any) -> HTMLResponse:
    """The page; templates also see `principal` (None before sign-in), `csrf`, `notice`, `here` (the path) and `now`."""
    notice = _read_notice(request)
    response = HTMLResponse(render(request, template, notice=notice, **context), code)
    if notice:
        response.delete_cookie(_NOTICE, secure=True, httponly=True, samesite="strict")
    return response


def render(request: Request, template: str, **context: Any) -> str:
    """A page or a part of one as text."""
    common = {
        "principal": getattr(request.state, "principal", None),
        "csrf": getattr(request.state, "csrf", ""),
        "notice": None,
        "here": request.url.path,
        "now": datetime.now(UTC),
    }
    return _ENVIRONMENT.get_template(template).render({**common, **context})


def see_other(path: str, notice: str | None = None, *, is_problem: bool = False) -> Response:
    """On to another page of ours after a POST; the notice is shown there, once."""
    response = RedirectResponse(path, 303)
    if notice:
        text = json.dumps({"text": notice[:_NOTICE_LENGTH], "is_problem": is_problem})
        response.set_cookie(
            _NOTICE,
            base64.urlsafe_b64encode(text.encode()).decode(),
            max_age=_NOTICE_SECONDS,
            secure=True,
            httponly=True,
            samesite="strict",
        )
    return response


def error_page(request: Request, error: ApiError, request_id: str) -> Response:
    """A refusal as a page that says what happened and where to go on."""
    title = _TITLES.get(error.status, "Something went wrong")
    response = page(request, "error.html", code=error.status, title=title, error=error, reference=request_id)
    if error.retry_after is not None:
        response.headers["Retry-After"] = str(error.retry_after)
    return response


def is_partial(request: Request) -> bool:
    """Whether htmx asks for a part of a page; when somebody goes back it asks for the whole."""
    return request.headers.get("hx-request") == "true" and "hx-history-restore-request" not in request.headers


def ago(time: datetime, now: datetime) -> str:
    """How long ago, or how soon, in words: "3 min ago", "in 2 days"."""
    seconds = round((now - time).total_seconds())
    text = _span(abs(seconds))
    if text is None:
        return "just now" if seconds >= 0 else "in a moment"
    return f"{text} ago" if seconds > 0 else f"in {text}"


def _span(seconds: int) -> str | None:
    for name, length in (("day", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            number = seconds // length
            return f"{number} {name}{'s' if name == 'day' and number > 1 else ''}"
    return f"{seconds} s" if seconds >= 5 else None


def utc(time: datetime) -> str:
    """A time in full, in UTC."""
    return time.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def iso(time: datetime) -> str:
    """A time for programs."""
    return time.astimezone(UTC).isoformat(timespec="milliseconds")


def count(number: int, one: str, many: str | None = None) -> str:
    """ "1 user", "1,024 users"."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def compact(delta: timedelta) -> str:
    """A length of time: "15 min", "8 h"."""
    return _span(round(delta.total_seconds())) or f"{delta.total_seconds():g} s"


def sentence(text: str) -> str:
    """A message of the API, which begins small and ends without a stop, as a sentence."""
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "?", "!", ":")) else ".")


def pretty(value: Any) -> str:
    """JSON for people."""
    return json.dumps(value, indent=2, ensure_ascii=False, default=str)


def _read_notice(request: Request) -> Mapping[str, Any] | None:
    with suppress(ValueError):
        found = json.loads(base64.urlsafe_b64decode(request.cookies.get(_NOTICE, "")))
        if isinstance(found, dict) and isinstance(found.get("text"), str):
            return {"text": found["text"], "is_problem": found.get("is_problem") is True}
    return None


_ENVIRONMENT = _environment()
