"""Roles by groups (design section 5, "Roles"): who gains and who loses, through the engine, on a real database."""

import random
from dataclasses import replace
from uuid import UUID

import pytest

from contracts import Change, Operation, ResourceType
from provisioner.engine import Engine


@pytest.fixture
async def users(world) -> list[UUID]:
    changes = [world.create(f"user{number}@example.com") for number in range(4)]
    await world.apply(*changes)
    return [change.resource_id for change in changes]


@pytest.fixture
async def editor(world) -> UUID:
    """A role that the group Editors gives."""
    role_id = await world.add_role("editor")
    await world.map_group("Editors", role_id)
    return role_id


@pytest.mark.usefixtures("editor")
async def test_who_becomes_a_member_of_a_mapped_group_gets_the_role_and_loses_it_on_leaving(world, users):
    group = world.create_group("Editors", users[0])
    await world.apply(group, world.patch_group(group.resource_id, ("add", [users[1]])))
    assert await world.roles_of(*users[:3]) == [["editor"], ["editor"], []]

    await world.apply(world.patch_group(group.resource_id, ("remove", [users[0]])))

    assert await world.roles_of(*users[:3]) == [[], ["editor"], []]


@pytest.mark.usefixtures("editor")
async def test_a_name_must_be_equal_in_every_letter(world, users):
    await world.apply(world.create_group("editors", users[0]))

    assert await world.roles_of(users[0]) == [[]]


async def test_a_mapping_of_one_connection_gives_nothing_in_another(world, users):
    other = UUID(int=7)
    await world.add_connection(other, "entra")
    await world.map_group("Editors", await world.add_role("editor"), connection_id=other)

    await world.apply(world.create_group("Editors", users[0]))

    assert await world.roles_of(users[0]) == [[]]


@pytest.mark.usefixtures("editor")
async def test_roles_follow_groups_within_groups_while_any_path_stands(world, users):
    inner, second = world.create_group("inner", users[0]), world.create_group("second", users[0])
    outer = world.create_group("Editors", inner.resource_id, second.resource_id, users[1])
    await world.apply(inner, second, outer)
    assert await world.roles_of(*users[:2]) == [["editor"], ["editor"]]

    await world.apply(world.patch_group(inner.resource_id, ("remove", [users[0]])))
    assert await world.roles_of(users[0]) == [["editor"]]

    await world.apply(world.patch_group(outer.resource_id, ("remove", [second.resource_id])))
    assert await world.roles_of(*users[:2]) == [[], ["editor"]]


@pytest.mark.usefixtures("editor")
async def test_both_ways_to_a_group_may_end_in_one_batch(world, users):
    inner = world.create_group("inner", users[0])
    outer = world.create_group("Editors", inner.resource_id)
    await world.apply(inner, outer)

    await world.apply(
        world.patch_group(outer.resource_id, ("remove", [inner.resource_id])),
        world.patch_group(inner.resource_id, ("remove", [users[0]])),
    )

    assert await world.grants() == set()


@pytest.mark.usefixtures("editor")
async def test_the_deletion_of_a_group_takes_its_roles_and_those_of_the_groups_above_it(world, users):
    inner = world.create_group("inner", users[0])
    outer = world.create_group("Editors", inner.resource_id, users[1])
    await world.apply(inner, outer)

    await world.apply(world.change(Operation.DELETE, inner.resource_id, resource_type=ResourceType.GROUP))
    assert await world.roles_of(*users[:2]) == [[], ["editor"]]

    await world.apply(world.change(Operation.DELETE, outer.resource_id, resource_type=ResourceType.GROUP))
    assert await world.grants() == set()


@pytest.mark.usefixtures("editor")
async def test_a_deleted_user_leaves_no_role_behind(world, users):
    await world.apply(world.create_group("Editors", users[0]))

    await world.apply(world.delete(users[0]))

    assert await world.grants() == set()


@pytest.mark.usefixtures("editor")
async def test_a_rename_drops_the_roles_of_the_old_name_and_gives_those_of_the_new(world, users):
    await world.map_group("Writers", await world.add_role("writer"))
    group = world.create_group("Editors", users[0])
    await world.apply(group)

    await world.apply(rename(world, group.resource_id, "Writers"))

    assert await world.roles_of(users[0]) == [["writer"]]


