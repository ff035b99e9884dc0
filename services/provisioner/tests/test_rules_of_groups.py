"""The rules of the directory for groups and memberships (design section 5), through the engine, on a real database."""

import random
from itertools import pairwise
from uuid import UUID

import pytest

from contracts import Change, Operation, ResourceType
from provisioner import rules
from provisioner.rules.groups import MAX_DEPTH


@pytest.fixture
async def users(world) -> list[UUID]:
    changes = [world.create(f"user{number}") for number in range(5)]
    await world.apply(*changes)
    return [change.resource_id for change in changes]


async def test_a_group_has_the_members_that_it_was_made_with(world, users):
    change = world.create_group("Engineering", *users[:2])

    outcome = await world.apply_one(change)

    assert (outcome.status, outcome.resource_version) == (201, 1)
    assert outcome.resource == {"displayName": "Engineering"}
    assert await world.members(change.resource_id) == set(users[:2])


async def test_a_display_name_is_taken_once_whatever_its_case(world):
    outcomes = await world.apply(world.create_group("Sales"), world.create_group("SALES"))

    assert [(outcome.status, outcome.scim_type) for outcome in outcomes] == [(201, None), (409, "uniqueness")]


async def test_members_come_and_go_by_their_differences(world, users):
    group = world.create_group("g", users[0], users[1])
    await world.apply(group)

    outcome = await world.apply_one(
        world.patch_group(group.resource_id, ("add", [users[2]]), ("remove", [users[0]]), ("add", [users[2], users[1]]))
    )

    assert (outcome.status, outcome.resource_version) == (200, 2)
    assert await world.members(group.resource_id) == {users[1], users[2]}


@pytest.mark.parametrize(
    "of",
    [
        lambda users: [("add", [users[0]])],
        lambda users: [("remove", [users[4]])],
        lambda users: [("remove", ["nobody", UUID(int=5)])],
        lambda users: [("remove", [users[0]]), ("add", [users[0]])],
        lambda users: [("replace", [users[0], users[1]])],
        lambda users: [("replace", []), ("add", users[:2])],
        lambda users: [("add", [users[3]]), ("replace", users[:2])],
    ],
)
async def test_what_changes_no_member_keeps_the_version(world, users, of):
    group = world.create_group("g", *users[:2])
    await world.apply(group)

    outcome = await world.apply_one(world.patch_group(group.resource_id, *of(users)))

    assert (outcome.status, outcome.resource_version) == (200, 1)
    assert await world.members(group.resource_id) == set(users[:2])


async def test_a_put_names_all_members_there_are(world, users):
    group = world.create_group("g", *users[:3])
    await world.apply(group)
    put = world.group_change(
        Operation.REPLACE, group.resource_id, resource={"displayName": "h"}, members=[("replace", users[2:])]
    )
    empty = world.group_change(Operation.REPLACE, group.resource_id, resource={"displayName": "h"})

    await world.apply(put)
    assert await world.members(group.resource_id) == set(users[2:])
    await world.apply(empty)
    assert await world.members(group.resource_id) == set()


@pytest.mark.parametrize("op", ["add", "replace"])
async def test_t06_one_unknown_member_refuses_all(world, users, op):
    group = world.create_group("g", users[0])
    await world.apply(group)

    outcome = await world.apply_one(world.patch_group(group.resource_id, (op, [users[1], UUID(int=9)])))

    assert (outcome.status, outcome.scim_type) == (400, "invalidValue")
    assert await world.members(group.resource_id) == {users[0]}


@pytest.mark.parametrize("text", ["not an id", "' or 1=1", ""])
async def test_a_member_that_can_be_nobodys_id_is_passed_over(world, users, text):
    group = world.create_group("g", users[0])
    await world.apply(group)

    outcome = await world.apply_one(world.patch_group(group.resource_id, ("add", [users[1], text])))

    assert outcome.status == 200
    assert await world.members(group.resource_id) == {users[0], users[1]}


async def test_t06_another_connections_user_is_no_member(world, users):
    foreign = world.create("foreign")
    await world.add_connection(foreign.resource_id, "entra")
    foreign = foreign.model_copy(update={"connection_id": foreign.resource_id, "token_id": None})
    group = world.create_group("g", users[0])

    outcomes = await world.apply(
        foreign, group, world.patch_group(group.resource_id, ("add", [users[1], foreign.resource_id]))
    )

    assert [outcome.status for outcome in outcomes] == [201, 201, 400]
    assert await world.members(group.resource_id) == {users[0]}


