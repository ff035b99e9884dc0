"""A person is erased: nothing that says who it was is left, and the trail still holds."""

import json
from datetime import UTC, datetime
from uuid import UUID, uuid4

import asyncpg
import orjson
import pytest

from admin_api.chains import verify_chains
from admin_api.erasure import erase
from admin_api.errors import Conflict, NotFound
from admin_api.store.database import Transaction, open_engine, transactions
from admin_api.store.events import append
from admin_seed import Seed, Seeded, seed
from admin_stand import Cli, World
from contracts.events import EventRow
from servicekit.ids import uuid7

EMAIL, OLD_EMAIL = "Marie.Marker@example.test", "maiden.marker@example.test"
MARKS = ("marie", "marker", "markerphone", "99887766")


@pytest.fixture(scope="module")
async def as_owner(postgres_module_database: str):
    async with open_engine(postgres_module_database, pool_size=1) as engine:
        yield transactions(engine)


@pytest.fixture
async def okta(world: World) -> Seed:
    return await seed(world.db, await world.organization(), "okta")


async def a_life(okta: Seed, as_owner: Transaction) -> Seeded:
    """Rows of every kind about one person, who is deleted in the identity provider by now."""
    resource = {"displayName": "Marie Marker", "phoneNumbers": [{"value": "markerphone 99887766"}]}
    user = await okta.user(EMAIL, resource=resource, display_name="Marie Marker")
    group = await okta.group("Engineers", user.id)
    body = {"userName": OLD_EMAIL, **resource}
    sent = {"method": "POST", "path": "/Users", "body": body}
    await okta.outcome(user.id, 201, operation="create", request=sent, reply={"resource": body})
    # In the requests of others: refused for the same address, and as a member of a group.
    await okta.outcome(uuid7(), 409, operation="create", request={**sent, "body": {"userName": OLD_EMAIL.upper()}})
    member = {"value": str(user.id), "display": "Marie Marker"}
    await okta.outcome(group, 200, request={"method": "PATCH", "path": "/Groups/{id}", "body": {"members": [member]}})
    await okta.grant(user.account_id, await okta.role(), None)
    async with as_owner() as db:
        for data in ({"userId": str(user.id), "after": body}, {"userId": str(user.id), "before": {"name": "Marie"}}):
            await append(db, event(okta, user.account_id, data))
    await okta.db.execute("DELETE FROM users WHERE id = $1", user.id)
    await okta.db.execute("DELETE FROM memberships WHERE member_id = $1", user.id)
    await okta.db.execute(
        "INSERT INTO user_tombstones (id, connection_id, account_id, user_name_key, external_id, deleted_at)"
        " VALUES ($1, $2, $3, $4, 'marker-external', now())",
        *(user.id, okta.connection_id, user.account_id, EMAIL.lower()),
    )
    change = orjson.dumps({"operation": "patch", "resource": body, "request": sent}).decode()
    await okta.db.execute(
        "INSERT INTO holds (id, organization_id, connection_id, user_id, account_id, change, held_at, resolved_at,"
        " resolution) VALUES ($1, $2, $3, $4, $5, $6, now(), now(), 'cancelled')",
        *(uuid7(), okta.organization_id, okta.connection_id, user.id, user.account_id, change),
    )
    await okta.db.execute(
        "INSERT INTO link_requests (id, organization_id, connection_id, account_id, user_name, change_id, requested_at)"
        " VALUES ($1, $2, $3, $4, $5, $6, now())",
        *(uuid7(), okta.organization_id, okta.connection_id, user.account_id, EMAIL, uuid7()),
    )
    await okta.db.execute(
        "INSERT INTO quarantine (id, topic, partition, record_offset, value, organization_id, error, created_at)"
        " VALUES ($1, 'scim.changes', 0, $2, $3, $4, 'a bug', now())",
        *(uuid7(), uuid4().int % 2**40, orjson.dumps(body), okta.organization_id),
    )
    await okta.db.execute(
        "INSERT INTO identities (issuer, subject, account_id, created_at) VALUES ('https://idp', $1, $2, now())",
        *(f"marker-{uuid4().hex}", user.account_id),
    )
    return user


