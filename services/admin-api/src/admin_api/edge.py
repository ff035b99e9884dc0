"""The outermost layer: names every request, refuses hostile framing, bounds bodies, logs one line."""

import asyncio
import secrets
import time

import structlog
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from admin_api.answers import REQUEST_ID, bug, refusal
from admin_api.console import frame
from admin_api.errors import ApiError, PayloadTooLarge, RequestTimeout, UnsupportedMediaType, Validation
from admin_api.metrics import REQUESTS
from servicekit import tracing
from servicekit.logs import describe

log = structlog.get_logger()

MAX_BODY = 1024 * 1024  # bytes
READ_DEADLINE = 10.0  # seconds that a client may take to send a body
# Two of these and two readers could each take another one (threat T41).
_ONCE = frozenset(
    (b"authorization", b"host", b"content-length", b"content-type", b"transfer-encoding", b"origin", b"cookie")
)
_QUIET = ("/health/live", "/health/ready")
# On every answer: nothing here is for a cache, a frame or a guess at types.
_HEADERS = [(b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff")]


class Edge:
    """Pure ASGI; the application below sees each body whole."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = scope[REQUEST_ID] = secrets.token_hex(8)
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=request_id)
        exchange = Exchange(scope, send, request_id, tracing.begin(scope["headers"]))
        try:
            await self._answer(scope, receive, exchange)
        finally:
            exchange.log(scope)

    async def _answer(self, scope: Scope, receive: Receive, exchange: "Exchange") -> None:
        try:
            check_headers(scope["headers"])
            await self._app(scope, replay(await read_body(scope, receive), receive), exchange.send)
        except ClientGone:
            log.info("request.abandoned")
        except ApiError as error:
            await exchange.refuse(error, scope, receive)
        except Exception as error:
            log.error("request.failed", error=describe(error))
            await exchange.refuse(bug(exchange.request_id), scope, receive)


class Exchange:
    """One request's answer on its way out: gets its headers, and is remembered for the log."""

    def __init__(self, scope: Scope, send: Send, request_id: str, span: tracing.RequestSpan | None) -> None:
        self.request_id = request_id
        self._is_console = is_console(scope)
        self._send = send
        self._span = span
        self._status = 0
        self._is_stream = False
        self._started = time.perf_counter()

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            given = {name for name, _ in message["headers"]}
            self._is_stream = (b"content-type", frame.STREAM) in message["headers"]
            is_page = self._is_console or any(is_html(header) for header in message["headers"])
            wanted = [*_HEADERS, *(frame.HEADERS if is_page else ())]
            added = [(b"x-request-id", self.request_id.encode()), *(h for h in wanted if h[0] not in given)]
            message = {**message, "headers": [*message["headers"], *added]}
        await self._send(message)

    async def refuse(self, error: ApiError, scope: Scope, receive: Receive) -> None:
        """Answer with the error, unless an answer has begun."""
        if not self._status:
            await refusal(Request(scope), error, self.request_id)(scope, receive, self.send)

    def log(self, scope: Scope) -> None:
        if scope["path"] in _QUIET:
            return
        route = getattr(scope.get("route"), "path", None)
        seconds = time.perf_counter() - self._started
        duration_ms = round(seconds * 1000, 1)
        log.info("request.done", method=scope["method"], route=route, status=self._status, duration_ms=duration_ms)
        if not self._is_stream:  # which lasts as long as its page is open
            REQUESTS.done(route, scope["method"], self._status, seconds, self._span)


def is_console(scope: Scope) -> bool:
    """Whether the request is for the console, whose forms are no JSON."""
    return scope["path"] == "/admin" or scope["path"].startswith("/admin/")


def is_html(header: tuple[bytes, bytes]) -> bool:
    return header[0] == b"content-type" and header[1].startswith(b"text/html")


class ClientGone(Exception):
    """The client hung up before its request was complete."""


def check_headers(headers: list[tuple[bytes, bytes]]) -> None:
    """Raise for framing and credentials that two readers could understand differently, and for compressed bodies."""
    seen: set[bytes] = set()
    for name, value in headers:
        if name in _ONCE:
            if name in seen:
                raise Validation(f"the header field {name.decode()} is given twice")
            seen.add(name)
        if name == b"transfer-encoding" and value.strip().lower() != b"chunked":
            raise Validation("the only Transfer-Encoding that is read is chunked")
        if name == b"content-encoding" and value.strip().lower() != b"identity":
            raise UnsupportedMediaType("compressed bodies are not read; send the body without Content-Encoding")
    if {b"content-length", b"transfer-encoding"} <= seen:
        raise Validation("a request has either Content-Length or Transfer-Encoding, not both")


async def read_body(scope: Scope, receive: Receive) -> bytes:
    """The whole body, which is JSON, a form of the console's, or empty; bounded in bytes and in time."""
    headers = dict(scope["headers"])
    length = headers.get(b"content-length", b"0")
    if length.isdigit() and int(length[:20]) > MAX_BODY:
        raise _too_large()
    try:
        async with asyncio.timeout(READ_DEADLINE):
            body = await _read(receive)
    except TimeoutError as error:
        raise RequestTimeout(f"the body did not arrive within {READ_DEADLINE:g} seconds") from error
    wanted = b"application/x-www-form-urlencoded" if is_console(scope) else b"application/json"
    if body and headers.get(b"content-type", b"").partition(b";")[0].strip().lower() != wanted:
        raise UnsupportedMediaType(f"send the body as {wanted.decode()}")
    return body


async def _read(receive: Receive) -> bytes:
    body = bytearray()
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        body += message.get("body", b"")
        if len(body) > MAX_BODY:
            raise _too_large()
        more = message.get("more_body", False)
    return bytes(body)


def replay(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives the body once, then what comes after it: that the client has gone."""
    given = False

    async def replayed() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replayed


def _too_large() -> PayloadTooLarge:
    return PayloadTooLarge(f"the body is larger than {MAX_BODY // 1024} KB")


EDGE = Middleware(Edge)
