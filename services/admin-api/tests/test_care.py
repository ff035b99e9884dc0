"""The commands of those who look after a directory: verify, access-report, holds; and the quarantine over HTTP."""

import csv
import io
import json
from uuid import uuid4

import pytest

from admin_seed import Seed, seed
from admin_stand import Cli, World, assert_refused
from servicekit.ids import uuid7

QUARANTINE = "/api/v1/admin/scim/quarantine"


@pytest.fixture
async def okta(world: World) -> Seed:
    return await seed(world.db, await world.organization(), "okta")


@pytest.fixture
def cli(postgres_module_database: str, topics: str) -> Cli:
    return Cli({"DATABASE_URL": postgres_module_database, "KAFKA_BOOTSTRAP": topics})


async def test_verify_finds_repairs_and_is_silent(okta: Seed, cli: Cli) -> None:
    await okta.user()
    await okta.db.execute("UPDATE connection_stats SET users = 9 WHERE connection_id = $1", okta.connection_id)
    verify = ("verify", "--organization", str(okta.organization_id))

    found, problem = await cli.run(*verify, "--json", status=1)
    repaired, _ = await cli.run(*verify, "--repair")
    clean, _ = await cli.run(*verify, "--json")

    [drift] = json.loads(found)["drifts"]
    assert (drift["kind"], drift["found"], drift["left"]) == ("counters", 1, 1)
    assert "not as it should be" in problem
    assert "counters" in repaired
    assert json.loads(clean)["drifts"] == []
    assert json.loads(clean)["isClean"] is True


async def test_the_access_report_prints_as_a_table_csv_and_json(okta: Seed, cli: Cli) -> None:
    user = await okta.user("ada@example.test", display_name="=evil()")
    group = await okta.group("Engineers", user.id)
    await okta.grant(user.account_id, await okta.role("engineer"), group)
    report = ("access-report", "--organization", str(okta.organization_id))

    table, _ = await cli.run(*report)
    rows = list(csv.DictReader(io.StringIO((await cli.run(*report, "--csv"))[0])))
    document = json.loads((await cli.run(*report, "--json"))[0])

    assert "Engineers (okta)" in table
    assert [(row["email"], row["displayName"]) for row in rows] == [("ada@example.test", "'=evil()")]
    assert [holder["groupName"] for holder in document["holders"]] == ["Engineers"]


async def test_holds_are_listed_and_a_wrong_choice_is_told(okta: Seed, cli: Cli) -> None:
    user = await okta.user("held@example.test")
    await okta.db.execute(
        "INSERT INTO holds (id, organization_id, connection_id, user_id, account_id, change, held_at)"
        """ VALUES ($1, $2, $3, $4, $5, '{"operation": "patch"}', now())""",
        *(uuid7(), okta.organization_id, okta.connection_id, user.id, user.account_id),
    )
    organization = ("--organization", str(okta.organization_id))

    table, _ = await cli.run("holds", "list", *organization)
    _, problem = await cli.run("holds", "confirm", *organization, status=2)

    assert "held@example.test" in table
    assert "name some holds" in problem


async def set_aside(okta: Seed) -> str:
    record_id, change_id = uuid7(), uuid7()
    change = {
        "version": 1,
        "id": str(change_id),
        "organization_id": str(okta.organization_id),
        "connection_id": str(okta.connection_id),
        "actor": "scim:okta",
        "resource_type": "User",
        "operation": "create",
        "resource_id": str(uuid7()),
        "resource": {"userName": "ada", "password": "not masked here"},
        "received_at": "2026-01-01T00:00:00Z",
        "deadline": "2026-01-01T00:00:10Z",
        "request": {"method": "POST", "path": "/Users", "body": {"userName": "ada", "password": "***"}},
    }
    await okta.db.execute(
        "INSERT INTO quarantine (id, topic, partition, record_offset, key, value, change_id, organization_id, error,"
        " created_at) VALUES ($1, 'scim.changes', 0, $2, 'k', $3, $4, $5, 'a bug', now())",
        *(record_id, uuid4().int % 2**40, json.dumps(change).encode(), change_id, okta.organization_id),
    )
    return str(record_id)


async def test_the_quarantine_is_listed_shown_retried_and_discarded(okta: Seed, world: World) -> None:
    admin, stranger = await world.signed_in(await world.person(okta.organization_id)), await world.admin()
    first, second = await set_aside(okta), await set_aside(okta)

    listed = (await admin.get(QUARANTINE, params={"status": "open"})).json()["records"]
    shown = await admin.get(f"{QUARANTINE}/{first}")
    retried = await admin.post(f"{QUARANTINE}/{first}/retry")
    discarded = await admin.post(f"{QUARANTINE}/{second}/discard")

    assert {record["id"] for record in listed} == {first, second}
    assert shown.json()["request"]["body"]["password"] == "***"
    assert "not masked here" not in shown.text
    assert (retried.status_code, bool(retried.json()["changeId"])) == (200, True)
    assert discarded.status_code == 204
    assert_refused(await admin.post(f"{QUARANTINE}/{first}/discard"), 409, "conflict")
    resolutions = {r["id"]: r["resolution"] for r in (await admin.get(QUARANTINE)).json()["records"]}
    assert resolutions == {first: "retried", second: "discarded"}
    for call in (stranger.get(f"{QUARANTINE}/{first}"), stranger.post(f"{QUARANTINE}/{first}/retry")):
        assert_refused(await call, 404, "not_found")
    assert (await stranger.get(QUARANTINE)).json()["records"] == []
