"""The rules of the directory for users (design section 5), through the engine, on a real database."""

from datetime import timedelta

import pytest

from contracts import Change, Operation, ResourceType
from provisioner.rules.decision import matches_version

ADA = {"name": {"givenName": "Ada", "familyName": "Lovelace"}, "externalId": "x1"}


async def test_a_new_user_becomes_an_active_account(world):
    change = world.create("ada@example.com", resource=ADA)

    outcome = await world.apply_one(change)

    assert (outcome.status, outcome.resource_id, outcome.resource_version) == (201, change.resource_id, 1)
    assert outcome.resource == {"userName": "ada@example.com", "active": True, **ADA}
    account = await world.account_of(change.resource_id)
    assert (account["email"], account["display_name"], account["status"]) == (
        "ada@example.com",
        "Ada Lovelace",
        "active",
    )
    assert account["id"] != change.resource_id


@pytest.mark.parametrize(
    ("resource", "email"),
    [
        (
            {"userName": "ada@example.com", "emails": [{"value": "other@example.com", "primary": True}]},
            "ada@example.com",
        ),
        ({"userName": "ada", "emails": [{"value": "a@x.org"}, {"value": "b@x.org", "primary": True}]}, "b@x.org"),
        ({"userName": "ada", "emails": [{"value": "a@x.org"}, {"value": "b@x.org"}]}, "a@x.org"),
        ({"userName": "ada"}, None),
    ],
)
async def test_the_account_takes_its_email_from_user_name_then_primary_then_first(world, resource, email):
    change = world.change(Operation.CREATE, resource=resource)

    await world.apply(change)

    assert (await world.account_of(change.resource_id))["email"] == email


@pytest.mark.parametrize(
    ("resource", "name"),
    [
        ({"name": {"givenName": "Ada", "familyName": "L", "formatted": "no"}}, "Ada L"),
        ({"name": {"formatted": "Ada L."}, "displayName": "no"}, "Ada L."),
        ({"displayName": "Ada"}, "Ada"),
        ({}, "ada"),
    ],
)
async def test_the_account_takes_its_name_from_what_comes_nearest(world, resource, name):
    change = world.create("ada", resource=resource)

    await world.apply(change)

    assert (await world.account_of(change.resource_id))["display_name"] == name


async def test_a_user_name_is_taken_once_whatever_its_case(world):
    first, second = world.create("Ada@Example.com"), world.create("ada@example.COM")

    outcomes = await world.apply(first, second)

    assert [outcome.status for outcome in outcomes] == [201, 409]
    assert outcomes[1].scim_type == "uniqueness"
    assert len(await world.rows("users")) == 1


async def test_an_external_id_is_taken_once_and_its_case_counts(world):
    outcomes = await world.apply(
        world.create("a", resource={"externalId": "x"}),
        world.create("b", resource={"externalId": "x"}),
        world.create("c", resource={"externalId": "X"}),
    )

    assert [outcome.status for outcome in outcomes] == [201, 409, 201]


async def test_a_deactivated_user_is_suspended_and_its_sessions_are_dead(world):
    create = world.create("ada@example.com")
    await world.apply(create)
    account = await world.account_of(create.resource_id)
    await world.owner.execute(
        "INSERT INTO sessions (id, account_id, digest, epoch, expires_at)"
        " VALUES ($1, $1, 'd', 0, now() + interval '1 h')",
        account["id"],
    )

    outcome = await world.apply_one(
        world.patch(create.resource_id, {"op": "Replace", "path": "active", "value": "False"})
    )

    assert (outcome.status, outcome.resource["active"], outcome.resource_version) == (200, False, 2)
    account = await world.account_of(create.resource_id)
    assert (account["status"], account["epoch"]) == ("suspended", 1)
    (session,) = await world.rows("sessions")
    assert session["revoked_at"] is not None


async def test_a_reactivated_user_is_active_again_and_old_sessions_stay_dead(world):
    create = world.create("ada@example.com", resource={"active": False})
    await world.apply(create)
    await world.apply(world.patch(create.resource_id, {"op": "replace", "value": {"active": True}}))

    account = await world.account_of(create.resource_id)

    assert (account["status"], account["epoch"]) == ("active", 1)


async def test_a_deleted_user_is_gone_and_its_account_suspended(world):
    create = world.create("ada@example.com")
    await world.apply(create)
    account = await world.account_of(create.resource_id)

    outcomes = await world.apply(
        world.delete(create.resource_id),
        world.delete(create.resource_id),
        world.patch(create.resource_id, {"op": "replace", "path": "active", "value": True}),
        world.replace(create.resource_id, {"userName": "ada@example.com"}),
    )

    assert [outcome.status for outcome in outcomes] == [204, 404, 404, 404]
    assert await world.rows("users") == []
    (kept,) = await world.rows("accounts")
    assert (kept["id"], kept["status"], kept["epoch"]) == (account["id"], "suspended", 1)


