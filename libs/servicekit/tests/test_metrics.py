"""Metrics: where they are served, what they are called, and that their number is bounded."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator

import httpx
import pytest
from prometheus_client import REGISTRY

from devstack.ports import HOST, free_port
from servicekit import metrics
from servicekit.http import PortInUse
from servicekit.metrics import OUTCOMES, Requests, outcome_of


class Span:
    """A request's span, ended at most once."""

    trace_id = "0af7651916cd43dd8448eb211c80319c"
    traceparent = f"00-{trace_id}-b7ad6b7169203331-01"

    def __init__(self) -> None:
        self.ended: list[tuple[str, str | None, int]] = []

    def end(self, method: str, route: str | None, status: int) -> None:
        self.ended.append((method, route, status))


@pytest.fixture(scope="module")
def requests() -> Iterator[Requests]:
    requests = Requests("test")
    yield requests
    REGISTRY.unregister(requests._duration)


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        *((0, "abandoned"), (200, "success"), (204, "success"), (304, "success"), (400, "refused"), (404, "refused")),
        *((401, "unauthenticated"), (429, "throttled"), (500, "error"), (502, "error"), (503, "unavailable")),
    ],
)
def test_a_status_has_one_of_the_outcomes(status: int, outcome: str):
    assert outcome_of(status) == outcome
    assert outcome in OUTCOMES


def test_a_request_is_counted_by_route_method_and_outcome(requests: Requests):
    labels = {"route": "/Users/{id}", "method": "GET", "outcome": "refused"}
    before = REGISTRY.get_sample_value("test_request_duration_seconds_count", labels) or 0

    requests.done("/Users/{id}", "GET", 404, 0.1, None)
    requests.done("/Users/{id}", "GET", 409, 0.1, None)

    assert REGISTRY.get_sample_value("test_request_duration_seconds_count", labels) == before + 2


def test_t66_methods_that_clients_invent_share_one_series(requests: Requests):
    for number in range(10_000):
        requests.done(None, f"METHOD{number}", 405, 0.1, None)

    methods = {labels["method"] for labels in (sample.labels for sample in _samples("test_request_duration_seconds"))}
    assert methods <= metrics.METHODS | {"other"}
    assert len(requests._children) < 10


async def test_a_traced_request_leaves_an_exemplar_in_the_openmetrics_format(requests: Requests):
    span, port = Span(), free_port()

    requests.done("/Users", "POST", 201, 0.1, span)

    until_it_listens = httpx.AsyncHTTPTransport(retries=8)
    async with metrics.served(HOST, port), httpx.AsyncClient(transport=until_it_listens) as http:
        url = f"http://{HOST}:{port}/metrics"
        plain = await http.get(url)
        open_metrics = await http.get(url, headers={"accept": "application/openmetrics-text"})
    assert span.ended == [("POST", "/Users", 201)]
    assert plain.headers["content-type"].startswith("text/plain")
    assert span.trace_id in open_metrics.text
    assert span.trace_id not in plain.text


async def test_metrics_are_not_served_without_a_port_and_a_used_port_is_named():
    async with metrics.served(HOST, 0):
        pass
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        with pytest.raises(PortInUse):
            async with metrics.served(HOST, taken.getsockname()[1]):
                pass


@pytest.mark.parametrize(
    ("variables", "loaded"), [({}, ""), ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}, "sdk")]
)
def test_opentelemetry_is_imported_only_when_traces_are_exported(variables: dict[str, str], loaded: str):
    code = """if True:
        import sys
        from servicekit import metrics, postgres, tracing
        tracing.configure("test")
        assert (tracing.begin([]) is None) == (not sys.argv[1])
        assert (tracing.traceparent() is None) == (not sys.argv[1])
        tracing.flush()
        print("sdk" if "opentelemetry.sdk.trace" in sys.modules else "api" if "opentelemetry" in sys.modules else "")
    """

    ran = subprocess.run(
        [sys.executable, "-c", code, loaded],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=30,
    )

    assert (ran.returncode, ran.stdout.strip()) == (0, loaded), ran.stderr


def test_a_collector_that_never_answers_does_not_keep_a_process_from_ending():
    code = """if True:
        import time
        from servicekit import tracing
        tracing.configure("test")
        span = tracing.begin([])
        span.end("GET", "/Users", 200)
        started = time.monotonic()
        tracing.flush()
        print(time.monotonic() - started)
    """
    with socket.socket() as silent:
        silent.bind((HOST, 0))
        silent.listen()
        variables = {**os.environ, "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{HOST}:{silent.getsockname()[1]}"}

        ran = subprocess.run([sys.executable, "-c", code], env=variables, capture_output=True, text=True, timeout=30)

    assert ran.returncode == 0, ran.stderr
    assert float(ran.stdout) < 4


def _samples(name: str) -> Iterator:
    for family in REGISTRY.collect():
        if family.name == name:
            yield from family.samples
