"""`directory-sync role`, `mapping`, `connection` and `token`: what an admin does over HTTP, at the command line."""

import json
from uuid import UUID

import pytest

from admin_stand import PEPPER, Cli, World


@pytest.fixture
def cli(postgres_module_database: str, topics: str) -> Cli:
    return Cli({"DATABASE_URL": postgres_module_database, "KAFKA_BOOTSTRAP": topics, "TOKEN_PEPPER": PEPPER})


async def test_roles_are_made_changed_listed_and_deleted(world: World, cli: Cli) -> None:
    organization = ("--organization", str(await world.organization()))

    made = json.loads((await cli.run("role", "create", "[Auditor]", "--permission", "a:b", *organization, "--json"))[0])
    changed, _ = await cli.run("role", "change", made["id"], "--name", "[Reader]", *organization)
    table, _ = await cli.run("role", "list", *organization)
    await cli.run("role", "delete", made["id"], *organization)
    _, gone = await cli.run("role", "delete", made["id"], *organization, status=1)
    _, taken = await cli.run("role", "create", "Admin", *organization, status=1)

    assert "[Reader]" in changed
    assert all(word in table for word in ("[Reader]", "a:b", "admin", "member"))
    assert "no such" in gone or "not" in gone
    assert "built-in" in taken
    actor = await world.db.fetchval("SELECT actor FROM events WHERE subject_id = $1 LIMIT 1", UUID(made["id"]))

    assert str(actor).startswith("operator:")


async def test_mappings_are_made_listed_and_deleted_and_admin_needs_a_word(world: World, cli: Cli) -> None:
    organization = ("--organization", str(await world.organization()))

    made = json.loads((await cli.run("mapping", "create", "Finance", "member", *organization, "--json"))[0])
    table, _ = await cli.run("mapping", "list", *organization)
    _, refused = await cli.run("mapping", "create", "Bosses", "admin", *organization, status=2)
    _, half = await cli.run("mapping", "preview", "Bosses", *organization, status=2)
    await cli.run("mapping", "delete", made["id"], *organization)

    assert all(word in table for word in ("Finance", "member"))
    assert "confirm" in refused
    assert "role" in half
    assert json.loads((await cli.run("mapping", "list", *organization, "--json"))[0]) == []


async def test_a_connection_and_its_tokens_are_made_rotated_and_ended(world: World, cli: Cli) -> None:
    organization = ("--organization", str(await world.organization()))

    made = json.loads((await cli.run("connection", "create", "okta", *organization, "--json"))[0])
    tokens = ("--connection", made["connectionId"], *organization)
    rotated = json.loads((await cli.run("token", "rotate", made["tokenId"], *tokens, "--json"))[0])
    _, full = await cli.run("token", "create", *tokens, status=1)
    await cli.run("token", "revoke", made["tokenId"], *tokens)
    table, _ = await cli.run("token", "list", *tokens)
    _, wrong = await cli.run("token", "create", *tokens, "--scope", "admin", status=2)
    await cli.run("connection", "delete", made["connectionId"], *organization)

    assert rotated["scimToken"] not in table
    assert rotated["scimToken"][-4:] in table
    assert "revoked" in table
    assert "2 live tokens" in full
    assert "scopes" in wrong
    assert await world.db.fetchval(
        "SELECT deleted_at IS NOT NULL FROM connections WHERE id = $1", UUID(made["connectionId"])
    )


async def test_an_organization_that_is_not_there_is_told(cli: Cli) -> None:
    _, problem = await cli.run("role", "list", "--organization", "0b6f1c1e-8a52-4f0e-9d3e-6f6a4b1f5a10", status=1)
    assert "no organization of that id" in problem
