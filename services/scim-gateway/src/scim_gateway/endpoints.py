"""One ASGI endpoint per path, with an explicit table of methods (threat T42)."""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractContextManager, ExitStack

from starlette.requests import Request
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from scim.errors import MethodNotAllowed, NotFound
from scim_gateway.answers import Answer
from scim_gateway.auth import authenticate
from scim_gateway.edge import ROUTE

Handler = Callable[[Request], Awaitable[Answer]]

BASE = "/api/auth/scim/v2"
ENDPOINT = "scim_gateway.endpoint"  # scope key: the resource type's endpoint, such as /Users
HELD = "scim_gateway.held"  # scope key: what is released when the answer is sent


class NotAllowedHere(MethodNotAllowed):
    """405 with the methods that the endpoint takes, for the Allow header."""

    def __init__(self, methods: Mapping[str, Handler]) -> None:
        self.allow = ", ".join(sorted(methods))
        super().__init__(f"This endpoint takes {self.allow}.")


class Endpoint:
    """Answers the methods that it names, and no other: HEAD and OPTIONS are not implied by GET."""

    def __init__(self, template: str, methods: Mapping[str, Handler], endpoint: str = "") -> None:
        self._template = template
        self.methods = methods
        self._endpoint = endpoint

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope[ROUTE] = self._template
        scope[ENDPOINT] = self._endpoint
        handler = self.methods.get(scope["method"])
        if handler is None:
            raise NotAllowedHere(self.methods)
        with ExitStack() as scope[HELD]:
            response = await handler(Request(scope, receive, send))
            await response(scope, receive, send)


def hold(request: Request, slot: AbstractContextManager[object]) -> None:
    """Keep `slot` until the request is answered."""
    request.scope[HELD].enter_context(slot)


class Unknown:
    """Every path that is nothing: 404, under the SCIM base only to those who may know."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope[ROUTE] = "unknown"
        if scope["path"].startswith(BASE):
            await authenticate(Request(scope, receive, send))
        raise NotFound(f"There is no such endpoint; the SCIM endpoints are under {BASE}.")


def route(path: str, methods: Mapping[str, Handler], endpoint: str = "") -> Route:
    """A route under the SCIM base; `path` is also what the log calls it."""
    return Route(BASE + path, Endpoint(path, methods, endpoint))
