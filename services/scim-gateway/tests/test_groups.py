"""Groups, their members, and the groups of users: gateway and provisioner together."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from directory_stand import Client, group, real_provisioner
from gateway_stand import Running, Tenant, until, user

BASE = "https://scim.example.com/api/auth/scim/v2"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def provisioner(topics: str, postgres_module_database: str) -> AsyncIterator[None]:
    async with real_provisioner(topics, postgres_module_database):
        yield


@pytest_asyncio.fixture(loop_scope="session")
async def client(provisioner: None, gateway: Running, tenant: Tenant) -> Client:
    return Client(gateway, tenant)


def add(*members: str) -> dict:
    return {"op": "add", "path": "members", "value": [{"value": member} for member in members]}


async def test_a_group_is_created_read_replaced_renamed_and_deleted(client):
    ada = await client.add_user("ada@example.com", displayName="Ada L.")
    bob = await client.add_user("bob@example.com")
    created = await client.send("POST", "/Groups", json=group("Sales", ada, externalId="S1"))
    body = created.json()
    path = f"/Groups/{body['id']}"

    assert created.status_code == 201
    assert created.headers["location"] == body["meta"]["location"] == BASE + path
    assert created.headers["etag"] == body["meta"]["version"] == 'W/"1"'
    assert body["members"] == [
        {"value": ada, "$ref": f"{BASE}/Users/{ada}", "type": "User"},
    ]
    assert await client.get(path) == body
    assert (await client.get("/Groups"))["Resources"] == [body]

    replaced = await client.send("PUT", path, json=group("Sales", bob))
    assert (replaced.status_code, replaced.headers["etag"]) == (200, 'W/"2"')
    assert [member["value"] for member in replaced.json()["members"]] == [bob]
    assert "externalId" not in replaced.json()

    renamed = await client.patch(path, {"op": "replace", "value": {"id": body["id"], "displayName": "Marketing"}})
    assert (renamed.status_code, renamed.json()["displayName"]) == (200, "Marketing")
    assert await client.members(body["id"]) == [bob]

    emptied = await client.send("PUT", path, json=group("Marketing"))
    assert emptied.json()["members"] == []
    assert (await client.send("DELETE", path)).status_code == 204
    assert (await client.send("GET", path)).status_code == 404


async def test_members_are_patched_in_every_dialect(client):
    one, two, three = [await client.add_user(f"user{number}@example.com") for number in range(3)]
    group_id = await client.add_group("Everybody", one)
    path = f"/Groups/{group_id}"

    async def after(*operations: dict) -> list[str]:
        answer = await client.patch(path, *operations)
        assert answer.status_code == 200, answer.text
        assert answer.json() == await client.get(path)
        return [member["value"] for member in answer.json()["members"]]

    assert await after(add(two), {"op": "Add", "path": "members", "value": [{"$ref": None, "value": three}]}) == [
        one,
        two,
        three,
    ]
    assert await after(add(one)) == [one, two, three]
    assert await after({"op": "Remove", "path": "members", "value": [{"value": one}]}) == [two, three]
    assert await after({"op": "remove", "path": f'members[value eq "{two}"]'}) == [three]
    assert await after({"op": "replace", "path": "members", "value": [{"value": one}]}) == [one]
    assert await after({"op": "add", "value": {"members": [{"value": two}], "displayName": "All"}}) == [one, two]
    assert await after({"op": "remove", "path": "members"}) == []
    assert (await client.get(path))["displayName"] == "All"


async def test_an_unknown_or_foreign_member_is_refused_and_nothing_changed(client, directory):
    """Threat T6."""
    other = Client(client.gateway, await directory.add_connection())
    mine, foreign = await client.add_user("ada@example.com"), await other.add_user("eve@example.com")
    group_id = await client.add_group("Sales", mine)
    for stranger in (foreign, "00000000-0000-0000-0000-000000000000"):
        answer = await client.patch(f"/Groups/{group_id}", add(mine, stranger))
        assert (answer.status_code, answer.json()["scimType"]) == (400, "invalidValue")
    assert await client.members(group_id) == [mine]
    assert (await other.send("GET", f"/Groups/{group_id}")).status_code == 404
    assert await other.found("/Groups", f'members.value eq "{mine}"') == []
    assert await other.found("/Users", f'groups.value eq "{group_id}"') == []


async def test_a_search_at_the_root_finds_users_and_groups(client):
    ada, bob = await client.add_user("ada@example.com"), await client.add_user("bob@example.com")
    sales = await client.add_group("Sales", ada)

    async def found(**query):
        body = {"schemas": ["urn:ietf:params:scim:api:messages:2.0:SearchRequest"], **query}
        answer = await client.send("POST", "/.search", json=body)
        assert answer.status_code == 200, answer.text
        page = answer.json()
        return page["totalResults"], [resource["id"] for resource in page.get("Resources", ())]

    assert await found() == (3, [ada, bob, sales])
    assert await found(startIndex=2, count=2) == (3, [bob, sales])
    assert await found(startIndex=3, count=1) == (3, [sales])
    assert await found(count=0) == (3, [])
    assert await found(filter='displayName eq "Sales" or userName sw "bob"') == (2, [bob, sales])
    assert await found(filter='meta.resourceType eq "Group"') == (1, [sales])
    refused = await client.send(
        "POST", "/.search", json={"schemas": ["urn:ietf:params:scim:api:messages:2.0:SearchRequest"], "sortBy": "id"}
    )
    assert (refused.status_code, refused.json()["scimType"]) == (400, "invalidValue")


async def test_a_name_is_taken_once(client):
    await client.add_group("Sales")
    answer = await client.send("POST", "/Groups", json=group("SALES"))
    assert (answer.status_code, answer.json()["scimType"]) == (409, "uniqueness")


async def test_users_carry_their_groups_also_indirect_ones(client):
    ada = await client.add_user("ada@example.com")
    inner = await client.add_group("Inner", ada)
    outer = await client.add_group("Outer", inner)
    top = await client.add_group("Top", outer, ada)
    await client.add_user("bob@example.com")

    path = f"/Users/{ada}"
    groups = (await client.get(path))["groups"]
    assert groups == [
        {"value": inner, "$ref": f"{BASE}/Groups/{inner}", "display": "Inner", "type": "direct"},
        {"value": outer, "$ref": f"{BASE}/Groups/{outer}", "display": "Outer", "type": "indirect"},
        {"value": top, "$ref": f"{BASE}/Groups/{top}", "display": "Top", "type": "direct"},
    ]
    listed = (await client.get("/Users"))["Resources"]
    assert [resource.get("groups") for resource in listed] == [groups, None]
    assert (await client.patch(path, {"op": "add", "path": "title", "value": "Dr"})).json()["groups"] == groups
    assert (await client.send("PUT", path, json=user("ada@example.com"))).json()["groups"] == groups
    assert (await client.get(path, attributes="groups.display"))["groups"] == [
        {"display": "Inner"},
        {"display": "Outer"},
        {"display": "Top"},
    ]
    assert "groups" not in await client.get(path, excludedAttributes="groups")
    nested = await client.patch(f"/Groups/{inner}", add(top))
    assert (nested.status_code, nested.json()["scimType"]) == (400, "invalidValue")
    members = (await client.get(f"/Groups/{top}"))["members"]
    assert [member["type"] for member in members] == ["User", "Group"]


@pytest.mark.parametrize(
    ("path", "query", "expected"),
    [
        ("/Groups", 'displayName eq "SALES"', ["sales"]),
        ("/Groups", 'externalId eq "S1"', ["sales"]),
        ("/Groups", 'externalId eq "s1"', []),
        ("/Groups", 'members.value eq "{ada}"', ["sales", "top"]),
        ("/Groups", 'members eq "{ada}"', ["sales", "top"]),
        ("/Groups", 'members[value eq "{sales}"]', ["top"]),
        ("/Groups", 'members[value eq "{ada}" and type eq "Group"]', []),
        ("/Groups", "not (members pr)", ["empty"]),
        ("/Groups", 'members.$ref ew "/Groups/{sales}"', ["top"]),
        ("/Groups", 'meta.created gt "2020-01-01T00:00:00Z" and displayName co "p"', ["top", "empty"]),
        ("/Users", 'groups.value eq "{sales}"', ["ada", "bob"]),
        ("/Users", 'groups eq "{top}"', ["ada", "bob"]),
        ("/Users", 'groups.display eq "Sales"', ["ada", "bob"]),
        ("/Users", 'groups[value eq "{top}" and type eq "direct"]', ["ada"]),
        ("/Users", "groups pr", ["ada", "bob"]),
        ("/Users", "not (groups pr)", ["eve"]),
        ("/Users", 'groups.value eq "nothing"', []),
    ],
)
async def test_filters_on_membership_find_what_they_say(client, path, query, expected):
    ids = {name: await client.add_user(f"{name}@example.com") for name in ("ada", "bob", "eve")}
    ids["sales"] = await client.add_group("Sales", ids["ada"], ids["bob"], externalId="S1")
    ids["top"] = await client.add_group("Top", ids["sales"], ids["ada"])
    ids["empty"] = await client.add_group("Empty")

    assert await client.found(path, query.format(**ids)) == [ids[name] for name in expected]


async def test_concurrent_patches_of_a_group_lose_nothing_and_never_conflict(client):
    users = [await client.add_user(f"user{number}@example.com") for number in range(40)]
    group_id = await client.add_group("Crowded", *users[:20])
    path = f"/Groups/{group_id}"
    answers = await asyncio.gather(
        *(client.patch(path, add(member)) for member in users[20:]),
        *(client.patch(path, {"op": "remove", "path": f'members[value eq "{member}"]'}) for member in users[:20]),
    )
    assert {answer.status_code for answer in answers} == {200}
    assert set(await client.members(group_id)) == set(users[20:])


async def test_a_version_that_is_known_is_304_and_an_old_one_412(client):
    group_id = await client.add_group("Sales")
    path = f"/Groups/{group_id}"
    assert (await client.send("GET", path, headers={"If-None-Match": 'W/"1"'})).status_code == 304
    rename = {"op": "replace", "path": "displayName", "value": "Support"}
    first = await client.patch(path, rename, headers={"If-Match": 'W/"1"'})
    second = await client.patch(path, rename, headers={"If-Match": 'W/"1"'})
    assert (first.status_code, second.status_code) == (200, 412)
    assert (await client.send("GET", path, headers={"If-None-Match": 'W/"1"'})).status_code == 200
    assert (await client.send("PUT", path, json=group("x"), headers={"If-Match": 'W/"1"'})).status_code == 412
    assert (await client.send("DELETE", path, headers={"If-Match": 'W/"1"'})).status_code == 412


async def test_a_connection_may_have_its_group_patches_answered_with_204(client, tenant, directory):
    ada = await client.add_user("ada@example.com")
    path = f"/Groups/{await client.add_group('Sales')}"
    assert (await client.patch(path, add(ada))).status_code == 200
    await directory.owner.execute("UPDATE connections SET group_patch_answer = 'none' WHERE id = $1", tenant.id)

    async def is_silent() -> bool:
        answer = await client.patch(path, {"op": "add", "path": "displayName", "value": "Sales"})
        return answer.status_code == 204

    await until(is_silent, 3)
    changed = await client.patch(path, {"op": "replace", "path": "displayName", "value": "Marketing"})
    assert (changed.status_code, changed.content, changed.headers["etag"]) == (204, b"", 'W/"3"')
    assert (await client.get(path))["displayName"] == "Marketing"
    asked = await client.patch(path, add(ada), params={"attributes": "displayName"})
    assert (asked.status_code, asked.json()["displayName"]) == (200, "Marketing")
    user = await client.patch(f"/Users/{ada}", {"op": "replace", "path": "title", "value": "Dr"})
    assert (user.status_code, user.json()["title"]) == (200, "Dr")
    assert (await client.send("PUT", path, json=group("Sales", ada))).status_code == 200
