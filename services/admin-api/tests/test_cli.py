"""`directory-sync`, as operators run it."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg
import pytest
from aiokafka.admin import NewTopic

import directory
from admin_api.bootstrap import Wanted, check
from admin_api.errors import Validation
from admin_api.topics import TopicMismatch, create_topics, open_admin
from admin_stand import PEPPER, Cli
from contracts import SCIM_TOKEN, TOPICS, Topic
from devstack.pytest_plugin import new_database
from servicekit import bearer

PASSWORD = "a password of the admin"


@pytest.fixture
async def empty_database(postgres_server: str) -> AsyncIterator[str]:
    async with new_database(postgres_server) as dsn:
        yield dsn


@pytest.fixture
def password_file(tmp_path: Path) -> Path:
    path = tmp_path / "password"
    path.write_text(PASSWORD + "\n")
    return path


@pytest.fixture
def cli(postgres_module_database: str, kafka_bootstrap: str) -> Cli:
    return Cli({"DATABASE_URL": postgres_module_database, "KAFKA_BOOTSTRAP": kafka_bootstrap, "TOKEN_PEPPER": PEPPER})


@pytest.fixture
async def db(postgres_module_database: str) -> AsyncIterator[asyncpg.Connection]:
    db = await asyncpg.connect(postgres_module_database)
    yield db
    await db.close()


@pytest.fixture
def wanted(password_file: Path) -> list[str]:
    """Arguments of a bootstrap of an organization of the test's own."""
    name = uuid4().hex
    return [
        *("bootstrap", "--organization", name, "--email", f"Ada@{name}.test"),
        *("--password-file", str(password_file), "--provider-id", "okta"),
    ]


async def test_migrate_brings_the_database_to_head_and_sets_the_passwords(cli: Cli, empty_database: str) -> None:
    passwords = ("g'1", "p 2", "a%3")
    names = ("GATEWAY_DB_PASSWORD", "PROVISIONER_DB_PASSWORD", "ADMIN_DB_PASSWORD")
    env: dict[str, Any] = {"DATABASE_URL": empty_database, **dict(zip(names, passwords, strict=True))}

    for _ in range(2):
        output, _ = await cli.run("migrate", **env)
        assert directory.HEAD in output
        assert not any(password in output for password in passwords)

    parts = urlsplit(empty_database)
    for role, password in zip(directory.ROLES, passwords, strict=True):
        db = await asyncpg.connect(
            host=parts.hostname, port=parts.port, user=str(role), password=password, database=parts.path[1:]
        )
        assert await directory.revision_of(db) == directory.HEAD
        await db.close()


@pytest.mark.parametrize(
    ("command", "url", "status", "says"),
    [
        ("migrate", "postgresql://u:canary@127.0.0.1:1/d", 1, "Connection refused"),
        ("bootstrap", "postgresql://u:canary@127.0.0.1:1/d", 1, "Connection refused"),
        ("migrate", "postgresql://u:canary@host.invalid/d", 1, "unknown host name"),
        ("migrate", "{server}zz", 1, "does not exist"),
        ("migrate", "{wrong}", 1, "refuses the user or the password"),
        ("migrate", "canary", 2, "must be like postgresql://"),
        ("bootstrap", "", 2, "DATABASE_URL"),
    ],
)
async def test_a_database_that_cannot_be_used_is_one_clear_line(
    cli: Cli, wanted: list[str], postgres_server: str, command: str, url: str, status: int, says: str
) -> None:
    parts = urlsplit(postgres_server)
    wrong = parts._replace(netloc=f"{parts.username}:canary@{parts.hostname}:{parts.port}").geturl()
    url = url.format(server=postgres_server, wrong=wrong)

    output, errors = await cli.run(*(wanted if command == "bootstrap" else [command]), status=status, DATABASE_URL=url)

    assert output == ""
    [line] = errors.splitlines()
    assert says in line
    assert "canary" not in line


