"""Whatever is sent to any endpoint, the answer is well-formed and never a 500 (promise P12), with the real provisioner
behind it. `make fuzz` sends more of it than the tests do.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from typing import Any

import httpx
import orjson
import pytest_asyncio
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from directory_stand import Client, group, real_provisioner
from gateway_stand import Running, Tenant, patch, user

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "150"))
ERROR = "urn:ietf:params:scim:api:messages:2.0:Error"
BULK = "urn:ietf:params:scim:api:messages:2.0:BulkRequest"
SEARCH = "urn:ietf:params:scim:api:messages:2.0:SearchRequest"
ENTERPRISE = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def provisioner(topics: str, postgres_module_database: str) -> AsyncIterator[None]:
    async with real_provisioner(topics, postgres_module_database):
        yield


@pytest_asyncio.fixture(loop_scope="session")
async def client(provisioner: None, gateway: Running, tenant: Tenant) -> Client:
    return Client(gateway, tenant)


NAMES = ["ada", "bob@example.com", "ADA", "", "Straße", "\u0131", "a" * 300, "7", "False", "work", "bulkId:a"]
ATTRIBUTES = [
    "schemas", "id", "externalId", "userName", "name", "displayName", "active", "emails", "members", "groups", "roles",
    "meta", "title", "x509Certificates", "addresses", "primary", "type", "value", "givenName", "manager", "$ref",
    "urn:ietf:params:scim:schemas:core:2.0:User", "name.givenName", ENTERPRISE, f"{ENTERPRISE}:manager",
]  # fmt: skip
SCALARS = st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats() | st.sampled_from(NAMES) | st.text()
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(ATTRIBUTES), inner, max_size=5),
    max_leaves=12,
)
PATHS = st.sampled_from(ATTRIBUTES) | st.builds(
    lambda name, sub, text, end: f'{name}[{sub} eq "{text}"]{end}',
    st.sampled_from(ATTRIBUTES),
    st.sampled_from(ATTRIBUTES),
    st.sampled_from(NAMES),
    st.sampled_from(["", ".value", ".type", ".$ref", ".x"]),
)
OPERATIONS = st.fixed_dictionaries(
    {"op": st.sampled_from(["add", "Replace", "remove", "move"])},
    optional={"path": PATHS, "value": VALUES},
)
CHANGED = st.dictionaries(st.sampled_from(ATTRIBUTES), VALUES, max_size=4)
USERS = st.builds(lambda name, changed: user(name) | changed, st.sampled_from(NAMES), CHANGED)
GROUPS = st.builds(lambda name, changed: group(name) | changed, st.sampled_from(NAMES), CHANGED)
PATCHES = st.lists(OPERATIONS, max_size=4).map(lambda operations: patch(*operations))
CONTENTS = USERS | GROUPS | PATCHES | VALUES
TARGETS = st.sampled_from(["/Users", "/Groups", "/Users/{user}", "/Groups/{group}", "/Users/bulkId:a", "/Users/7"])
METHODS = st.sampled_from(["GET", "POST", "PUT", "PATCH", "DELETE"])
PARTS = st.fixed_dictionaries(
    {"method": METHODS, "path": TARGETS},
    optional={"bulkId": st.sampled_from(["a", "b"]), "data": CONTENTS, "version": st.sampled_from(NAMES)},
)
BULKS = st.builds(
    lambda operations, limit: {"schemas": [BULK], "Operations": operations, "failOnErrors": limit},
    st.lists(PARTS, max_size=4),
    st.none() | st.integers(0, 3),
)
TERMS = st.builds(
    lambda path, operator, value: f"{path} {operator} {value}",
    PATHS,
    st.sampled_from(["eq", "ne", "co", "sw", "ew", "gt", "ge", "lt", "le", "pr", "xx"]),
    st.sampled_from(['"ada"', "true", "null", "7", '"2026-01-02T03:04:05Z"', '"\\u0000"', '"ß"', ""]),
)
FILTERS = st.recursive(
    TERMS,
    lambda inner: st.builds("not ({})".format, inner) | st.builds("{} {} {}".format, inner,
                                                                 st.sampled_from(["and", "or"]), inner),
    max_leaves=4,
)  # fmt: skip
QUERIES = st.fixed_dictionaries(
    {},
    optional={
        "filter": FILTERS,
        "sortBy": st.sampled_from(ATTRIBUTES),
        "sortOrder": st.sampled_from(["ascending", "descending", "x"]),
        "startIndex": st.integers(-5, 2**70),
        "count": st.integers(-5, 300),
        "cursor": st.sampled_from(["", "7"]),
        "attributes": PATHS,
        "excludedAttributes": PATHS,
    },
)
SEARCHES = QUERIES.map(lambda query: {"schemas": [SEARCH], **query})
REQUESTS = st.one_of(
    st.tuples(st.just("POST"), st.sampled_from(["/Users", "/Groups"]), st.just({}), CONTENTS),
    st.tuples(st.just("PUT"), TARGETS, QUERIES, CONTENTS),
    st.tuples(st.just("PATCH"), TARGETS, st.just({}), PATCHES),
    st.tuples(st.just("POST"), st.just("/Bulk"), st.just({}), BULKS | CONTENTS),
    st.tuples(st.just("GET"), st.sampled_from(["/Users", "/Groups", "/Schemas", "/Me"]), QUERIES, st.none()),
    st.tuples(st.just("POST"), st.sampled_from(["/Users/.search", "/Groups/.search"]), st.just({}), SEARCHES),
    st.tuples(METHODS, TARGETS | st.sampled_from(["/Me", "/.search", "/ResourceTypes/User", "/x"]), QUERIES, CONTENTS),
)


def is_well_formed(answer: httpx.Response) -> bool:
    """A SCIM answer; an error's status is text, and the same as the answer's."""
    if answer.status_code in (204, 304):
        return not answer.content
    document = answer.json()
    if answer.headers["content-type"].partition(";")[0] != "application/scim+json":
        return False
    return answer.status_code < 400 or (document["schemas"], document["status"]) == ([ERROR], str(answer.status_code))


async def test_t36_no_request_gets_a_500(client, tenant):
    loop = asyncio.get_running_loop()
    ids = {"user": await client.add_user("victim"), "group": await client.add_group("victims")}

    async def send(method: str, path: str, query: dict[str, Any], body: Any) -> httpx.Response:
        options: dict[str, Any] = {"params": query}
        if body is not None:
            options["content"] = orjson.dumps(body, option=orjson.OPT_NON_STR_KEYS)
        return await client.send(method, path.format(**ids), **options)

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
        database=None,
    )
    @given(REQUESTS)
    def requests_are_answered(request: tuple[str, str, dict[str, Any], Any]) -> None:
        try:
            sent = send(*request)
            answer = asyncio.run_coroutine_threadsafe(sent, loop).result(60)
        except (orjson.JSONEncodeError, httpx.InvalidURL):  # what no client could send either
            return
        assert answer.status_code < 500 or answer.status_code == 501, answer.text
        assert is_well_formed(answer), answer.text

    await asyncio.to_thread(requests_are_answered)
    assert await tenant.directory.owner.fetchval("SELECT count(*) FROM quarantine") == 0
