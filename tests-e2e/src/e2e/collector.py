"""An OpenTelemetry collector in this process: what the services export over OTLP/HTTP, as it came and as spans."""

import gzip
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

MAX_EXPORTS = 5_000  # the oldest are forgotten; one holds up to 512 spans


@dataclass(frozen=True)
class Span:
    """One exported span; ids in hexadecimal, times in nanoseconds since the epoch."""

    service: str
    name: str
    kind: int
    trace_id: str
    span_id: str
    parent_id: str
    links: tuple[str, ...]
    started: int
    ended: int
    attributes: dict[str, str]


class Collector:
    """What was exported so far."""

    def __init__(self, endpoint: str) -> None:
        self.variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_BSP_SCHEDULE_DELAY": "500"}
        """What makes a service export to here."""
        self.exports: deque[bytes] = deque(maxlen=MAX_EXPORTS)

    def spans(self) -> list[Span]:
        return [span for export in list(self.exports) for span in _spans(export)]


@contextmanager
def collecting() -> Iterator[Collector]:
    """A collector on a free port, in a thread of its own."""

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            collector.exports.append(gzip.decompress(body) if self.headers["content-encoding"] == "gzip" else body)
            self.send_response(200 if self.path == "/v1/traces" else 404)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as server:
        collector = Collector(f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield collector
        finally:
            server.shutdown()
            thread.join()


def _spans(export: bytes) -> Iterator[Span]:
    for resource in ExportTraceServiceRequest.FromString(export).resource_spans:
        named = {each.key: each.value.string_value for each in resource.resource.attributes}
        for scope in resource.scope_spans:
            for span in scope.spans:
                yield Span(
                    service=named["service.name"],
                    name=span.name,
                    kind=span.kind,
                    trace_id=span.trace_id.hex(),
                    span_id=span.span_id.hex(),
                    parent_id=span.parent_span_id.hex(),
                    links=tuple(link.trace_id.hex() for link in span.links),
                    started=span.start_time_unix_nano,
                    ended=span.end_time_unix_nano,
                    attributes={each.key: str(each.value) for each in span.attributes},
                )
