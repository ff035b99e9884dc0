"""What admins ask for, what the guard lets pass, and what is kept of it all: through the engine, on a real database."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from contracts import (
    FIRST_HASH,
    Change,
    EventRow,
    EventType,
    Operation,
    ResourceType,
    SubjectType,
    chained,
    digest_of,
)


@pytest.fixture
async def admin(world) -> UUID:
    """An account that is the organization's only admin."""
    account_id = await world.add_account("admin@example.com")
    role_id = await world.add_role("admin")
    await world.owner.execute("INSERT INTO grants (account_id, role_id) VALUES ($1, $2)", account_id, role_id)
    return account_id


async def users_of(world, count: int) -> list[UUID]:
    changes = [world.create(f"user{number}@example.com") for number in range(count)]
    await world.apply(*changes)
    return [change.resource_id for change in changes]


def deactivation(world, user_id: UUID, **fields) -> Change:
    return world.patch(user_id, {"op": "replace", "path": "active", "value": False}, **fields)


async def set_guard(world, **settings) -> None:
    for name, value in settings.items():
        await world.owner.execute(f"UPDATE connections SET {name} = $1", value)


# --- accounts


async def test_an_admin_makes_an_account_with_roles_and_takes_them_away_again(world):
    role_id = await world.add_role("editor")
    change = world.account_change(email="Eve@Example.com", display_name="Eve", grant=[role_id])
    assert (await world.apply_one(change)).status == 201
    assert await world.grants() == {(change.resource_id, role_id, None)}

    await world.apply(world.account_change(change.resource_id, revoke=[role_id]))

    assert await world.grants() == set()
    (account,) = await world.rows("accounts")
    assert (account["email"], account["email_key"], account["status"]) == (
        "Eve@Example.com",
        "eve@example.com",
        "active",
    )


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        ({"email": "taken@example.com"}, 409),
        ({"email": "no address"}, 400),
        ({"grant": [UUID(int=3)]}, 404),
    ],
)
async def test_an_account_that_cannot_be_is_refused_as_a_whole(world, request_, status):
    await world.add_account("taken@example.com")

    outcome = await world.apply_one(world.account_change(display_name="x", **request_))

    assert outcome.status == status
    assert len(await world.rows("accounts")) == 1


async def test_suspension_by_an_admin_ends_sessions_and_stands_until_the_identity_provider_says_something_new(world):
    (user,) = await users_of(world, 1)
    account = await world.account_of(user)
    await world.apply(world.account_change(account["id"], active=False))

    await world.apply(world.patch(user, {"op": "add", "path": "title", "value": "Dr"}))
    assert (await world.account_of(user))["status"] == "suspended"
    assert (await world.account_of(user))["epoch"] == account["epoch"] + 1

    await world.apply(deactivation(world, user), world.patch(user, {"op": "replace", "path": "active", "value": True}))
    assert (await world.account_of(user))["status"] == "active"


async def test_the_last_admin_can_neither_be_suspended_nor_lose_the_role(world, admin):
    (grant,) = await world.grants()
    spare = world.account_change(email="spare@example.com", display_name="Spare")
    await world.apply(spare)

    outcomes = await world.apply(
        world.account_change(admin, active=False),
        world.account_change(admin, revoke=[grant[1]]),
        world.account_change(spare.resource_id, grant=[grant[1]]),
        world.account_change(admin, active=False),
    )

    assert [outcome.status for outcome in outcomes] == [409, 409, 200, 200]


async def test_an_account_of_another_organization_is_unknown(world, admin):
    foreign = world.account_change(admin, active=False).model_copy(update={"organization_id": UUID(int=9)})

    assert (await world.apply_one(foreign)).status == 404


