"""Traces, off unless OTEL_EXPORTER_OTLP_ENDPOINT is set: until then no part of OpenTelemetry is even imported.

A trace begins with a request that came to us. It travels as a W3C `traceparent` string, in a change and in the headers
of records, and only when it is sampled: where there is none, there is nothing to do. Spans hold what the code knows
(routes, operations, statuses, ids that we minted), never what a client has sent (promise P15).
"""

import os
from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, Protocol

import structlog

if TYPE_CHECKING:
    from servicekit.otlp import Tracer

type Attributes = Mapping[str, str | int | float | bool]

_tracer: "Tracer | None" = None
_current: ContextVar[str | None] = ContextVar("traceparent", default=None)


class RequestSpan(Protocol):
    """The span of a request that is under way."""

    @property
    def trace_id(self) -> str: ...

    @property
    def traceparent(self) -> str: ...

    def end(self, method: str, route: str | None, status: int) -> None:
        """End it; it is named by method and route."""


def configure(service: str) -> None:
    """Export traces when the environment says where to; the SDK reads the other `OTEL_…` variables itself."""
    global _tracer
    if os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT") and os.environ.get("OTEL_SDK_DISABLED", "").lower() != "true":
        from servicekit.otlp import Tracer

        _tracer = Tracer(os.environ.get("OTEL_SERVICE_NAME") or service)


def flush() -> None:
    """Export what is left, within two seconds; for the end of a process."""
    if _tracer:
        _tracer.close()


def begin(headers: Iterable[tuple[bytes, bytes]]) -> RequestSpan | None:
    """The span of a request with these headers, or None when it is not sampled. The log names the trace.

    Always the root of a trace of our own: who calls decides neither our trace ids nor our sampling. The caller's own
    `traceparent` becomes a link.
    """
    if _tracer is None:
        return None
    span = _tracer.begin(next((value for name, value in headers if name == b"traceparent"), b"").decode("latin-1"))
    _current.set(span.traceparent if span else None)
    if span:
        structlog.contextvars.bind_contextvars(trace_id=span.trace_id)
    return span


def traceparent() -> str | None:
    """What to give to whoever goes on with the request's work; None when it is not sampled."""
    return _current.get()


def record(
    name: str,
    parent: str | None,
    started: int,
    *,
    kind: str = "internal",
    ended: int | None = None,
    attributes: Attributes | None = None,
    events: Mapping[str, int] | None = None,
) -> str | None:
    """Record a span that is over, as a child of `parent` (a traceparent), and return its own traceparent.

    `started`, `ended` (default: now) and the times of `events` are nanoseconds since the epoch; `kind` is internal,
    client, producer or consumer. Without a parent nothing is recorded.
    """
    if _tracer is None or not parent:
        return None
    return _tracer.record(name, parent, started, kind, ended, attributes or {}, events or {})