async def test_bootstrap_before_migrate_says_what_to_do(cli: Cli, wanted: list[str], empty_database: str) -> None:
    _, errors = await cli.run(*wanted, status=1, DATABASE_URL=empty_database)

    assert "directory-sync migrate" in errors


async def test_bootstrap_makes_an_organization_an_admin_and_a_connection(
    cli: Cli, wanted: list[str], db: asyncpg.Connection
) -> None:
    output, errors = await cli.run(*wanted, "--json")

    made = json.loads(output)
    assert errors == ""
    assert set(made) == {"organizationId", "adminEmail", "connectionId", "scimToken"}
    assert made["adminEmail"] == wanted[wanted.index("--email") + 1]
    [row] = await db.fetch(
        """
        SELECT plan, break_glass, status, email_key, roles.name, built_in, provider_id, digest, password_hash
        FROM organizations
            JOIN accounts ON accounts.organization_id = organizations.id
            JOIN credentials ON credentials.account_id = accounts.id
            JOIN grants ON grants.account_id = accounts.id AND group_id IS NULL
            JOIN roles ON roles.id = role_id
            JOIN connections ON connections.organization_id = organizations.id
            JOIN tokens ON connection_id = connections.id
        WHERE organizations.id::text = $1 AND connections.id::text = $2
        """,
        *(made["organizationId"], made["connectionId"]),
    )
    assert (row["plan"], row["status"], row["break_glass"]) == ("enterprise", "active", True)
    assert row["email_key"] == made["adminEmail"].lower()
    assert (row["name"], row["built_in"], row["provider_id"]) == ("admin", True, "okta")
    assert row["digest"] == bearer.digest(PEPPER.encode(), SCIM_TOKEN, made["scimToken"])
    assert row["password_hash"].startswith("$argon2id$")
    roles = await db.fetch("SELECT name FROM roles WHERE organization_id::text = $1", made["organizationId"])
    assert {role["name"] for role in roles} == {"member", "admin"}


async def test_bootstrap_again_changes_nothing_and_shows_no_token(
    cli: Cli, wanted: list[str], db: asyncpg.Connection
) -> None:
    first = json.loads((await cli.run(*wanted, "--json"))[0])
    before = await rows_of(db, first["organizationId"])

    again = json.loads((await cli.run(*wanted, "--json"))[0])
    human, _ = await cli.run(*wanted)

    assert again == {**first, "scimToken": None}
    assert await rows_of(db, first["organizationId"]) == before
    assert first["connectionId"] in human
    assert "--rotate-token" in human


async def test_bootstraps_at_the_same_time_make_one_of_everything(cli: Cli, wanted: list[str]) -> None:
    outputs = await asyncio.gather(*(cli.run(*wanted, "--json") for _ in range(3)))

    made = [json.loads(output) for output, _ in outputs]
    assert len({m["organizationId"] for m in made}) == len({m["connectionId"] for m in made}) == 1
    assert len([m for m in made if m["scimToken"]]) == 1


async def test_rotate_token_issues_one_more_and_a_third_is_refused(cli: Cli, wanted: list[str]) -> None:
    first = json.loads((await cli.run(*wanted, "--json"))[0])
    second = json.loads((await cli.run(*wanted, "--json", "--rotate-token"))[0])

    assert second["scimToken"] not in (None, first["scimToken"])
    _, errors = await cli.run(*wanted, "--rotate-token", status=1)
    assert "2 live tokens" in errors


async def test_bootstrap_changes_the_password_and_the_plan_when_they_differ(
    cli: Cli, wanted: list[str], password_file: Path, db: asyncpg.Connection
) -> None:
    made = json.loads((await cli.run(*wanted, "--json"))[0])
    before = await rows_of(db, made["organizationId"])
    password_file.write_text("another password")

    await cli.run(*wanted, "--plan", "free")

    after = await rows_of(db, made["organizationId"])
    assert before["plan"] == "enterprise"
    assert after["plan"] == "free"
    assert before["password_hash"] != after["password_hash"]


