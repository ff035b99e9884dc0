"""Metrics of a service: the process's registry, served on a port of its own; requests by route, method and outcome.

Labels hold what the code knows beforehand (routes, methods, reasons), never what a client has sent or somebody is
called, so the number of series does not grow with them (threat T66).
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from prometheus_client import REGISTRY, Histogram, disable_created_metrics
from prometheus_client.exposition import choose_encoder
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from servicekit import http
from servicekit.tracing import RequestSpan

# The age of each series doubles their number and nobody asks for it.
disable_created_metrics()

# Seconds. 0.25 and 1 are objectives (deploy/observability), 10 is the gateway's deadline.
DURATIONS = (0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
OUTCOMES = ("success", "refused", "unauthenticated", "throttled", "unavailable", "error", "abandoned")
METHODS = frozenset(("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"))

_OF_STATUS = {0: "abandoned", 401: "unauthenticated", 429: "throttled", 503: "unavailable"}


class Requests:
    """`<service>_request_duration_seconds` by route, method and outcome; its count is the number of requests."""

    def __init__(self, service: str) -> None:
        self._duration = Histogram(
            f"{service}_request_duration_seconds",
            "Time from a request's headers to the end of its answer.",
            ("route", "method", "outcome"),
            buckets=DURATIONS,
        )
        self._children: dict[tuple[str | None, str, int], Histogram] = {}

    def done(self, route: str | None, method: str, status: int, seconds: float, span: RequestSpan | None) -> None:
        """Count a request and end its span; `route` is a template, None before one was found, status 0 no answer."""
        if method not in METHODS:
            method = "other"
        child = self._children.get((route, method, status)) or self._child(route, method, status)
        if span is None:
            child.observe(seconds)
        else:
            span.end(method, route, status)
            child.observe(seconds, {"trace_id": span.trace_id})

    def _child(self, route: str | None, method: str, status: int) -> Histogram:
        child = self._duration.labels(route or "none", method, outcome_of(status))
        self._children[route, method, status] = child
        return child


def outcome_of(status: int) -> str:
    """One of OUTCOMES for an HTTP status: "refused" is the client's to mend, "error" and "unavailable" are ours."""
    if known := _OF_STATUS.get(status):
        return known
    if status < 400:
        return "success"
    return "refused" if status < 500 else "error"


@asynccontextmanager
async def served(host: str, port: int) -> AsyncIterator[None]:
    """Answer `GET /metrics` within the block, in the Prometheus or the OpenMetrics format; port 0: do not.

    Raises PortInUse.
    """
    if not port:
        yield
        return
    http.check_port(host, port)
    ended = asyncio.Event()
    serving = asyncio.create_task(http.serve(Starlette(routes=[Route("/metrics", scrape)]), host, port, ended))
    try:
        yield
    finally:
        ended.set()
        await serving


async def scrape(request: Request) -> Response:
    """All metrics of this process; exemplars only in the OpenMetrics format."""
    encode, content_type = choose_encoder(request.headers.get("accept", ""))
    return Response(encode(REGISTRY), headers={"Content-Type": content_type})