async def test_t01_a_refused_link_becomes_a_request_that_an_admin_can_approve(world, admin):
    create = world.create("admin@example.com")
    refused = await world.apply_one(create)
    assert (refused.status, refused.scim_type) == (409, "uniqueness")
    await world.apply(world.create("admin@example.com"))
    (request,) = await world.rows("link_requests")
    assert (request["account_id"], request["connection_id"], request["user_name"]) == (
        admin,
        world.connection_id,
        "admin@example.com",
    )

    await world.apply(world.account_change(admin, link=world.connection_id))
    created = await world.apply_one(world.create("admin@example.com"))

    assert created.status == 201
    assert (await world.account_of(created.resource_id))["id"] == admin
    (request,) = await world.rows("link_requests")
    assert (request["resolution"], request["resolved_by"]) == ("approved", "account:admin")


async def test_an_account_with_a_user_cannot_be_unlinked_and_one_without_can(world):
    (user,) = await users_of(world, 1)
    account = await world.account_of(user)
    unlink = world.account_change(account["id"], unlink=world.connection_id)
    assert (await world.apply_one(unlink)).status == 409

    await world.apply(world.delete(user))
    await world.apply(world.account_change(account["id"], unlink=world.connection_id))

    assert await world.rows("links") == []


async def test_a_break_glass_account_is_never_suspended_by_scim(world, admin):
    await world.apply(world.account_change(admin, break_glass=True, link=world.connection_id))
    create = world.create("admin@example.com")
    await world.apply(create)

    outcomes = await world.apply(deactivation(world, create.resource_id), world.delete(create.resource_id))

    assert [outcome.status for outcome in outcomes] == [403, 403]
    assert (await world.account_of(create.resource_id))["status"] == "active"


# --- guard, append-only


async def test_a_burst_of_deactivations_raises_one_alarm_and_passes(world):
    users = await users_of(world, 8)
    await set_guard(world, guard_users=2, guard_percent=30)

    outcomes = await world.apply(*(deactivation(world, user) for user in users[:5]))

    assert [outcome.status for outcome in outcomes] == [200] * 5
    alarms = [row for row in await world.rows("events") if row["type"] == EventType.GUARD_TRIPPED]
    assert [alarm["data"]["deactivated"] for alarm in alarms] == [3]
    (stats,) = await world.rows("connection_stats")
    assert stats["guard_tripped_at"] is not None
    assert stats["active_users"] == 3


async def test_the_brake_holds_what_is_more_and_an_admin_confirms_or_discards_it(world):
    users = await users_of(world, 6)
    await set_guard(world, guard_users=1, guard_percent=10, guard_holds=True)
    changes = [deactivation(world, user) for user in users[:4]]

    outcomes = await world.apply(*changes)
    assert [outcome.status for outcome in outcomes] == [200, 503, 503, 503]
    holds = {hold["user_id"]: hold for hold in await world.rows("holds")}
    assert set(holds) == set(users[1:4])

    held = Change.model_validate(holds[users[1]]["change"])
    fields = {"id": UUID(int=1), "hold_id": holds[users[1]]["id"], "token_id": None, "version": 2}
    confirmed = held.model_copy(update=fields)
    discarded = world.admin_change(Operation.DELETE, ResourceType.HOLD, holds[users[2]]["id"])
    again = deactivation(world, users[3])
    cancelled = world.patch(users[3], {"op": "replace", "path": "active", "value": True})
    outcomes = await world.apply(confirmed, discarded, again, cancelled)

    assert [outcome.status for outcome in outcomes] == [200, 204, 503, 200]
    resolutions = {hold["user_id"]: hold["resolution"] for hold in await world.rows("holds")}
    assert resolutions == {users[1]: "confirmed", users[2]: "discarded", users[3]: "cancelled"}
    states = {row["id"]: row["active"] for row in await world.rows("users")}
    assert [states[user] for user in users[:4]] == [False, False, True, True]


