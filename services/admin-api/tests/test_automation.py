"""API keys and organizations, over HTTP and on the command line; what the sweep tells of tokens."""

import json
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import httpx
import pytest

from admin_api.api_keys import API_KEY
from admin_api.sweep import sweep
from admin_stand import PEPPER, Cli, World, assert_refused, new_client
from servicekit import bearer

KEYS = "/api/v1/admin/api-keys"
ORGANIZATIONS = "/api/v1/admin/organizations"
STATUS = "/api/v1/admin/scim"
GENERATE = "/api/auth/scim/generate-token"


@pytest.fixture
def cli(postgres_module_database: str) -> Cli:
    return Cli({"DATABASE_URL": postgres_module_database, "TOKEN_PEPPER": PEPPER})


def bearing(world: World, secret: str) -> httpx.AsyncClient:
    client = new_client(world.app)
    client.headers["authorization"] = f"Bearer {secret}"
    return client


async def test_t44_a_key_is_shown_once_and_does_what_an_admin_does(world: World) -> None:
    """T44."""
    admin = await world.admin()

    made = await admin.post(KEYS, json={"name": "nightly export"})

    assert made.status_code == 201
    secret = made.json()["apiKey"]
    assert secret.startswith("apikey_")
    assert bearer.is_well_formed(secret)
    key = bearing(world, secret)
    assert (await key.get(STATUS)).status_code == 200
    assert (await key.post(GENERATE, json={"providerId": "okta"})).status_code == 201
    actor = f"key:{made.json()['id']}"
    types = await world.db.fetch("SELECT type FROM events WHERE actor = $1", actor)
    assert [row["type"].rpartition(":")[2] for row in types] == ["token-issued"]
    [listed] = (await admin.get(KEYS)).json()["apiKeys"]
    assert secret not in json.dumps(listed)
    assert (listed["hint"], listed["state"]) == (secret[-4:], "live")
    assert listed["lastUsedAt"] is not None
    row = await world.db.fetchrow("SELECT digest FROM api_keys WHERE id = $1", UUID(listed["id"]))
    assert row is not None
    assert row["digest"] == bearer.digest(PEPPER.encode(), API_KEY, secret)


async def test_a_key_makes_no_key_and_ends_when_it_is_revoked(world: World) -> None:
    admin = await world.admin()
    made = (await admin.post(KEYS, json={"name": "one"})).json()
    key = bearing(world, made["apiKey"])

    assert_refused(await key.post(KEYS, json={"name": "two"}), 403, "forbidden")
    assert (await key.delete(f"{KEYS}/{made['id']}")).status_code == 204

    assert_refused(await key.get(STATUS), 401, "unauthenticated")
    assert_refused(await admin.delete(f"{KEYS}/{made['id']}"), 404, "not_found")
    assert [k["state"] for k in (await admin.get(KEYS)).json()["apiKeys"]] == ["revoked"]


@pytest.mark.parametrize("body", [{}, {"name": ""}, {"name": "x", "expiresAt": "2020-01-01T00:00:00Z"}, {"key": "k"}])
async def test_what_is_no_key_is_refused(world: World, body: dict) -> None:
    assert_refused(await (await world.admin()).post(KEYS, json=body), 400, "validation")


async def test_t16_a_key_rests_while_its_maker_is_suspended(world: World) -> None:
    """T16."""
    organization = await world.organization()
    maker = await world.person(organization)
    made = (await (await world.signed_in(maker)).post(KEYS, json={"name": "one"})).json()
    key = bearing(world, made["apiKey"])
    assert (await key.get(STATUS)).status_code == 200

    await world.db.execute("UPDATE accounts SET status = 'suspended', epoch = epoch + 1 WHERE id = $1", maker.id)
    assert_refused(await key.get(STATUS), 401, "unauthenticated")
    await world.db.execute("UPDATE accounts SET status = 'active' WHERE id = $1", maker.id)
    assert (await key.get(STATUS)).status_code == 200
    await world.db.execute("DELETE FROM grants WHERE account_id = $1", maker.id)
    assert_refused(await key.get(STATUS), 401, "unauthenticated")


