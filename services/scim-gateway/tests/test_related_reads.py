"""When membership is read: the table is taken away, and only what needs it fails."""

from collections.abc import AsyncIterator, MutableMapping
from typing import Any
from uuid import UUID

import pytest
import pytest_asyncio
from structlog.testing import capture_logs

from contracts import Operation, Outcome, ResourceType
from directory_stand import CORE_GROUP
from gateway_stand import Directory, Tenant, applied, patch, user
from servicekit.ids import uuid7


@pytest_asyncio.fixture(loop_scope="session")
async def group_id(tenant: Tenant) -> UUID:
    """A group with a member."""
    group_id, owner = uuid7(), tenant.directory.owner
    await owner.execute(
        "INSERT INTO groups (id, connection_id, display_name, display_name_key, resource, version, created_at,"
        " last_modified) VALUES ($1, $2, 'Sales', 'sales', $3, 1, now(), now())",
        group_id,
        tenant.id,
        {"displayName": "Sales"},
    )
    await owner.execute("INSERT INTO connection_stats (connection_id, groups) VALUES ($1, 1)", tenant.id)
    member = await tenant.add_user("ada@example.com")
    await owner.execute("INSERT INTO memberships VALUES ($1, $2, 'User')", group_id, member)
    return group_id


@pytest_asyncio.fixture(loop_scope="session")
async def no_memberships(directory: Directory, group_id: UUID) -> AsyncIterator[None]:
    """The gateway may not read the table."""
    await directory.owner.execute("REVOKE SELECT ON memberships FROM scim_gateway")
    yield
    await directory.owner.execute("GRANT SELECT ON memberships TO scim_gateway")


@pytest.mark.parametrize("path", ["/Groups/{group}", "/Groups", '/Groups?filter=displayName eq "sales"'])
async def test_groups_without_members_do_not_touch_the_table(gateway, tenant, group_id, no_memberships, path):
    path = path.format(group=group_id)
    separator = "&" if "?" in path else "?"
    for projection in (
        "excludedAttributes=members",
        "attributes=displayName",
        f"excludedAttributes={CORE_GROUP}:members",
    ):
        answer = await gateway.client.get(f"{path}{separator}{projection}", headers=tenant.auth)
        assert answer.status_code == 200
        resource = answer.json().get("Resources", [answer.json()])[0]
        assert (resource["displayName"], "members" in resource) == ("Sales", False)
    assert (await gateway.client.get(path, headers=tenant.auth)).status_code == 503


async def test_users_without_groups_do_not_touch_the_table(gateway, tenant, no_memberships):
    for path in ("/Users?excludedAttributes=groups", "/Users?attributes=userName"):
        answer = await gateway.client.get(path, headers=tenant.auth)
        assert [resource["userName"] for resource in answer.json()["Resources"]] == ["ada@example.com"]
    assert (await gateway.client.get("/Users", headers=tenant.auth)).status_code == 503


async def test_a_change_that_is_done_is_answered_also_when_membership_cannot_be_read(
    gateway, tenant, script, group_id, no_memberships
):
    """The answer goes without what cannot be read; a success never becomes a failure (P1)."""

    def applied_to_group(change) -> Outcome:
        return applied(change).model_copy(update={"resource": {"displayName": "Sales"}})

    script.answer = applied_to_group
    renamed = patch({"op": "replace", "path": "displayName", "value": "Sales"})
    answer = await gateway.client.patch(f"/Groups/{group_id}", json=renamed, headers=tenant.auth)
    assert (answer.status_code, answer.json()["displayName"], "members" in answer.json()) == (200, "Sales", False)
    script.answer = applied
    answer = await gateway.client.put(f"/Users/{uuid7()}", json=user(), headers=tenant.auth)
    assert (answer.status_code, "groups" in answer.json()) == (200, False)


async def test_a_new_user_has_no_groups_to_be_read(gateway, tenant, script, no_memberships):
    with capture_logs() as logs:
        created = await gateway.client.post("/Users", json=user(), headers=tenant.auth)
        assert (created.status_code, refused_reads(logs)) == (201, 0)
        await gateway.client.put(f"/Users/{uuid7()}", json=user(), headers=tenant.auth)
        assert refused_reads(logs) == 1


def refused_reads(logs: list[MutableMapping[str, Any]]) -> int:
    return sum(line["event"] == "postgres.unavailable" for line in logs)


async def test_members_travel_apart_from_the_resource(gateway, tenant, script):
    """A group's change holds differences, so that nobody loads a group to add one member."""
    members = [str(uuid7()) for _ in range(3)]
    document = {"schemas": [CORE_GROUP], "displayName": "Sales"}
    put = {**document, "members": [{"value": member, "display": "x"} for member in (*members, members[2])]}
    await gateway.client.put(f"/Groups/{uuid7()}", json=put, headers=tenant.auth)
    operations = patch(
        {"op": "add", "path": "members", "value": [{"value": members[0]}]},
        {"op": "replace", "path": "displayName", "value": "Support"},
        {"op": "remove", "path": f'members[value eq "{members[1]}"]'},
    )
    await gateway.client.patch(f"/Groups/{uuid7()}", json=operations, headers=tenant.auth)

    replaced, patched = script.seen
    assert (replaced.resource_type, replaced.operation) == (ResourceType.GROUP, Operation.REPLACE)
    assert replaced.resource == {"displayName": "Sales"}
    assert [(change.op, change.values) for change in replaced.members] == [("replace", tuple(members))]
    assert patched.patch == [{"op": "replace", "path": "displayName", "value": "Support"}]
    assert [(change.op, change.values) for change in patched.members] == [
        ("add", (members[0],)),
        ("remove", (members[1],)),
    ]
