"""`directory-sync schema`: an organization's own schemas."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from admin_stand import Cli

BADGE = "urn:example:params:scim:schemas:Badge"
LEVEL = {"name": "level", "type": "integer"}
COLOR = {"name": "color", "type": "string", "description": "Of the badge."}


@pytest.fixture
def cli(postgres_module_database: str) -> Cli:
    return Cli({"DATABASE_URL": postgres_module_database})


@pytest.fixture
async def db(postgres_module_database: str) -> AsyncIterator[asyncpg.Connection]:
    db = await asyncpg.connect(postgres_module_database)
    yield db
    await db.close()


@pytest.fixture
async def organization(db: asyncpg.Connection) -> str:
    organization_id = uuid4()
    await db.execute("INSERT INTO organizations (id, name, plan) VALUES ($1, 'x', 'enterprise')", organization_id)
    return str(organization_id)


def schema(*attributes: dict[str, Any], urn: str = BADGE) -> dict[str, Any]:
    return {"id": urn, "name": "Badge", "attributes": list(attributes)}


@pytest.fixture
def written(tmp_path: Path) -> Any:
    def write(document: Any) -> str:
        path = tmp_path / f"{uuid4().hex}.json"
        path.write_text(document if isinstance(document, str) else json.dumps(document))
        return str(path)

    return write


async def listed(cli: Cli, organization: str) -> list[Any]:
    output, _ = await cli.run("schema", "list", "--organization", organization, "--json")
    return json.loads(output)


async def use(db: asyncpg.Connection, organization: str) -> None:
    """A group with a value of the schema."""
    connection = uuid4()
    await db.execute(
        "INSERT INTO connections (id, organization_id, provider_id) VALUES ($1, $2, 'okta')", connection, organization
    )
    await db.execute(
        "INSERT INTO groups (id, connection_id, display_name, display_name_key, resource, version, created_at,"
        " last_modified) VALUES ($1, $1, 'x', 'x', $2, 1, now(), now())",
        connection,
        json.dumps({BADGE: {"level": 1}}),
    )


async def test_a_schema_is_added_extended_listed_and_removed(cli: Cli, organization: str, written: Any) -> None:
    option = ("--organization", organization)
    output, _ = await cli.run("schema", "add", written(schema(LEVEL)), *option)
    assert f"Users have {BADGE} with 1 attributes" in output
    await cli.run("schema", "add", written(schema(LEVEL, COLOR)), *option)

    assert await listed(cli, organization) == [{"resourceType": "User", "schema": schema(LEVEL, COLOR)}]
    output, _ = await cli.run("schema", "list", *option)
    assert output == f"User   {BADGE}: level, color\n"

    await cli.run("schema", "remove", BADGE, *option)
    assert await listed(cli, organization) == []


async def test_values_that_are_stored_keep_their_schema(
    cli: Cli, organization: str, written: Any, db: asyncpg.Connection
) -> None:
    arguments = ("--organization", organization, "--resource-type", "Group")
    await cli.run("schema", "add", written(schema(LEVEL)), *arguments)
    await use(db, organization)

    await cli.run("schema", "add", written(schema(LEVEL, COLOR)), *arguments)
    for changed in (schema(COLOR), schema({**LEVEL, "type": "string"}), schema(LEVEL, {"name": "x", "required": True})):
        _, errors = await cli.run("schema", "add", written(changed), *arguments, status=1)
        assert "groups have values" in errors
    _, errors = await cli.run("schema", "remove", BADGE, "--organization", organization, status=1)
    assert "groups have values" in errors
    assert await listed(cli, organization) == [{"resourceType": "Group", "schema": schema(LEVEL, COLOR)}]


@pytest.mark.parametrize(
    ("document", "status", "says"),
    [
        ("{", 2, "is not JSON"),
        ('{"id": "a", "id": "b"}', 2, "is not JSON"),
        ([], 2, "A schema is a JSON object"),
        (schema(LEVEL, urn="urn:ietf:params:scim:schemas:core:2.0:User"), 2, "reserved namespace"),
        (schema({"name": "level", "typ": "integer"}), 2, "unknown characteristic 'typ'"),
        (schema(LEVEL, LEVEL), 2, "names level twice"),
        (schema({"name": "pin", "mutability": "writeOnly"}), 2, "keeps no secrets"),
    ],
)
async def test_what_is_no_schema_is_explained_in_one_line(
    cli: Cli, organization: str, written: Any, document: Any, status: int, says: str
) -> None:
    arguments = ("schema", "add", written(document), "--organization", organization)
    _, errors = await cli.run(*arguments, status=status)
    [line] = errors.splitlines()
    assert says in line
    assert await listed(cli, organization) == []


async def test_a_urn_belongs_to_one_resource_type_in_one_spelling(cli: Cli, organization: str, written: Any) -> None:
    """The services would refuse every request of an organization with two spellings of one URN."""
    await cli.run("schema", "add", written(schema(LEVEL)), "--organization", organization)
    other = written(schema(LEVEL, urn=BADGE.replace("Badge", "BADGE")))
    _, errors = await cli.run("schema", "add", other, "--organization", organization, status=1)
    assert "is there already" in errors
    arguments = ("--organization", organization, "--resource-type", "Group")
    _, errors = await cli.run("schema", "add", written(schema(LEVEL)), *arguments, status=1)
    assert "is there already" in errors


async def test_an_unknown_organization_file_or_urn_is_one_clear_line(
    cli: Cli, organization: str, written: Any, tmp_path: Path
) -> None:
    nowhere = str(uuid4())
    for command in (["add", written(schema(LEVEL))], ["list"], ["remove", BADGE]):
        _, errors = await cli.run("schema", *command, "--organization", nowhere, status=1)
        assert errors == "directory-sync: there is no organization of that id\n"
    _, errors = await cli.run("schema", "remove", BADGE, "--organization", organization, status=1)
    assert "has no schema of that URN" in errors
    _, errors = await cli.run("schema", "add", str(tmp_path / "no"), "--organization", organization, status=2)
    assert "No such file" in errors


async def test_schemas_are_bounded_in_number(cli: Cli, organization: str, written: Any, db: asyncpg.Connection) -> None:
    await db.execute(
        "INSERT INTO extension_schemas (organization_id, urn, resource_type, document)"
        " SELECT $1, 'urn:example:' || n, 'User', jsonb_set($2::jsonb, '{id}', to_jsonb('urn:example:' || n))"
        " FROM generate_series(1, 20) AS n",
        organization,
        json.dumps(schema(LEVEL)),
    )
    _, errors = await cli.run("schema", "add", written(schema(LEVEL)), "--organization", organization, status=1)
    assert "at most 20" in errors