async def test_t03_another_connections_group_is_as_unknown_as_none(world, users):
    group = world.create_group("g", users[0])
    await world.apply(group)
    await world.add_connection(group.resource_id, "entra")

    def foreign(change: Change) -> Change:
        return change.model_copy(update={"connection_id": group.resource_id, "token_id": None})

    outcomes = await world.apply(
        foreign(world.patch_group(group.resource_id, ("replace", []))),
        foreign(world.group_change(Operation.REPLACE, group.resource_id, resource={"displayName": "x"})),
        foreign(world.group_change(Operation.DELETE, group.resource_id)),
    )

    assert [outcome.status for outcome in outcomes] == [404, 404, 404]
    assert await world.members(group.resource_id) == {users[0]}


@pytest.mark.parametrize("one_batch", [True, False])
async def test_a_deleted_user_leaves_its_groups_and_they_have_a_new_version(world, one_batch):
    user, group = world.create("ada"), None
    group = world.create_group("g", user.resource_id)
    changes = [user, group, world.delete(user.resource_id)]
    if one_batch:
        await world.apply(*changes)
    else:
        for change in changes:
            await world.apply(change)

    assert await world.members(group.resource_id) == set()
    (row,) = await world.rows("groups")
    assert row["version"] == 2


async def test_a_deleted_group_is_gone_and_its_members_stay(world, users):
    inner = world.create_group("inner", *users)
    outer = world.create_group("outer", inner.resource_id)
    await world.apply(inner, outer)

    outcomes = await world.apply(
        world.group_change(Operation.DELETE, inner.resource_id),
        world.group_change(Operation.DELETE, inner.resource_id),
        world.create_group("inner"),
    )

    assert [outcome.status for outcome in outcomes] == [204, 404, 201]
    assert await world.members(outer.resource_id) == set()
    assert len(await world.rows("users")) == 5
    assert (await world.rows("connection_stats"))[0]["groups"] == 2


@pytest.mark.parametrize("one_batch", [True, False])
async def test_t14_groups_cannot_hold_each_other_in_a_circle(world, one_batch):
    a, b, c = (world.create_group(name) for name in "abc")
    changes = [
        a,
        b,
        c,
        world.patch_group(a.resource_id, ("add", [b.resource_id])),
        world.patch_group(b.resource_id, ("add", [c.resource_id])),
        world.patch_group(c.resource_id, ("add", [a.resource_id])),
        world.patch_group(a.resource_id, ("add", [a.resource_id])),
        world.patch_group(b.resource_id, ("remove", [c.resource_id])),
        world.patch_group(c.resource_id, ("add", [a.resource_id])),
    ]
    if one_batch:
        outcomes = await world.apply(*changes)
    else:
        outcomes = [await world.apply_one(change) for change in changes]

    assert [outcome.status for outcome in outcomes] == [201, 201, 201, 200, 200, 400, 400, 200, 200]


async def test_t14_groups_nest_only_so_deep(world):
    groups = [world.create_group(f"g{number}") for number in range(MAX_DEPTH + 2)]
    await world.apply(*groups)
    nested = [world.patch_group(outer.resource_id, ("add", [inner.resource_id])) for outer, inner in pairwise(groups)]

    outcomes = await world.apply(*nested)

    assert [outcome.status for outcome in outcomes] == [200] * MAX_DEPTH + [400]


async def test_a_rename_to_a_taken_name_is_refused_and_members_stay(world, users):
    one, two = world.create_group("one"), world.create_group("two", users[0])
    await world.apply(one, two)
    rename = world.group_change(
        Operation.PATCH,
        two.resource_id,
        patch=[{"op": "replace", "path": "displayName", "value": "One"}],
        members=[("add", [users[1]])],
    )

    outcome = await world.apply_one(rename)

    assert outcome.status == 409
    assert await world.members(two.resource_id) == {users[0]}


async def test_a_closed_connection_loses_its_groups(world, users):
    await world.apply(world.create_group("g", *users))
    close = world.change(Operation.DELETE, world.connection_id, resource_type=ResourceType.CONNECTION, token_id=None)

    await world.apply(close)

    assert await world.rows("groups") == await world.rows("memberships") == []


@pytest.mark.parametrize("seed", range(5))
async def test_any_mixture_of_member_changes_ends_alike_in_one_batch_and_one_by_one(world, users, seed):
    dice = random.Random(seed)
    groups = [world.create_group(f"g{number}", *dice.sample(users, 2)) for number in range(3)]
    ids = [*users, *(group.resource_id for group in groups), UUID(int=1)]
    changes = [*groups]
    for _ in range(40):
        group = dice.choice(groups).resource_id
        op = dice.choice(["add", "remove", "replace"])
        changes.append(world.patch_group(group, (op, dice.sample(ids, dice.randint(0, 3)))))
    changes.insert(20, world.delete(users[0]))
    changes.insert(30, world.group_change(Operation.DELETE, groups[0].resource_id))

    together = [outcome.model_dump() for outcome in await world.apply(*changes)]
    state = await state_of(world)
    await world.owner.execute("TRUNCATE groups, memberships, outcomes, connection_stats")
    await world.owner.execute("DELETE FROM users")
    await world.owner.execute("DELETE FROM user_tombstones")
    await world.apply(*(world.create(f"user{n}", resource_id=user) for n, user in enumerate(users)))
    apart = [(await world.apply_one(change)).model_dump() for change in changes]

    assert together == apart
    assert await state_of(world) == state