async def test_a_mapping_changes_nothing_for_members_until_it_is_applied(world, users):
    group = world.create_group("Editors", users[0])
    await world.apply(group)
    mapping = await world.map_group("Editors", await world.add_role("editor"))

    await world.apply(world.patch_group(group.resource_id, ("add", [users[1]])))
    assert await world.roles_of(*users[:2]) == [[], ["editor"]]

    applied = await world.apply_one(world.apply_mappings("Editors"))
    assert (applied.status, applied.effects.gained, applied.effects.lost) == (200, 1, 0)
    assert await world.roles_of(*users[:2]) == [["editor"], ["editor"]]

    await world.unmap(mapping)
    await world.apply(world.patch_group(group.resource_id, ("add", [users[2]])))
    assert await world.roles_of(*users[:3]) == [["editor"], ["editor"], []]

    applied = await world.apply_one(world.apply_mappings())
    assert (applied.effects.gained, applied.effects.lost) == (0, 2)
    assert await world.grants() == set()


async def test_a_preview_tells_what_a_mapping_would_do_and_does_nothing(world, users):
    group = world.create_group("Editors", users[0])
    role_id = await world.add_role("editor")
    await world.apply(group)

    preview = await world.apply_one(world.apply_mappings("Editors", dry_run=True, role_id=role_id))

    account = await world.account_of(users[0])
    assert [(e.account_id, e.role_id, e.group_id, e.gained) for e in preview.effects.grants] == [
        (account["id"], role_id, group.resource_id, True)
    ]
    assert await world.grants() == set()
    assert preview.dry_run


async def test_t12_a_group_that_takes_over_a_name_gets_no_protected_role(world, users):
    admin = await world.add_role("admin")
    await world.map_group("Admins", admin)
    first, second = world.create_group("Admins", users[0]), world.create_group("other", users[1])
    await world.apply(first, second)
    assert await world.roles_of(*users[:2]) == [["admin"], []]

    await world.apply(
        rename(world, first.resource_id, "former"),
        rename(world, second.resource_id, "Admins"),
        world.patch_group(second.resource_id, ("add", [users[2]])),
    )

    assert await world.roles_of(*users[1:3]) == [[], []]


async def test_t13_a_group_made_again_gets_no_protected_role_until_an_admin_confirms_it(world, users):
    admin = await world.add_role("admin")
    mapping = await world.map_group("Admins", admin)
    first = world.create_group("Admins", users[0], users[1])
    await world.apply(first)
    await world.apply(world.account_change((await world.account_of(users[3]))["id"], grant=[admin]))
    again = world.create_group("Admins", users[0])

    await world.apply(world.change(Operation.DELETE, first.resource_id, resource_type=ResourceType.GROUP), again)
    assert await world.roles_of(users[0]) == [[]]

    await world.unmap(mapping)
    await world.map_group("Admins", admin, group_ids=[again.resource_id])
    await world.apply(world.apply_mappings("Admins"))
    assert await world.roles_of(users[0]) == [["admin"]]


async def test_t15_the_last_admin_keeps_the_role_when_the_group_goes(world, users):
    admin = await world.add_role("admin")
    await world.map_group("Admins", admin)
    group = world.create_group("Admins", *users[:2])
    await world.apply(group)

    await world.apply(world.patch_group(group.resource_id, ("remove", users[:2])))

    (kept,) = await world.rows("grants")
    assert (kept["role_id"], kept["group_id"]) == (admin, None)
    assert "last admin" in kept["label"]
    assert "last-admin-kept" in (await world.rows("events"))[-1]["type"]


async def test_t15_deactivating_everybody_leaves_the_last_admin(world, users):
    admin = await world.add_role("admin")
    await world.map_group("Admins", admin)
    await world.apply(world.create_group("Admins", *users[:2]))

    outcomes = await world.apply(*(deactivation(world, user_id) for user_id in users))

    assert sorted(outcome.status for outcome in outcomes[:2]) == [200, 403]
    assert [outcome.status for outcome in outcomes[2:]] == [200, 200]


async def test_who_loses_the_admin_role_in_a_batch_counts_no_more_in_it(world, users):
    admin = await world.add_role("admin")
    await world.map_group("Admins", admin)
    group = world.create_group("Admins", *users[:2])
    await world.apply(group)

    outcomes = await world.apply(
        world.patch_group(group.resource_id, ("remove", [users[0]])), deactivation(world, users[1])
    )

    assert [outcome.status for outcome in outcomes] == [200, 403]