async def test_an_operators_key_is_made_on_the_command_line_and_manages_organizations(world: World, cli: Cli) -> None:
    output, _ = await cli.run("key", "create", "ops", "--days", "30", "--json")
    made = json.loads(output)
    operator = bearing(world, made["apiKey"])

    created = await operator.post(ORGANIZATIONS, json={"name": "Acme", "plan": "free"})

    assert created.status_code == 201
    organization = created.json()["id"]
    roles = await world.db.fetch("SELECT name FROM roles WHERE organization_id = $1", UUID(organization))
    assert {row["name"] for row in roles} == {"member", "admin"}
    changed = await operator.patch(f"{ORGANIZATIONS}/{organization}", json={"plan": "enterprise", "name": "Acme Ltd"})
    assert (changed.json()["plan"], changed.json()["name"]) == ("enterprise", "Acme Ltd")
    assert (await operator.get(f"{ORGANIZATIONS}/{organization}")).json() == changed.json()
    found, cursor = [], None
    while cursor is not None or not found:
        page = await operator.get(ORGANIZATIONS, params={"limit": 50} | ({"cursor": cursor} if cursor else {}))
        found += [row["id"] for row in page.json()["organizations"]]
        cursor = page.json()["nextCursor"]
    assert organization in found
    assert len(found) == len(set(found))
    assert_refused(await operator.get(f"{ORGANIZATIONS}/{uuid4()}"), 404, "not_found")
    assert_refused(await operator.patch(f"{ORGANIZATIONS}/{uuid4()}", json={}), 404, "not_found")
    assert_refused(await operator.post(ORGANIZATIONS, json={"name": "x", "plan": "gold"}), 400, "validation")
    actors = await world.db.fetch("SELECT actor FROM events WHERE organization_id = $1", UUID(organization))
    assert {row["actor"] for row in actors} == {f"operator:{made['id']}"}
    listed, _ = await cli.run("key", "list")
    assert made["id"] in listed
    assert made["apiKey"] not in listed
    await cli.run("key", "revoke", made["id"])
    assert_refused(await operator.get(ORGANIZATIONS), 401, "unauthenticated")
    _, problem = await cli.run("key", "revoke", made["id"], status=1)
    assert "nothing of this id" in problem


async def test_organizations_are_managed_on_the_command_line_too(world: World, cli: Cli) -> None:
    made = json.loads((await cli.run("organization", "create", "Beta", "--json"))[0])
    await cli.run("organization", "plan", made["id"], "free")

    listed = json.loads((await cli.run("organization", "list", "--json"))[0])

    assert next(row for row in listed if row["id"] == made["id"])["plan"] == "free"
    _, problem = await cli.run("key", "create", "x", "--organization", str(uuid4()), status=1)
    assert "no organization" in problem


async def test_status_shows_the_connections(world: World, cli: Cli) -> None:
    organization = await world.organization()
    admin = await world.signed_in(await world.person(organization))
    issued = (await admin.post(GENERATE, json={"providerId": "okta"})).json()

    shown = json.loads((await cli.run("status", "--organization", str(organization), "--json"))[0])

    assert [(row["id"], row["providerId"], row["liveTokens"]) for row in shown] == [(issued["connectionId"], "okta", 1)]
    table, _ = await cli.run("status", "--organization", str(organization))
    assert "okta" in table
    assert "no connections" in (await cli.run("status", "--organization", str(uuid4())))[0]


async def test_completions_are_printed(cli: Cli) -> None:
    output, _ = await cli.run(_DIRECTORY_SYNC_COMPLETE="source_bash")

    assert "complete" in output


async def test_a_token_that_is_about_to_expire_is_told_of_once(world: World) -> None:
    admin = await world.admin()
    connection = (await admin.post(GENERATE, json={"providerId": "okta"})).json()["connectionId"]
    now = datetime.now(UTC)
    ends = {}
    for days, scopes in ((13, ["read", "write"]), (13, ["preview"])):
        body = {"scopes": scopes, "expiresAt": (now + timedelta(days=days)).isoformat()}
        made = await admin.post(f"{STATUS}/connections/{connection}/tokens", json=body)
        ends[made.json()["id"]] = scopes

    for _ in range(2):
        await sweep(world.app.state.service, now)

    told = await world.db.fetch(
        "SELECT token_id FROM events WHERE connection_id = $1 AND type LIKE '%:token-expires'", UUID(connection)
    )
    assert [str(row["token_id"]) for row in told] == [id for id, scopes in ends.items() if "write" in scopes]
