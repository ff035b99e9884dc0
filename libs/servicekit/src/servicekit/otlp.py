"""OpenTelemetry's SDK behind `servicekit.tracing`; imported only when traces are exported."""

import threading
from collections.abc import Mapping

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    Span,
    SpanKind,
    StatusCode,
    get_current_span,
    set_span_in_context,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from servicekit.tracing import Attributes, RequestSpan

CLOSE_SECONDS = 2.0

_HEADER = "traceparent"
_W3C = TraceContextTextMapPropagator()


class Tracer:
    """A tracer of our own: a global one would switch on the traces of libraries, which cost more than ours."""

    def __init__(self, service: str) -> None:
        self._provider = TracerProvider(resource=Resource.create({SERVICE_NAME: service}), shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("directory-sync")

    def close(self) -> None:
        """Export what is left, and wait for it no longer than CLOSE_SECONDS: no process lives on for a collector."""
        closing = threading.Thread(target=self._provider.shutdown, daemon=True)
        closing.start()
        closing.join(CLOSE_SECONDS)

    def begin(self, caller: str) -> RequestSpan | None:
        """See `tracing.begin`; `caller` is the caller's traceparent, or empty."""
        context = get_current_span(_extract(caller)).get_span_context() if caller else None
        links = [Link(context)] if context and context.is_valid else None
        span = self._tracer.start_span("request", context=Context(), kind=SpanKind.SERVER, links=links)
        return _Request(span) if span.is_recording() else None

    def record(
        self,
        name: str,
        parent: str,
        started: int,
        kind: str,
        ended: int | None,
        attributes: Attributes,
        events: Mapping[str, int],
    ) -> str | None:
        """See `tracing.record`."""
        context = _extract(parent)
        if not get_current_span(context).get_span_context().is_valid:
            return None
        span = self._tracer.start_span(
            name, context=context, kind=SpanKind[kind.upper()], attributes=dict(attributes), start_time=started
        )
        for event, at in events.items():
            span.add_event(event, timestamp=at)
        span.end(end_time=ended)
        return _traceparent(span)


class _Request:
    def __init__(self, span: Span) -> None:
        self._span = span
        self.traceparent = _traceparent(span)
        self.trace_id = self.traceparent[3:35]

    def end(self, method: str, route: str | None, status: int) -> None:
        self._span.update_name(f"{method} {route}" if route else method)
        self._span.set_attribute("http.request.method", method)
        if route:
            self._span.set_attribute("http.route", route)
        if status:
            self._span.set_attribute("http.response.status_code", status)
        if status >= 500:
            self._span.set_status(StatusCode.ERROR)
        self._span.end()


def _extract(traceparent: str) -> Context:
    return _W3C.extract({_HEADER: traceparent}, Context())


def _traceparent(span: Span) -> str:
    carrier: dict[str, str] = {}
    _W3C.inject(carrier, set_span_in_context(NonRecordingSpan(span.get_span_context()), Context()))
    return carrier[_HEADER]
