"""Metrics and traces of the running stack: there, complete, and bounded whatever its users do (threat T66)."""

import re
import uuid

import httpx
import pytest

from e2e import metrics
from e2e.admin import Organization
from e2e.collector import Collector, Span
from e2e.scim import Scim, client, new_name, user
from e2e.stack import HOUSE, Stack, until

pytestmark = pytest.mark.last

CALLER = "0af7651916cd43dd8448eb211c80319c"
# From the identity provider's request to the transaction, and back.
WHOLE = {
    ("scim-gateway", "POST /Users"),
    ("scim-gateway", "send scim.changes"),
    ("provisioner", "apply User create"),
    ("provisioner", "transaction"),
    ("scim-gateway", "receive scim.outcomes"),
}


@pytest.fixture
def measured(stack: Stack) -> Stack:
    if not stack.metrics_urls:
        pytest.skip("this stack does not say where its metrics are")
    return stack


def test_the_metrics_that_a_query_names_are_found():
    query = 'sum by (le, route) (rate(a_bucket{le="1.0", x="y_z"}[5m])) / c:d > 0.5 or absent(e) and time() - f > 1'

    assert metrics.names_of(query) == {"a_bucket", "c:d", "e", "f"}


async def test_every_metric_of_a_dashboard_or_an_alert_is_scraped(
    measured: Stack, scim: Scim, organization: Organization
):
    await scim.create(user())
    await organization.admin.request("GET", "/api/auth/get-session")
    queries = metrics.queries()
    recorded = {name for name in queries if name.startswith("scim:")}

    there = {name for name, _ in await metrics.series(measured)} | recorded

    assert {where: names for where, query in queries.items() if (names := metrics.names_of(query) - there)} == {}


async def test_every_metric_of_ours_is_documented(measured: Stack):
    text = (HOUSE / "docs" / "observability.md").read_text()
    endings = tuple(re.findall(r"`…(\w+)`", text))

    ours = {name for name in re.findall(r"^# TYPE (\w+) ", await metrics.scrape(measured), re.M) if "_" in name}

    undocumented = {name for name in ours if f"`{name}`" not in text and not name.endswith(endings)}
    assert {name for name in undocumented if not name.startswith(("python_", "process_"))} == set()


async def test_t66_metrics_are_not_on_the_port_that_clients_reach(measured: Stack, scim: Scim):
    origins = {httpx.URL(url).copy_with(path="/") for url in (measured.scim_url, measured.admin_url)}

    async with httpx.AsyncClient(trust_env=False) as http:
        statuses = [(await http.get(origin.join("/metrics"))).status_code for origin in origins]

    assert statuses == [404, 404]


async def test_t66_series_do_not_grow_with_connections_tokens_and_what_clients_send(
    measured: Stack, organization: Organization
):
    await use_a_connection(measured, organization, "warm-up")
    before = await metrics.series(measured)

    for number in range(15):
        await use_a_connection(measured, organization, f"canary-{number}-{uuid.uuid4().hex[:8]}")

    grown = {
        each for each in await metrics.series(measured) - before if not each[0].startswith(("process_", "python_"))
    }
    assert {name for name, _ in grown} == set()


async def use_a_connection(stack: Stack, organization: Organization, provider_id: str) -> None:
    """Everything that could make a series of its own."""
    issued = await organization.admin.generate_token(provider_id)
    async with client(stack.scim_url, issued["scimToken"]) as scim:
        made = await scim.create(user())
        await scim.request("POST", "/Users", user(made["userName"]))
        await scim.request("GET", f"/Users/{uuid.uuid4()}")
        await scim.request("GET", f"/Users/{provider_id}")
        await scim.request("GET", f"/{provider_id}/{uuid.uuid4().hex}")
        await scim.request(f"BREW{uuid.uuid4().hex[:6].upper()}", "/Users")
        await scim.request("GET", "/Users", headers={"authorization": f"Bearer {provider_id}"})
    await organization.admin.http.get(f"/{provider_id}")
    await organization.admin.delete_connection(provider_id)


async def test_a_request_is_one_trace_to_the_transaction_and_back(chaos_stack: Stack, collector: Collector):
    name = new_name()
    async with client(chaos_stack.scim_url, chaos_stack.token) as scim:
        headers = {"traceparent": f"00-{CALLER}-b7ad6b7169203331-01"}
        created = await scim.request("POST", "/Users", user(name), headers=headers)

    await until(lambda: len(trace_of(collector)) >= len(WHOLE), "the whole trace", 20)

    assert created.status_code == 201
    spans = {(span.service, span.name): span for span in trace_of(collector)}
    assert set(spans) == WHOLE
    root, applied = spans["scim-gateway", "POST /Users"], spans["provisioner", "apply User create"]
    # The caller's trace is linked, not continued: who calls decides neither our ids nor our sampling.
    assert (root.parent_id, root.trace_id == CALLER) == ("", False)
    assert spans["provisioner", "transaction"].parent_id == applied.span_id
    assert {span.parent_id for span in spans.values()} == {"", root.span_id, applied.span_id}
    assert root.started <= applied.started <= spans["provisioner", "transaction"].ended <= root.ended
    assert root.trace_id in await metrics.scrape(chaos_stack, metrics.OPENMETRICS), "no exemplar leads to the trace"


def trace_of(collector: Collector) -> list[Span]:
    """The spans of the trace whose root links to CALLER."""
    spans = collector.spans()
    ours = {span.trace_id for span in spans if CALLER in span.links}
    return [span for span in spans if span.trace_id in ours]
