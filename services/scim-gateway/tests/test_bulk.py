"""POST /Bulk, gateway and provisioner together (RFC 7644 section 3.7, threat T37)."""

from collections.abc import AsyncIterator
from typing import Any

import pytest_asyncio

from directory_stand import Client, group, real_provisioner
from gateway_stand import Running, Tenant, changes_in_topic, patch, user

BULK_REQUEST = "urn:ietf:params:scim:api:messages:2.0:BulkRequest"
BULK_RESPONSE = "urn:ietf:params:scim:api:messages:2.0:BulkResponse"
ENTERPRISE = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"
BASE = "https://scim.example.com/api/auth/scim/v2"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def provisioner(topics: str, postgres_module_database: str) -> AsyncIterator[None]:
    async with real_provisioner(topics, postgres_module_database):
        yield


@pytest_asyncio.fixture(loop_scope="session")
async def client(provisioner: None, gateway: Running, tenant: Tenant) -> Client:
    return Client(gateway, tenant)


def bulk(*operations: Any, **fields: Any) -> dict[str, Any]:
    return {"schemas": [BULK_REQUEST], "Operations": list(operations), **fields}


def post(bulk_id: str, data: dict[str, Any]) -> dict[str, Any]:
    path = "/Groups" if "displayName" in data else "/Users"
    return {"method": "POST", "path": path, "bulkId": bulk_id, "data": data}


async def results(client: Client, *operations: Any, **fields: Any) -> list[dict[str, Any]]:
    answer = await client.send("POST", "/Bulk", json=bulk(*operations, **fields))
    assert answer.status_code == 200, answer.text
    assert answer.json()["schemas"] == [BULK_RESPONSE]
    return answer.json()["Operations"]


def id_of(result: dict[str, Any]) -> str:
    return result["location"].rpartition("/")[2]


def statuses(answered: list[dict[str, Any]]) -> list[str]:
    return [result["status"] for result in answered]


async def logged(tenant: Tenant) -> list[tuple[str, str, int]]:
    rows = await tenant.directory.owner.fetch(
        "SELECT resource_type, operation, status FROM outcomes WHERE connection_id = $1 ORDER BY change_id", tenant.id
    )
    return [tuple(row) for row in rows]


async def test_every_method_is_applied_answered_and_logged(client, tenant):
    ada, bob, cid = [await client.add_user(name) for name in ("ada", "bob", "cid")]
    before = await logged(tenant)

    answered = await results(
        client,
        post("new", user("dan")),
        {"method": "PUT", "path": f"/Users/{ada}", "data": user("ada", title="Fitter")},
        {
            "method": "patch",
            "path": f"/Users/{bob}",
            "version": 'W/"1"',
            "data": patch({"op": "Replace", "path": "active", "value": "False"}),
        },
        {"method": "DELETE", "path": f"/Users/{cid}"},
    )

    dan = id_of(answered[0])
    assert answered == [
        {"method": "POST", "bulkId": "new", "status": "201", "version": 'W/"1"', "location": f"{BASE}/Users/{dan}"},
        {"method": "PUT", "status": "200", "version": 'W/"2"', "location": f"{BASE}/Users/{ada}"},
        {"method": "PATCH", "status": "200", "version": 'W/"2"', "location": f"{BASE}/Users/{bob}"},
        {"method": "DELETE", "status": "204", "location": f"{BASE}/Users/{cid}"},
    ]
    assert (await client.get(f"/Users/{dan}"))["userName"] == "dan"
    assert (await client.get(f"/Users/{ada}"))["title"] == "Fitter"
    assert (await client.get(f"/Users/{bob}"))["active"] is False
    assert (await client.send("GET", f"/Users/{cid}")).status_code == 404
    assert sorted(set(await logged(tenant)) - set(before)) == [
        ("Bulk", "bulk", 200),
        ("User", "delete", 204),
        ("User", "patch", 200),
        ("User", "replace", 200),
    ]
    assert (await logged(tenant)).count(("User", "create", 201)) == 4


async def test_a_group_may_refer_to_users_that_the_same_request_creates_later(client):
    answered = await results(
        client,
        post("staff", group("Staff", "bulkId:ada", "bulkId:bob")),
        post("ada", user("ada")),
        post("bob", user("bob")),
        {
            "method": "PATCH",
            "path": "/Groups/bulkId:staff",
            "data": patch({"op": "remove", "path": 'members[value eq "bulkId:bob"]'}),
        },
    )

    staff, ada, _, change = answered
    assert statuses(answered) == ["201", "201", "201", "200"]
    assert change["location"] == staff["location"]
    assert await client.members(id_of(staff)) == [id_of(ada)]


