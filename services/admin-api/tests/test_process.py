"""The console script as operators run it: start, readiness, logs, stop."""

import asyncio
import json
import signal

import httpx
import pytest

from admin_api.settings import Settings
from admin_stand import PASSWORD, PEPPER, World, answer_of, ended, environment, new_settings, started
from devstack.pytest_plugin import new_database


async def test_it_serves_until_it_is_told_to_stop(settings: Settings, unused_port: int, world: World) -> None:
    person = await world.person(await world.organization())
    async with (
        started(environment(settings, unused_port)) as process,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{unused_port}") as client,
    ):
        ready = await answer_of(client, "/health/ready", 200)
        assert ready.json() == {"status": "ok", "checks": {"postgres": "ok", "kafka": "ok"}}
        assert (await client.get("/health/live")).json()["status"] == "ok"
        assert (await client.post("/api/auth/sign-in/email", json=person.credentials)).status_code == 200

        process.send_signal(signal.SIGTERM)

        status, _, errors = await ended(process)
        assert (status, errors) == (0, "")


async def test_t56_no_secret_and_no_person_is_logged(settings: Settings, unused_port: int, world: World) -> None:
    person = await world.person(await world.organization())
    canaries = {PASSWORD, PEPPER, person.email, "Ada Lovelace", "canary"}
    async with (
        started(environment(settings, unused_port) | {"LOG_LEVEL": "DEBUG"}) as process,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{unused_port}") as client,
    ):
        await answer_of(client, "/health/ready", 200)
        session = (await client.post("/api/auth/sign-in/email", json=person.credentials)).json()["token"]
        admin = {"authorization": f"Bearer {session}"}
        issued = await client.post("/api/auth/scim/generate-token", json={"providerId": "okta"}, headers=admin)
        canaries |= {session, issued.json()["scimToken"], settings.admin_database_url.get_secret_value()}
        await client.get("/nope/canary%0d%0acanary", params={"token": "canary"}, headers={"x-request-id": "canary"})
        await client.get("/api/auth/get-session", headers={"authorization": "Bearer canary\x1b[31m"})
        await client.post("/api/auth/sign-in/email", json={"email": "canary@example.test", "password": "canary"})
        await client.post("/api/auth/sign-in/email", json={"email": ["canary"], "canary\r\n": "canary"})
        # A bug, in the middle of a transaction that holds the account.
        await world.db.execute("ALTER TABLE sessions DROP CONSTRAINT sessions_digest_key")
        await world.db.execute(
            """
            INSERT INTO sessions (id, account_id, digest, epoch, expires_at)
            SELECT gen_random_uuid(), account_id, digest, epoch, expires_at FROM sessions WHERE account_id = $1
            """,
            person.id,
        )
        crashed = await client.get("/api/auth/get-session", headers=admin)
        await world.db.execute("DELETE FROM sessions WHERE account_id = $1", person.id)
        await world.db.execute("ALTER TABLE sessions ADD CONSTRAINT sessions_digest_key UNIQUE (digest)")

        process.send_signal(signal.SIGTERM)
        _, output, errors = await ended(process)

    assert crashed.status_code == 500
    events = [json.loads(line) for line in output.splitlines()]  # each line is JSON, whatever was sent
    [failure] = [event for event in events if event["event"] == "request.failed"]
    assert failure["request_id"] == crashed.headers["x-request-id"]
    assert "find_session" in failure["error"]
    assert {event["event"] for event in events} >= {"request.done", "token.issued", "request.failed"}
    assert [secret for secret in canaries if secret in output + errors] == []


async def test_it_starts_without_kafka_and_postgres_and_says_that_it_is_not_ready(
    settings: Settings, unused_port: int
) -> None:
    env = environment(settings, unused_port)
    env |= {"ADMIN_DATABASE_URL": "postgresql://nobody:secret@127.0.0.1:1/none", "KAFKA_BOOTSTRAP": "127.0.0.1:1"}
    async with started(env) as process, httpx.AsyncClient(base_url=f"http://127.0.0.1:{unused_port}") as client:
        ready = await answer_of(client, "/health/ready", 503)
        assert set(ready.json()["checks"]) == {"postgres", "kafka"}
        assert "ok" not in ready.json()["checks"].values()
        assert (await client.get("/health/live")).status_code == 200

        process.send_signal(signal.SIGTERM)

        status, output, _ = await ended(process)
        assert status == 0
        assert "Traceback" not in output


async def test_it_is_not_ready_on_a_database_that_was_never_migrated(
    settings: Settings, unused_port: int, postgres_server: str
) -> None:
    async with new_database(postgres_server) as empty:
        env = environment(new_settings(empty, settings.kafka_bootstrap), unused_port)
        async with started(env), httpx.AsyncClient(base_url=f"http://127.0.0.1:{unused_port}") as client:
            ready = await answer_of(client, "/health/ready", 503)
            assert ready.json()["checks"] == {"postgres": "OldSchema", "kafka": "ok"}


async def test_a_port_in_use_is_one_clear_line(settings: Settings, unused_port: int) -> None:
    listener = await asyncio.start_server(lambda *_: None, "127.0.0.1", unused_port)
    async with listener, started(environment(settings, unused_port)) as process:
        status, output, errors = await ended(process)

    assert (status, errors) == (1, "")
    [line] = output.splitlines()
    assert f"127.0.0.1:{unused_port}" in json.loads(line)["reason"]


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("ADMIN_DATABASE_URL", None, "is not set"),
        ("ADMIN_DATABASE_URL", "mysql://canary", "must be like postgresql://"),
        ("KAFKA_BOOTSTRAP", "canary", "must be host:port"),
        ("TOKEN_PEPPER", "canary", "at least 16 characters"),
        ("ADMIN_PORT", "http", "integer"),
    ],
)
async def test_a_wrong_setting_is_one_clear_line(
    settings: Settings, unused_port: int, name: str, value: str | None, says: str
) -> None:
    env = environment(settings, unused_port)
    env.pop(name)
    async with started(env if value is None else env | {name: value}) as process:
        status, output, errors = await ended(process)

    assert (status, output) == (2, "")
    [line] = errors.splitlines()
    assert line.startswith(f"settings: {name}: ")
    assert says in line
    assert "canary" not in line