async def rows_of(db: asyncpg.Connection, organization_id: str) -> dict[str, object]:
    [row] = await db.fetch(
        """
        SELECT plan, password_hash, accounts.*, (SELECT count(*) FROM grants WHERE account_id = accounts.id) AS grants,
            (SELECT count(*) FROM connections WHERE organization_id = organizations.id) AS connections
        FROM organizations
            JOIN accounts ON accounts.organization_id = organizations.id
            JOIN credentials ON credentials.account_id = accounts.id
        WHERE organizations.id::text = $1
        """,
        organization_id,
    )
    return dict(row)


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        ("--email", "ada", "must be an address"),
        ("--password-file", "/nope", "No such file"),
        ("--plan", "gratis", "enterprise"),
    ],
)
async def test_bootstrap_explains_a_wrong_argument(
    cli: Cli, wanted: list[str], option: str, value: str, says: str
) -> None:
    output, errors = await cli.run(*wanted, option, value, status=2)

    assert output == ""
    assert says in errors


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"email": "аda@example.test"}, "different scripts"),
        ({"email": "a b@example.test"}, "must be an address"),
        ({"provider_id": "a:b"}, "1 to 64 characters"),
        ({"provider_id": "google"}, "a way to sign in"),
        ({"organization": " "}, "1 to 200"),
        ({"organization": "a\nb"}, "1 to 200"),
        ({"organization": "a" * 201}, "1 to 200"),
        ({"password": "short"}, "the password must have"),
        ({"password": "x" * 1025}, "the password must have"),
    ],
)
def test_what_cannot_be_bootstrapped_is_explained(wrong: dict[str, str], says: str) -> None:
    wanted = Wanted("Acme", "ada@example.test", PASSWORD, "okta", None, False)
    assert check(wanted) == "ada@example.test"

    with pytest.raises(Validation, match=says):
        check(replace(wanted, **wrong))


async def test_the_pepper_may_come_from_a_file(cli: Cli, wanted: list[str], tmp_path: Path) -> None:
    (tmp_path / "pepper").write_text(PEPPER + "\n")
    del cli.env["TOKEN_PEPPER"]

    assert "TOKEN_PEPPER" in (await cli.run(*wanted, status=2))[1]
    await cli.run(*wanted, TOKEN_PEPPER_FILE=str(tmp_path / "pepper"))


async def test_topics_are_created_once_with_their_settings(cli: Cli) -> None:
    await cli.run("topics")
    output, _ = await cli.run("topics")

    for topic in TOPICS:
        assert f"{topic.name} exists." in output
    assert "Left as it is" not in output  # the broker has the settings that we would set


async def test_topics_without_a_broker_is_one_clear_line(cli: Cli) -> None:
    for bootstrap, status in (("127.0.0.1:1", 1), ("nonsense", 2), ("", 2)):
        output, errors = await cli.run("topics", status=status, KAFKA_BOOTSTRAP=bootstrap)
        assert output == ""
        [line] = errors.splitlines()
        assert "KAFKA_BOOTSTRAP" in line


async def test_a_topic_with_other_partitions_is_refused_and_other_settings_are_reported(kafka_bootstrap: str) -> None:
    wanted = Topic(f"test.{uuid4().hex}", 3, timedelta(hours=1))
    async with open_admin(kafka_bootstrap) as admin:
        await admin.create_topics([NewTopic(wanted.name, 2, 1)])
    with pytest.raises(TopicMismatch, match="has 2 partitions, 3 are needed"):
        await create_topics(kafka_bootstrap, [wanted], 1)

    report = await create_topics(kafka_bootstrap, [Topic(wanted.name, 2, wanted.retention)], 1)

    assert report.existing == [wanted.name]
    assert any("retention.ms" in deviation for deviation in report.deviations)


async def test_without_a_command_there_is_help(cli: Cli) -> None:
    output, _ = await cli.run(status=2)

    for command in ("migrate", "topics", "bootstrap"):
        assert command in output