async def test_managers_may_refer_to_each_other_in_a_circle(client):
    names = ["ada", "bob", "cid"]
    answered = await results(
        client,
        *(
            post(name, user(name, **{ENTERPRISE: {"manager": {"value": f"bulkId:{manager}"}}}))
            for name, manager in zip(names, [*names[1:], names[0]], strict=True)
        ),
    )

    assert statuses(answered) == ["201"] * 3
    assert [result["bulkId"] for result in answered] == names
    ids = [id_of(result) for result in answered]
    managers = [(await client.get(f"/Users/{user_id}"))[ENTERPRISE]["manager"]["value"] for user_id in ids]
    assert managers == [ids[1], ids[2], ids[0]]


async def test_groups_in_a_circle_are_refused_and_the_rest_is_done(client):
    answered = await results(
        client, post("a", group("A", "bulkId:b")), post("b", group("B", "bulkId:a")), post("ada", user("ada"))
    )
    assert statuses(answered)[2] == "201"
    assert "400" in statuses(answered)


async def test_without_fail_on_errors_everything_is_tried(client, tenant):
    answered = await results(
        client,
        post("ada", user("ada")),
        post("again", user("ADA")),
        post("bad", user("")),
        post("group", group("Staff", "bulkId:bad")),
        {"method": "DELETE", "path": "/Users/unknown"},
        {"method": "DELETE", "path": "/Users/00000000-0000-0000-0000-000000000000"},
        {"method": "GET", "path": "/Users"},
        post("bob", user("bob")),
    )

    assert statuses(answered) == ["201", "409", "400", "400", "404", "404", "400", "201"]
    assert [result.get("response", {}).get("scimType") for result in answered] == [
        None, "uniqueness", "invalidValue", "invalidValue", None, None, "invalidValue", None,
    ]  # fmt: skip
    assert all(result["response"]["status"] == result["status"] for result in answered[1:7])
    assert "location" not in answered[1]
    assert sorted(status for *_, status in await logged(tenant)) == [200, 201, 201, 400, 400, 400, 404, 404, 409]


async def test_fail_on_errors_counts_in_order_and_what_follows_is_not_done(client, tenant):
    answered = await results(
        client,
        post("ada", user("ada")),
        post("bad", user("")),
        post("again", user("ADA")),
        post("bob", user("bob")),
        failOnErrors=2,
    )

    assert [(result["bulkId"], result["status"]) for result in answered] == [
        ("ada", "201"),
        ("bad", "400"),
        ("again", "409"),
    ]
    assert [resource["userName"] for resource in (await client.get("/Users"))["Resources"]] == ["ada"]
    assert len(await logged(tenant)) == 4


async def test_t37_101_operations_are_refused_as_a_whole(client, tenant):
    refused = await client.send("POST", "/Bulk", json=bulk(*(post(str(n), user(f"u{n}")) for n in range(101))))
    assert (refused.status_code, refused.json()["status"]) == (413, "413")
    assert (await client.get("/Users"))["totalResults"] == 0
    assert set(await logged(tenant)) <= {("Bulk", "bulk", 413)}  # as the gateway tells it, a moment later

    answered = await results(client, *(post(str(n), user(f"u{n}")) for n in range(100)))
    assert statuses(answered) == ["201"] * 100
    assert (await client.get("/Users"))["totalResults"] == 100


async def test_t37_a_body_above_one_megabyte_is_refused_as_a_whole(client):
    large = post("ada", user("ada", nickName="x" * 8000))
    refused = await client.send("POST", "/Bulk", json=bulk(*(large for _ in range(140))))
    assert refused.status_code == 413


async def test_when_every_operation_is_refused_here_nothing_is_published(client, topics):
    before = await changes_in_topic(topics)
    answered = await results(client, post("a", user("")), {"method": "DELETE", "path": "/Users/7"}, failOnErrors=1)
    assert statuses(answered) == ["400"]
    assert await changes_in_topic(topics) == before


async def test_a_malformed_message_is_refused_as_a_whole(client):
    for body in ({}, bulk(), bulk(post("a", user("a")), failOnErrors=0), []):
        assert (await client.send("POST", "/Bulk", json=body)).status_code == 400
    assert (await client.get("/Users"))["totalResults"] == 0


async def test_the_log_keeps_each_operation_without_its_secrets(client, tenant):
    await results(client, post("ada", user("ada", password="canary-secret")))
    rows = await tenant.directory.owner.fetch("SELECT request::text FROM outcomes WHERE connection_id = $1", tenant.id)
    texts = [row["request"] for row in rows]
    assert len(texts) == 2
    assert all('"ada"' in text and "canary-secret" not in text for text in texts)


async def test_another_connections_resources_are_not_found(client, directory):
    stranger = await directory.add_connection()
    theirs = await stranger.add_user("theirs")
    answered = await results(client, {"method": "DELETE", "path": f"/Users/{theirs}"})
    assert statuses(answered) == ["404"]