@pytest.mark.parametrize("one_batch", [True, False])
@pytest.mark.parametrize(
    "again",
    [
        {"userName": "ada@example.com"},
        {"userName": "ada.new@example.com", "externalId": "x1"},
        {"userName": "ADA@example.com", "externalId": "another"},
    ],
)
async def test_a_rehired_person_has_the_same_account_and_a_new_id(world, again, one_batch):
    hire = world.create("ada@example.com", resource={"externalId": "x1"})
    leave = world.delete(hire.resource_id)
    rehire = world.change(Operation.CREATE, resource=again)
    if one_batch:
        outcomes = await world.apply(hire, leave, rehire)
    else:
        outcomes = [await world.apply_one(change) for change in (hire, leave, rehire)]

    assert [outcome.status for outcome in outcomes] == [201, 204, 201]
    assert outcomes[2].resource_id != hire.resource_id
    (account,) = await world.rows("accounts")
    assert (account["status"], account["email"]) == ("active", again["userName"])


async def test_t01_an_account_that_scim_did_not_create_is_never_taken(world):
    local = await world.add_account("boss@example.com")
    before = await world.rows("accounts")
    other = world.create("other", resource={"emails": [{"value": "other@example.com"}]})
    await world.apply(other)

    outcomes = await world.apply(
        world.create("boss@example.com"),
        world.create("boss", resource={"emails": [{"value": "Boss@Example.com", "primary": True}]}),
        world.patch(
            other.resource_id, {"op": "replace", "path": 'emails[type eq "work"].value', "value": "boss@example.com"}
        ),
        world.patch(
            other.resource_id,
            {"op": "add", "path": "emails", "value": [{"value": "boss@example.com", "primary": True}]},
        ),
        world.replace(other.resource_id, {"userName": "boss@example.com"}),
        world.patch(other.resource_id, {"op": "remove", "path": 'emails[value eq "other@example.com"]'}),
    )

    # A second address of a user is not its account's; it may not become it either (the last one).
    assert [outcome.status for outcome in outcomes] == [409, 409, 200, 409, 409, 409]
    assert [row for row in await world.rows("accounts") if row["id"] == local] == before


async def test_an_account_is_linked_by_email_when_the_connection_may(world):
    local = await world.add_account("boss@example.com")
    await world.owner.execute("UPDATE connections SET link_existing_accounts = true")
    create = world.create("boss@example.com")

    outcome = await world.apply_one(create)

    assert outcome.status == 201
    assert (await world.account_of(create.resource_id))["id"] == local
    assert [(row["account_id"], row["origin"]) for row in await world.rows("links")] == [(local, "email")]


async def test_a_break_glass_account_is_not_linked_even_then(world):
    local = await world.add_account("boss@example.com")
    await world.owner.execute("UPDATE connections SET link_existing_accounts = true")
    await world.owner.execute("UPDATE accounts SET break_glass = true WHERE id = $1", local)

    assert (await world.apply_one(world.create("boss@example.com"))).status == 409


async def test_t03_another_connections_user_is_as_unknown_as_none(world):
    create = world.create("ada@example.com")
    await world.apply(create)
    other = (await world.account_of(create.resource_id))["id"]
    await world.add_connection(other, "entra")
    before = await world.rows("users")

    def foreign(change: Change) -> Change:
        return change.model_copy(update={"connection_id": other, "token_id": None})

    outcomes = await world.apply(
        foreign(world.delete(create.resource_id)),
        foreign(world.replace(create.resource_id, {"userName": "x"})),
        foreign(world.patch(create.resource_id, {"op": "replace", "path": "active", "value": False})),
    )

    assert [outcome.status for outcome in outcomes] == [404, 404, 404]
    assert await world.rows("users") == before


async def test_a_removed_active_is_unassigned_and_neither_suspends_nor_reactivates(world):
    create = world.create("ada@example.com", resource={"active": False})
    await world.apply(create)

    outcome = await world.apply_one(world.patch(create.resource_id, {"op": "remove", "path": "active"}))

    assert outcome.resource == {"userName": "ada@example.com"}
    assert (await world.account_of(create.resource_id))["status"] == "suspended"


async def test_a_put_keeps_active_and_clears_what_it_omits(world):
    create = world.create("ada", resource={"title": "Countess", "active": False})
    await world.apply(create)

    outcome = await world.apply_one(world.replace(create.resource_id, {"userName": "ada", "nickName": "A"}))

    assert outcome.resource == {"userName": "ada", "nickName": "A", "active": False}


async def test_what_changes_nothing_keeps_version_and_last_modified(world):
    create = world.create("ada", resource={"title": "Countess"})
    await world.apply(create)

    outcomes = await world.apply(
        world.patch(create.resource_id, {"op": "add", "path": "title", "value": "Countess"}),
        world.replace(create.resource_id, {"userName": "ada", "title": "Countess", "active": True}),
    )

    assert [(outcome.status, outcome.resource_version) for outcome in outcomes] == [(200, 1), (200, 1)]
    assert outcomes[0].last_modified == outcomes[0].created