async def state_of(world) -> list[tuple]:
    groups = await world.owner.fetch("SELECT id, display_name, version FROM groups ORDER BY id")
    members = await world.owner.fetch("SELECT * FROM memberships ORDER BY 1, 2")
    return [tuple(row.values()) for row in (*groups, *members)]


async def test_a_bulk_change_decides_its_operations_in_order_and_logs_each(world):
    user = world.create("ada")
    group = world.create_group("g", user.resource_id)
    refused = world.create("ADA")
    bulk = world.change(
        Operation.BULK, resource_type=ResourceType.BULK, changes=[user, group, refused, world.delete(user.resource_id)]
    )

    outcome = await world.apply_one(bulk)

    assert outcome.status == 200
    assert [part.status for part in outcome.outcomes] == [201, 201, 409, 204]
    assert len(await world.rows("outcomes")) == 5
    stats = (await world.rows("connection_stats"))[0]
    assert (stats["users"], stats["groups"]) == (0, 1)


async def test_a_bulk_change_stops_after_so_many_errors(world):
    changes = [world.create("ada"), world.create("ada"), world.create("ada"), world.create("bob")]
    bulk = world.change(Operation.BULK, resource_type=ResourceType.BULK, changes=changes, fail_on_errors=2)

    outcome = await world.apply_one(bulk)

    assert [part.status for part in outcome.outcomes] == [201, 409, 409]
    assert [row["user_name"] for row in await world.rows("users")] == ["ada"]


async def test_an_operation_that_the_gateway_refused_counts_and_is_logged(world):
    refusal = {"status": 400, "scim_type": "invalidValue", "detail": "userName is required"}
    refused = world.change(Operation.CREATE, refusal=refusal)
    changes = [world.create("ada"), refused, world.create("bob")]
    bulk = world.change(Operation.BULK, resource_type=ResourceType.BULK, changes=changes, fail_on_errors=1)

    outcome = await world.apply_one(bulk)

    assert [(part.status, part.scim_type) for part in outcome.outcomes] == [(201, None), (400, "invalidValue")]
    assert (await world.outcome(refused.id)).detail == "userName is required"
    assert [row["user_name"] for row in await world.rows("users")] == ["ada"]


async def test_a_bug_in_one_operation_of_a_bulk_change_harms_no_other(world, monkeypatch):
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setitem(rules.RULES, (ResourceType.GROUP, Operation.CREATE), fail)
    changes = [world.create("ada"), world.create_group("g"), world.create("bob")]
    bulk = world.change(Operation.BULK, resource_type=ResourceType.BULK, changes=changes)

    outcome = await world.apply_one(bulk)

    assert [part.status for part in outcome.outcomes] == [201, 500, 201]
    assert [row["change_id"] for row in await world.rows("quarantine")] == [changes[1].id]


async def test_t20_a_bulk_change_of_a_revoked_token_is_refused_as_a_whole(world):
    bulk = world.change(Operation.BULK, resource_type=ResourceType.BULK, changes=[world.create("ada")])
    await world.owner.execute("UPDATE tokens SET revoked_at = now()")

    outcome = await world.apply_one(bulk)

    assert (outcome.status, outcome.outcomes) == (401, None)
    assert len(await world.rows("outcomes")) == 1


async def test_an_organizations_own_schema_is_patched_like_any_other(world):
    urn = "urn:example:params:scim:schemas:extension:badge:2.0:User"
    badge = {"name": "badge", "type": "string", "multiValued": False}
    await world.owner.execute(
        "INSERT INTO extension_schemas (organization_id, urn, resource_type, document) VALUES ($1, $2, 'User', $3)",
        world.organization_id,
        urn,
        {"id": urn, "name": "Badge", "attributes": [badge]},
    )
    user = world.create("ada", resource={urn: {"badge": "1"}})
    await world.apply(user)
    patch = world.change(
        Operation.PATCH, user.resource_id, patch=[{"op": "replace", "path": f"{urn}:badge", "value": "2"}]
    )

    assert (await world.apply_one(patch)).resource[urn] == {"badge": "2"}