async def test_the_guard_counts_users_once_and_forgets_after_an_hour(world):
    users = await users_of(world, 3)
    await set_guard(world, guard_users=1, guard_percent=1, guard_holds=True)
    past = datetime.now(UTC) - timedelta(minutes=90)
    reactivate = {"op": "replace", "path": "active", "value": True}

    outcomes = await world.apply(
        deactivation(world, users[0], received_at=past),
        deactivation(world, users[1]),
        world.patch(users[1], reactivate),
        deactivation(world, users[1]),
    )

    assert [outcome.status for outcome in outcomes] == [200] * 4


async def test_a_released_brake_lets_everything_pass(world):
    users = await users_of(world, 4)
    until = datetime.now(UTC) + timedelta(minutes=5)
    await set_guard(world, guard_users=1, guard_percent=1, guard_holds=True, guard_released_until=until)

    outcomes = await world.apply(*(deactivation(world, user) for user in users))

    assert [outcome.status for outcome in outcomes] == [200] * 4


async def test_in_append_only_mode_nobody_is_suspended_and_what_would_have_been_is_told(world):
    users = await users_of(world, 2)
    await set_guard(world, append_only=True)

    outcomes = await world.apply(deactivation(world, users[0]), world.delete(users[1]))

    assert [outcome.status for outcome in outcomes] == [200, 204]
    assert {row["status"] for row in await world.rows("accounts")} == {"active"}
    kinds = [row["type"] for row in await world.rows("events")]
    assert kinds.count(EventType.DEACTIVATION_SKIPPED) == 2


# --- dry runs


async def test_a_dry_run_tells_what_would_happen_and_leaves_no_trace_but_its_outcome(world):
    (user,) = await users_of(world, 1)
    events = len(await world.rows("events"))

    outcome = await world.apply_one(deactivation(world, user, dry_run=True, version=2))

    (effect,) = outcome.effects.accounts
    assert (effect.before, effect.after) == ({"active": True}, {"active": False})
    assert (outcome.status, outcome.dry_run, outcome.resource["active"]) == (200, True, False)
    assert (await world.account_of(user))["status"] == "active"
    assert len(await world.rows("events")) == events
    assert (await world.apply_one(deactivation(world, user))).status == 200


async def test_a_refusal_is_foretold_as_such(world):
    await users_of(world, 1)

    outcome = await world.apply_one(world.create("user0@example.com", dry_run=True, version=2))

    assert (outcome.status, outcome.scim_type) == (409, "uniqueness")


# --- events


async def test_every_change_that_took_effect_has_its_event_and_the_chain_holds(world):
    (user,) = await users_of(world, 1)
    account = (await world.account_of(user))["id"]
    await world.apply(
        world.patch(user, {"op": "add", "path": "title", "value": "Dr"}),
        world.patch(user, {"op": "add", "path": "title", "value": "Dr"}),
        world.create("user0@example.com"),
        deactivation(world, user),
    )
    group = world.create_group("g", user)
    await world.apply(group, world.delete(user))

    rows = sorted(await world.rows("events"), key=lambda row: row["seq"])

    assert [(row["type"], row["subject_type"], row["subject_id"]) for row in rows] == [
        (EventType.CREATED, SubjectType.ACCOUNT, account),
        (EventType.PATCHED, SubjectType.ACCOUNT, account),
        (EventType.DEACTIVATED, SubjectType.ACCOUNT, account),
        (EventType.CREATED, SubjectType.GROUP, group.resource_id),
        (EventType.DELETED, SubjectType.ACCOUNT, account),
    ]
    assert rows[1]["data"] == {"userId": str(user), "before": {}, "after": {"title": "Dr"}}
    assert [row["seq"] for row in rows] == [1, 2, 3, 4, 5]
    previous = FIRST_HASH
    for row in rows:
        columns = {name: row[name] for name in EventRow.__slots__}
        assert row["digest"] == digest_of(row["data"])
        previous = chained(previous, EventRow(**columns), row["digest"])
        assert row["hash"] == previous


async def test_the_published_results_carry_the_committed_events(world):
    await users_of(world, 2)

    (results,) = world.published

    assert [event.seq for event in results.events] == [row["seq"] for row in await world.rows("events")]