async def test_the_grants_of_a_deleted_connection_stay_as_manual_ones_that_say_where_they_came_from(world, users):
    await world.map_group("Editors", await world.add_role("editor"))
    await world.apply(world.create_group("Editors", users[0]))

    await world.apply(world.change(Operation.DELETE, world.connection_id, resource_type=ResourceType.CONNECTION))

    (grant,) = await world.rows("grants")
    assert grant["group_id"] is None
    assert grant["label"] == "by the group Editors of the deleted connection okta"


RECOMPUTED = """
    WITH RECURSIVE reached(user_id, account_id, group_id) AS (
        SELECT u.id, u.account_id, m.group_id FROM users u JOIN memberships m ON m.member_id = u.id
        UNION
        SELECT r.user_id, r.account_id, m.group_id FROM reached r JOIN memberships m ON m.member_id = r.group_id
    )
    SELECT DISTINCT r.account_id, m.role_id, g.id FROM reached r JOIN groups g ON g.id = r.group_id
    JOIN group_mappings m ON m.scim_group_name = g.display_name COLLATE "C"
"""


def random_moves(world, dice: random.Random, users: list[UUID], groups: list[UUID]) -> list[Change]:
    """Joins, leavings, nestings, renames, deletions: what can move roles, in any order."""
    changes: list[Change] = []
    for number in range(25):
        group = dice.choice(groups)
        match dice.randrange(10):
            case 0:
                changes.append(rename(world, group, f"name{dice.randrange(6)}"))
            case 1:
                changes.append(world.patch_group(group, ("add", [dice.choice(groups)])))
            case 2:
                changes.append(world.patch_group(group, ("remove", [dice.choice(groups)])))
            case 3:
                members = dice.sample(users, 2)
                changes.append(world.patch_group(group, ("replace", members)))
            case 4 if number % 3 == 0:
                changes.append(world.change(Operation.DELETE, group, resource_type=ResourceType.GROUP))
            case 5 if number % 5 == 0:
                changes.append(world.delete(dice.choice(users)))
            case kind:
                op = "add" if kind % 2 else "remove"
                changes.append(world.patch_group(group, (op, [dice.choice(users)])))
    return changes


@pytest.mark.parametrize("seed", range(8))
async def test_p8_roles_are_those_recomputed_from_memberships_and_mappings(world, seed):
    """With mappings that never change, and in one batch as one by one."""
    dice = random.Random(seed)
    for number in range(3):
        await world.map_group(f"name{number}", await world.add_role(f"role{number}"))
    users = [world.create(f"user{number}@example.com") for number in range(6)]
    groups = [world.create_group(f"name{number}") for number in range(5)]
    await world.apply(*users, *groups)

    moves = random_moves(world, dice, [user.resource_id for user in users], [group.resource_id for group in groups])
    first = await world.apply(*moves[:15])
    for change in moves[15:]:
        await world.apply(change)

    assert {outcome.status for outcome in first} <= {200, 204, 400, 404, 409}
    assert await world.grants() == {tuple(row) for row in await world.owner.fetch(RECOMPUTED)}


@pytest.mark.usefixtures("editor")
async def test_p10_a_token_revoked_between_loading_and_writing_writes_nothing(world, monkeypatch):
    rehearsed = Engine._rehearsed

    async def revoke_first(self, *arguments):
        monkeypatch.setattr(Engine, "_rehearsed", rehearsed)
        await world.owner.execute("UPDATE tokens SET revoked_at = now()")
        return await rehearsed(self, *arguments)

    monkeypatch.setattr(Engine, "_rehearsed", revoke_first)
    change = world.create("late@example.com")

    outcome = await world.apply_one(change)

    assert outcome.status == 401
    assert await world.rows("users") == []


def rename(world, group_id: UUID, name: str) -> Change:
    patch = [{"op": "replace", "path": "displayName", "value": name}]
    return world.change(Operation.PATCH, group_id, resource_type=ResourceType.GROUP, patch=patch)


def deactivation(world, user_id: UUID) -> Change:
    return world.patch(user_id, {"op": "replace", "path": "active", "value": False})


async def test_a_redelivered_batch_gives_no_role_twice(world, users, editor):
    start = world.claim
    group = world.create_group("Editors", users[0])
    await world.apply(group)
    world.claim = replace(start, next_offset=world.claim.next_offset)

    await world.apply(group)

    account = await world.account_of(users[0])
    assert await world.grants() == {(account["id"], editor, group.resource_id)}