def event(okta: Seed, account_id: UUID, data: dict) -> EventRow:
    return EventRow(
        id=uuid7(),
        organization_id=okta.organization_id,
        connection_id=okta.connection_id,
        token_id=None,
        actor="scim:okta",
        change_id=None,
        type="test",
        subject_type="Account",
        subject_id=account_id,
        at=datetime.now(UTC),
        data=data,
    )


async def tables_with(db: asyncpg.Connection, mark: str) -> set[str]:
    """The tables that hold the text in any column, in the bytes of one too."""
    tables = await db.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    hexed = mark.encode().hex()
    return {
        name
        for (name,) in tables
        if await db.fetchval(
            f"SELECT count(*) FROM {name} AS r WHERE lower(to_jsonb(r)::text) LIKE ANY ($1)",
            [f"%{mark}%", f"%{hexed}%"],
        )
    }


async def test_t65_nothing_is_left_that_says_who_it_was_and_the_trail_holds(okta: Seed, as_owner: Transaction) -> None:
    user = await a_life(okta, as_owner)
    other = await okta.user("other@example.test")
    await okta.outcome(other.id, 200, request={"method": "PATCH", "path": "/Users/{id}", "body": {"title": "kept"}})
    before = {mark: await tables_with(okta.db, mark) for mark in MARKS}
    assert before["marie"] >= {"accounts", "events", "outcomes"}
    assert before["marker"] >= {"holds", "link_requests", "quarantine", "user_tombstones", "identities"}

    async with as_owner() as db:
        done = await erase(db, okta.organization_id, user.account_id, "operator:test", datetime.now(UTC))

    assert {mark: await tables_with(okta.db, mark) for mark in MARKS} == {mark: set() for mark in MARKS}
    assert done.rows["outcomes"] == 3
    assert "outcomes" in await tables_with(okta.db, "kept")
    async with as_owner() as db:
        assert [report.why for report in await verify_chains(db)] == [None]
    told = await okta.db.fetchval("SELECT data FROM events WHERE type LIKE '%:person-erased'")
    assert told
    assert json.loads(told)["rows"] == done.rows


async def test_the_log_still_shows_that_something_happened(okta: Seed, as_owner: Transaction, world: World) -> None:
    user = await a_life(okta, as_owner)
    admin = await world.signed_in(await world.person(okta.organization_id))
    async with as_owner() as db:
        await erase(db, okta.organization_id, user.account_id, "operator:test", datetime.now(UTC))

    entries = (await admin.get("/api/v1/admin/scim/log")).json()["entries"]

    assert [(entry["status"], entry["operation"]) for entry in entries] == [
        (200, "patch"),
        (409, "create"),
        (201, "create"),
    ]
    assert [entry["request"]["body"] for entry in entries] == [None] * 3
    account = (await admin.get(f"/api/v1/admin/users/{user.account_id}")).json()
    assert (account["email"], account["displayName"], account["status"], account["roles"]) == (
        None,
        "",
        "suspended",
        [],
    )


async def test_a_person_whom_an_identity_provider_has_is_not_erased(okta: Seed, as_owner: Transaction) -> None:
    user = await okta.user()
    with pytest.raises(Conflict, match="delete it there first"):
        async with as_owner() as db:
            await erase(db, okta.organization_id, user.account_id, "operator:test", datetime.now(UTC))
    assert await okta.db.fetchval("SELECT email FROM accounts WHERE id = $1", user.account_id) == user.email


async def test_the_last_admin_and_strangers_are_not_erased(okta: Seed, as_owner: Transaction, world: World) -> None:
    person = await world.person(okta.organization_id)
    for organization_id, refusal in ((okta.organization_id, Conflict), (await world.organization(), NotFound)):
        with pytest.raises(refusal):
            async with as_owner() as db:
                await erase(db, organization_id, person.id, "operator:test", datetime.now(UTC))


async def test_the_command_asks_and_tells_what_it_cannot_reach(
    okta: Seed, as_owner: Transaction, postgres_module_database: str
) -> None:
    user = await a_life(okta, as_owner)
    cli = Cli({"DATABASE_URL": postgres_module_database})
    arguments = ("erase", "--organization", str(okta.organization_id), str(user.account_id))

    await cli.run(*arguments, status=1)
    output, _ = await cli.run(*arguments, "--yes", "--json")

    assert json.loads(output)["rows"]["accounts"] == 1
    assert "7 days" in json.loads(output)["remains"]
