"""An organization's own schemas, from the table that `directory-sync schema` fills to what clients see."""

from collections.abc import AsyncIterator
from typing import Any

import pytest_asyncio

from directory_stand import Client, group, real_provisioner
from gateway_stand import Running, Tenant, patch, until, user

BADGE = "urn:example:params:scim:schemas:Badge"
TEAM = "urn:example:params:scim:schemas:Team"
BADGE_SCHEMA = {
    "id": BADGE,
    "name": "Badge",
    "attributes": [
        {"name": "level", "type": "integer"},
        {"name": "color", "type": "string"},
        {"name": "pin", "type": "string", "returned": "request"},
        {"name": "serial", "type": "string", "mutability": "readOnly"},
        {
            "name": "doors",
            "type": "complex",
            "multiValued": True,
            "subAttributes": [{"name": "value", "type": "string"}, {"name": "open", "type": "boolean"}],
        },
    ],
}
TEAM_SCHEMA = {"id": TEAM, "name": "Team", "attributes": [{"name": "costCenter", "required": True}]}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def provisioner(topics: str, postgres_module_database: str) -> AsyncIterator[None]:
    async with real_provisioner(topics, postgres_module_database):
        yield


@pytest_asyncio.fixture(loop_scope="session")
async def client(provisioner: None, gateway: Running, tenant: Tenant) -> Client:
    """A client of an organization with two schemas of its own."""
    for resource_type, document in (("User", BADGE_SCHEMA), ("Group", TEAM_SCHEMA)):
        await tenant.directory.owner.execute(
            "INSERT INTO extension_schemas (organization_id, urn, resource_type, document) VALUES ($1, $2, $3, $4)",
            tenant.organization_id,
            document["id"],
            resource_type,
            document,
        )
    return Client(gateway, tenant)


def badge(**values: Any) -> dict[str, Any]:
    return {BADGE: values}


async def test_discovery_shows_the_schemas_of_the_organization_and_of_no_other(client, directory):
    other = Client(client.gateway, await directory.add_connection())

    schemas = (await client.get("/Schemas"))["Resources"]
    assert {BADGE, TEAM} <= {schema["id"] for schema in schemas}
    shown = await client.get(f"/Schemas/{BADGE}")
    assert [attribute["name"] for attribute in shown["attributes"]] == ["level", "color", "pin", "serial", "doors"]
    assert shown in schemas
    types = {kind["name"]: kind["schemaExtensions"] for kind in (await client.get("/ResourceTypes"))["Resources"]}
    assert {"schema": BADGE, "required": False} in types["User"]
    assert types["Group"] == [{"schema": TEAM, "required": False}]

    assert (await other.send("GET", f"/Schemas/{BADGE}")).status_code == 404
    assert (await other.get("/ResourceTypes/Group"))["schemaExtensions"] == []


async def test_values_are_validated_stored_and_returned(client, directory):
    sent = badge(level=3, color="Blue", serial="of the client", unknown=1, doors=[{"value": "A", "open": True}])
    created = await client.send("POST", "/Users", json=user("ada@example.com", **sent))
    assert created.status_code == 201
    body = created.json()
    assert body[BADGE] == {"level": 3, "color": "Blue", "doors": [{"value": "A", "open": True}]}
    assert BADGE in body["schemas"]
    assert await client.get(f"/Users/{body['id']}") == body

    refused = await client.send("POST", "/Users", json=user("bob@example.com", **badge(level="high")))
    assert (refused.status_code, refused.json()["scimType"]) == (400, "invalidValue")
    assert "level" in refused.json()["detail"]
    other = Client(client.gateway, await directory.add_connection())
    elsewhere = await other.send("POST", "/Users", json=user("ada@example.com", **badge(level=3)))
    assert BADGE not in elsewhere.json()


async def test_values_are_patched_and_removed_with_put(client):
    path = f"/Users/{await client.add_user('ada@example.com', **badge(level=1))}"

    async def after(*operations: dict[str, Any]) -> Any:
        answer = await client.patch(path, *operations)
        assert answer.status_code == 200, answer.text
        assert answer.json() == await client.get(path)
        return answer.json().get(BADGE)

    assert await after({"op": "replace", "path": f"{BADGE}:level", "value": 2}) == {"level": 2}
    assert await after({"op": "add", "value": {f"{BADGE}:color": "red"}}) == {"level": 2, "color": "red"}
    opened = {"op": "add", "path": f'{BADGE}:doors[value eq "A"].open', "value": "True"}
    assert (await after(opened))["doors"] == [{"value": "A", "open": True}]
    assert await after({"op": "remove", "path": BADGE}) is None
    wrong = await client.patch(path, {"op": "replace", "path": f"{BADGE}:serial", "value": "x"})
    assert (wrong.status_code, wrong.json()["scimType"]) == (400, "mutability")
    await after({"op": "add", "path": BADGE, "value": {"level": 5}})
    replaced = await client.send("PUT", path, json=user("ada@example.com"))
    assert BADGE not in replaced.json()


async def test_values_are_found_sorted_and_projected(client):
    ids = [await client.add_user(f"user{level}", **badge(level=level, color="Blue", pin="7")) for level in (3, 1, 2)]
    await client.add_user("nobody")

    assert await client.found("/Users", f"{BADGE}:level gt 1") == [ids[0], ids[2]]
    assert await client.found("/Users", f'{BADGE}:color eq "BLUE" and {BADGE}:level eq 1') == [ids[1]]
    assert await client.found("/Users", f"not ({BADGE}:level pr)") not in ([], ids)
    listed = await client.get("/Users", sortBy=f"{BADGE}:level", filter=f"{BADGE}:level pr")
    assert [resource["id"] for resource in listed["Resources"]] == [ids[1], ids[2], ids[0]]
    path = f"/Users/{ids[0]}"
    assert "pin" not in (await client.get(path))[BADGE]
    assert (await client.get(path, attributes=f"{BADGE}:pin"))[BADGE] == {"pin": "7"}
    assert (await client.get(path, excludedAttributes=f"{BADGE}:color"))[BADGE] == {"level": 3}
    unknown = await client.send("GET", "/Users", params={"filter": "urn:example:other:level eq 1"})
    assert (unknown.status_code, unknown.json()["scimType"]) == (400, "invalidFilter")


async def test_groups_are_extended_too(client):
    created = await client.send("POST", "/Groups", json=group("Sales", **{TEAM: {"costCenter": "C1"}}))
    assert created.json()[TEAM] == {"costCenter": "C1"}
    assert await client.found("/Groups", f'{TEAM}:costCenter eq "c1"') == [created.json()["id"]]
    changed = await client.patch(
        f"/Groups/{created.json()['id']}", {"op": "replace", "path": f"{TEAM}:costCenter", "value": "C2"}
    )
    assert changed.json()[TEAM] == {"costCenter": "C2"}


async def test_a_schema_that_grows_is_seen_within_a_second(client, tenant):
    path = f"/Users/{await client.add_user('ada@example.com')}"
    grown = {**BADGE_SCHEMA, "attributes": [*BADGE_SCHEMA["attributes"], {"name": "photo", "type": "reference"}]}
    await tenant.directory.owner.execute(
        "UPDATE extension_schemas SET document = $2 WHERE organization_id = $1 AND urn = $3",
        tenant.organization_id,
        grown,
        BADGE,
    )

    async def patched() -> bool:
        operation = {"op": "add", "path": f"{BADGE}:photo", "value": "https://example.com/p"}
        answer = await client.send("PATCH", path, json=patch(operation))
        return answer.status_code == 200 and "photo" in answer.json()[BADGE]

    await until(patched, 3)
