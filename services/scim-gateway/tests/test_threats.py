"""Threats that show only with gateway and provisioner together."""

import asyncio
import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest_asyncio

from directory_stand import Client, group, real_provisioner
from gateway_stand import Running, patch, user

LONG = bool(os.environ.get("LONG"))


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def provisioner(topics: str, postgres_module_database: str) -> AsyncIterator[None]:
    async with real_provisioner(topics, postgres_module_database):
        yield


@pytest_asyncio.fixture(loop_scope="session")
async def two_clients(provisioner: None, gateway: Running, directory) -> tuple[Client, Client]:
    """Clients of two organizations."""
    one, other = [await directory.add_connection() for _ in range(2)]
    return Client(gateway, one), Client(gateway, other)


async def test_t04_a_name_of_another_organization_is_free_and_its_user_untouched(two_clients):
    mine, theirs = two_clients
    their_id = await theirs.add_user("ada@example.com", displayName="Ada of theirs", externalId="1")
    before = await theirs.get(f"/Users/{their_id}")
    my_id = await mine.add_user("ADA@example.com", displayName="Mallory", externalId="1")
    await mine.patch(f"/Users/{my_id}", {"op": "replace", "path": "active", "value": False})
    assert my_id != their_id
    assert await theirs.get(f"/Users/{their_id}") == before
    accounts = await mine.tenant.directory.owner.fetch(
        "SELECT organization_id, status FROM accounts WHERE organization_id = ANY($1::uuid[])",
        [mine.tenant.organization_id, theirs.tenant.organization_id],
    )
    assert {row["organization_id"]: row["status"] for row in accounts} == {
        mine.tenant.organization_id: "suspended",
        theirs.tenant.organization_id: "active",
    }


async def test_t05_taken_elsewhere_and_free_look_the_same(two_clients):
    mine, theirs = two_clients
    await theirs.add_user("taken@example.com", externalId="X1")
    await theirs.add_group("Taken")
    for name, external_id, group_name in (("taken@example.com", "X1", "Taken"), ("free@example.com", "X2", "Free")):
        assert await mine.found("/Users", f'userName eq "{name}" or externalId eq "{external_id}"') == []
        assert await mine.found("/Groups", f'displayName eq "{group_name}"') == []
        created = await mine.send("POST", "/Users", json=user(name, externalId=external_id))
        assert (created.status_code, created.json()["meta"]["version"]) == (201, 'W/"1"')
        assert (await mine.send("POST", "/Groups", json=group(group_name))).status_code == 201


async def test_t08_accounts_that_scim_did_not_make_are_neither_seen_nor_touched(two_clients, directory):
    client, _ = two_clients
    account_id, now = uuid4(), datetime.now(UTC)
    await directory.owner.execute(
        "INSERT INTO accounts (id, organization_id, email, email_key, display_name, status, created_at, updated_at)"
        " VALUES ($1, $2, 'local@example.com', 'local@example.com', 'Local', 'active', $3, $3)",
        account_id,
        client.tenant.organization_id,
        now,
    )
    assert (await client.get("/Users"))["totalResults"] == 0
    assert await client.found("/Users", f'userName eq "local@example.com" or id eq "{account_id}"') == []
    deactivation = patch({"op": "replace", "path": "active", "value": False})
    for method, body in (("GET", None), ("PUT", user("local@example.com")), ("PATCH", deactivation), ("DELETE", None)):
        assert (await client.send(method, f"/Users/{account_id}", json=body)).status_code == 404
    assert (await client.send("POST", "/Users", json=user("local@example.com"))).status_code == 409
    row = await directory.owner.fetchrow("SELECT status, updated_at FROM accounts WHERE id = $1", account_id)
    assert tuple(row) == ("active", now)


async def test_t10_a_clients_id_is_ignored_and_a_deleted_one_is_never_used_again(two_clients):
    mine, theirs = two_clients
    used = await theirs.add_user("gone@example.com")
    assert (await theirs.send("DELETE", f"/Users/{used}")).status_code == 204
    for client in (mine, theirs):
        new = await client.add_user("gone@example.com", id=used, meta={"location": "https://evil.example"})
        assert UUID(new) != UUID(used)
        assert (await client.send("GET", f"/Users/{used}")).status_code == 404
        assert (await client.send("PUT", f"/Users/{used}", json=user("gone@example.com"))).status_code == 404


async def test_t51_an_initial_sync_as_entra_does_it_is_never_429(two_clients):
    """For each user a lookup and a create, 25 of them at a time, nothing held back."""
    client, _ = two_clients
    names = iter([f"user{number}@example.com" for number in range(10_000 if LONG else 150)])

    async def sync() -> None:
        for name in names:
            assert await client.found("/Users", f'userName eq "{name}"') == []
            await client.add_user(name)

    await asyncio.gather(*(sync() for _ in range(25)))
