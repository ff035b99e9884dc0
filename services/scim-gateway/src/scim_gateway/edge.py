"""The outermost layer: names every request, refuses hostile framing, answers errors in SCIM, logs one line."""

import asyncio
import re
import secrets
import time
from urllib.parse import parse_qsl

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from contracts import PREVIEW_HEADER
from scim.errors import InvalidSyntax, ScimError, Unauthorized, UnsupportedMediaType, error_of
from scim_gateway.answers import error_response
from scim_gateway.auth import GATEWAY
from scim_gateway.metrics import REQUESTS
from servicekit import tracing

log = structlog.get_logger()

MAX_URL_BYTES = 8 * 1024
MAX_HEADERS = 64
ROUTE = "scim_gateway.route"  # scope key: the template of the endpoint that answered
PREVIEWED = "scim_gateway.previewed"  # scope key: the id of the change that was only rehearsed

_ONCE = frozenset((b"authorization", b"host", b"content-length", b"content-type", b"transfer-encoding", b"if-match"))
_HOST = re.compile(rb"[A-Za-z0-9._:\[\]-]*")
# What decodes to a path other than the one that a proxy in front of us has looked at (T23).
_AMBIGUOUS_PATH = re.compile(rb"%2f|%5c|%00|\\|\.\.|//|\x00", re.IGNORECASE)
_CREDENTIAL_PARAMETERS = frozenset(("access_token", "token", "authorization"))
_QUIET = ("/health/live", "/health/ready")


class Ambiguous(InvalidSyntax):
    """Two readers could understand the request differently; what follows it on the connection is not trusted."""

    closes = True


class InFlight:
    """Counts requests, so that draining can wait for them."""

    def __init__(self) -> None:
        self.count = 0
        self._idle = asyncio.Event()

    def __enter__(self) -> None:
        self.count += 1
        self._idle.clear()

    def __exit__(self, *_: object) -> None:
        self.count -= 1
        if not self.count:
            self._idle.set()

    async def idle(self) -> None:
        """Wait until there is none."""
        while self.count:
            await self._idle.wait()


class Edge:
    """Pure ASGI, so that it costs microseconds."""

    def __init__(self, app: ASGIApp, in_flight: InFlight) -> None:
        self._app = app
        self._in_flight = in_flight

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        with self._in_flight:
            if not await scope["state"][GATEWAY].shedding.refuses(scope, send):
                await self._answer(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = time.perf_counter()
        request_id = secrets.token_hex(8)
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=request_id)
        span = tracing.begin(scope["headers"])
        status = 0

        async def noting_send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", request_id.encode())]
                if change_id := scope.get(PREVIEWED):
                    message["headers"].append((PREVIEW_HEADER.lower().encode(), str(change_id).encode()))
            await send(message)

        try:
            refuse_hostile(scope)
            await self._app(scope, receive, noting_send)
        except ScimError as error:
            scope["state"][GATEWAY].refusals.note_error(scope, error)
            if not status:
                await error_response(error)(scope, receive, noting_send)
        except Exception:
            log.exception("scim.request.failed", route=scope.get(ROUTE))
            if not status:
                await error_response(_bug(request_id))(scope, receive, noting_send)
        finally:
            if scope["path"] not in _QUIET:
                seconds = time.perf_counter() - started
                log.info(
                    "scim.request.done",
                    method=scope["method"],
                    route=scope.get(ROUTE),
                    status=status,
                    duration_ms=round(seconds * 1000, 1),
                )
                REQUESTS.done(scope.get(ROUTE), scope["method"], status, seconds, span)


def refuse_hostile(scope: Scope) -> None:
    """Raise for a request that two readers could understand differently, or whose URI carries a credential."""
    target: bytes = scope.get("raw_path") or scope["path"].encode()
    query: bytes = scope["query_string"]
    if len(target) + len(query) > MAX_URL_BYTES:
        raise error_of(414, None, f"The URL is longer than {MAX_URL_BYTES} bytes; use POST .search for long filters.")
    if _AMBIGUOUS_PATH.search(target) or _AMBIGUOUS_PATH.search(scope["path"].encode()):
        raise Ambiguous("The path has an encoded slash, a '..' or a '//'; check the base URL for a trailing slash.")
    _check_headers(scope["headers"])
    if query and not _CREDENTIAL_PARAMETERS.isdisjoint(name.lower() for name, _ in parse_qsl(query.decode("latin-1"))):
        raise Unauthorized("Send the token in the Authorization header, never in the URL; a token sent so is burnt.")


def _check_headers(headers: list[tuple[bytes, bytes]]) -> None:
    if len(headers) > MAX_HEADERS:
        raise error_of(431, None, f"The request has more than {MAX_HEADERS} header fields.")
    seen: set[bytes] = set()
    for name, value in headers:
        if name in _ONCE:
            if name in seen:
                raise Ambiguous(f"The header field {name.decode()} is given twice.")
            seen.add(name)
        if name == b"host":
            if not _HOST.fullmatch(value):
                raise Ambiguous("The Host header field is malformed.")
        elif name == b"transfer-encoding":
            if value.strip().lower() != b"chunked":
                raise Ambiguous("The only Transfer-Encoding that is read is chunked.")
        elif name == b"content-encoding" and value.strip().lower() != b"identity":
            raise UnsupportedMediaType("Compressed bodies are not read; send the body without Content-Encoding.")
    if b"content-length" in seen and b"transfer-encoding" in seen:
        raise Ambiguous("A request has either Content-Length or Transfer-Encoding, not both.")


def _bug(request_id: str) -> ScimError:
    return error_of(500, None, f"Something went wrong on our side; quote request {request_id} to the operator.")