async def test_two_users_swap_their_names_in_one_batch(world):
    one, two = world.create("one"), world.create("two")
    await world.apply(one, two)

    outcomes = await world.apply(
        world.replace(one.resource_id, {"userName": "three"}),
        world.replace(two.resource_id, {"userName": "one"}),
        world.replace(one.resource_id, {"userName": "two"}),
    )

    assert [outcome.status for outcome in outcomes] == [200, 200, 200]
    assert {row["id"]: row["user_name"] for row in await world.rows("users")} == {
        one.resource_id: "two",
        two.resource_id: "one",
    }


async def test_a_name_is_free_again_in_the_batch_that_deletes_its_holder(world):
    one = world.create("ada")
    outcomes = await world.apply(one, world.delete(one.resource_id), world.create("ada"))

    assert [outcome.status for outcome in outcomes] == [201, 204, 201]


async def test_t43_a_stale_if_match_changes_nothing(world):
    create = world.create("ada")
    await world.apply(create)

    outcomes = await world.apply(
        world.replace(create.resource_id, {"userName": "ada", "title": "1"}, if_match='W/"1"'),
        world.replace(create.resource_id, {"userName": "ada", "title": "2"}, if_match='W/"1"'),
        world.delete(create.resource_id, if_match='W/"1"'),
    )

    assert [outcome.status for outcome in outcomes] == [200, 412, 412]
    assert (await world.rows("users"))[0]["version"] == 2


@pytest.mark.parametrize(
    ("if_match", "matches"),
    [('W/"3"', True), ('"3"', True), ("*", True), ('W/"2", W/"3"', True), ('W/"2"', False), ("3", False), ("", False)],
)
def test_an_if_match_header_names_versions(if_match, matches):
    assert matches_version(if_match, 3) is matches


async def test_a_create_repeated_after_an_answer_that_never_came_gives_the_same_user(world):
    late = world.create("ada", fingerprint="f")
    late = late.model_copy(update={"deadline": late.received_at - timedelta(seconds=5)})
    repeat, other = world.create("ada", fingerprint="f"), world.create("ada", fingerprint="g")
    await world.apply(late)

    outcomes = await world.apply(repeat, other)

    assert [outcome.status for outcome in outcomes] == [201, 409]
    assert outcomes[0].resource_id == late.resource_id
    (stats,) = await world.rows("connection_stats")
    assert stats["users"] == 1


async def test_a_create_repeated_after_an_answer_in_time_is_a_conflict(world):
    outcomes = await world.apply(world.create("ada", fingerprint="f"), world.create("ada", fingerprint="f"))

    assert [outcome.status for outcome in outcomes] == [201, 409]


async def test_t20_a_change_of_a_revoked_token_is_refused_in_the_transaction(world):
    create = world.create("ada")
    await world.owner.execute("UPDATE tokens SET revoked_at = now()")

    assert (await world.apply_one(create)).status == 401
    assert await world.rows("users") == []


async def test_a_change_of_a_lapsed_plan_is_refused_in_the_transaction(world):
    await world.owner.execute("UPDATE organizations SET plan = 'free'")

    assert (await world.apply_one(world.create("ada"))).status == 403
    assert await world.rows("users") == []


async def test_a_deleted_connection_loses_its_users_and_its_accounts_stay(world):
    create = world.create("ada@example.com")
    close = world.change(Operation.DELETE, world.connection_id, resource_type=ResourceType.CONNECTION, token_id=None)
    await world.owner.execute("UPDATE connections SET deleted_at = NULL")
    outcomes = await world.apply(create, close)
    await world.owner.execute("UPDATE connections SET deleted_at = now()")

    assert [outcome.status for outcome in outcomes] == [201, 204]
    assert (await world.apply_one(world.create("bob"))).status == 401
    assert await world.rows("users") == []
    (account,) = await world.rows("accounts")
    assert account["status"] == "active"
    assert (await world.rows("connection_stats"))[0]["users"] == 0


async def test_the_token_shows_when_it_was_last_used(world):
    await world.apply(world.create("ada"))

    assert (await world.rows("tokens"))[0]["last_used_at"] is not None


@pytest.mark.parametrize("external_id", ["1", "0", "-1", "null", "true", "admin"])
async def test_t02_an_external_id_is_never_an_internal_id(world, external_id):
    local = await world.add_account("admin@example.com")
    create = world.create("mallory@example.com", resource={"externalId": external_id})

    assert (await world.apply_one(create)).status == 201
    assert (await world.account_of(create.resource_id))["id"] != local


async def test_the_last_use_of_a_token_is_written_once_a_minute(world):
    use = "UPDATE tokens SET last_used_at = now() - $1::text::interval RETURNING last_used_at"
    recent = await world.owner.fetchval(use, "50 seconds")
    await world.apply(world.create("ada"))
    assert (await world.rows("tokens"))[0]["last_used_at"] == recent
    older = await world.owner.fetchval(use, "70 seconds")
    await world.apply(world.create("bea"))
    assert (await world.rows("tokens"))[0]["last_used_at"] > older
