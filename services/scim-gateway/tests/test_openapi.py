"""The OpenAPI document: it names every endpoint, and what is answered fits it, whatever was sent (promise P12).

schemathesis makes requests that fit the document and requests that do not. `make fuzz` sends more of them.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest
import pytest_asyncio
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from directory_stand import Client, real_provisioner
from gateway_stand import Running, Tenant
from scim.schema import CORE_GROUP, CORE_USER
from scim_gateway.app import scim_routes
from scim_gateway.endpoints import BASE, Endpoint
from scim_gateway.openapi import described

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "200"))
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    response_headers_conformance,
]
LONGEST_URL = 8_192  # characters that are always read
CORE = {"userName": CORE_USER, "displayName": CORE_GROUP}
MODES = (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def provisioner(topics: str, postgres_module_database: str) -> AsyncIterator[None]:
    async with real_provisioner(topics, postgres_module_database):
        yield


@pytest_asyncio.fixture(loop_scope="session")
async def client(provisioner: None, gateway: Running, tenant: Tenant) -> Client:
    return Client(gateway, tenant)


def test_every_endpoint_is_described_with_its_methods():
    routes = {
        (route.path.removeprefix(BASE), method.lower())
        for route in scim_routes("http://127.0.0.1/x")
        if isinstance(route.app, Endpoint)
        for method in route.app.methods
    }
    paths = described("http://127.0.0.1/x")["paths"]
    documented = {(path, name) for path, item in paths.items() for name in item if name != "parameters"}
    assert documented == routes - {("/openapi.json", "get")}


async def test_it_is_served_to_connections_with_their_own_schemas(gateway, tenant):
    assert (await gateway.client.get("/openapi.json")).status_code == 401
    answer = await gateway.client.get("/openapi.json", headers=tenant.auth)
    assert answer.headers["content-type"] == "application/json"
    document = answer.json()
    assert document == orjson.loads(orjson.dumps(described("https://scim.example.com" + BASE)))
    user = document["components"]["schemas"]["User"]
    assert user["required"] == ["schemas", "id", "meta", "userName"]
    assert user["properties"]["id"]["readOnly"]
    assert user["properties"]["password"]["writeOnly"]


def requests(document: dict[str, Any], ids: dict[str, str]) -> st.SearchStrategy[Any]:
    """Requests of every operation, on a resource that there is or on anything; /Me is 501 and is tested elsewhere."""
    schema = schemathesis.openapi.from_dict(document)
    operations = [result.ok() for result in schema.get_all_operations() if isinstance(result, Ok)]
    strategies = [
        operation.as_strategy(generation_mode=mode)
        for operation in operations
        if operation.path != "/Me"
        for mode in MODES
    ]

    def aimed(case: Any, is_known: bool, name: str | None) -> Any:
        known = ids.get(case.operation.path.split("/")[1])
        if is_known and known and "{id}" in case.operation.path:
            case.path_parameters = {"id": known}
        required = {"Users": "userName", "Groups": "displayName"}.get(case.operation.path.split("/")[1])
        if name and required and isinstance(case.body, dict) and required in case.body:
            kept = sorted(case.body)[:2]  # what is generated for all of them together is never right
            case.body = {key: case.body[key] for key in kept if key in case.body} | {"schemas": [CORE[required]]}
            case.body[required] = name
        return case

    return st.builds(aimed, st.one_of(strategies), st.booleans(), st.none() | st.sampled_from(["ada", "bob", "eve"]))


@pytest.mark.timeout(1800 if EXAMPLES > 1000 else 120)
async def test_t36_answers_fit_the_document_whatever_was_sent(client, gateway):
    ids = {"Users": await client.add_user("victim"), "Groups": await client.add_group("victims")}
    base_url = f"http://127.0.0.1:{gateway.port}{BASE}"

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        phases=(Phase.generate,),
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
        database=None,
    )
    @given(requests(described(base_url), ids))
    def answers_fit(case: Any) -> None:
        answer = case.call(base_url=base_url, headers=client.tenant.auth, timeout=60)
        if answer.status_code == 431:  # refused by the HTTP parser, before there is a request to describe
            assert len(answer.request.url or "") > LONGEST_URL
            return
        case.validate_response(answer, checks=CHECKS)

    await asyncio.to_thread(answers_fit)
    assert await client.tenant.directory.owner.fetchval("SELECT count(*) FROM quarantine") == 0
