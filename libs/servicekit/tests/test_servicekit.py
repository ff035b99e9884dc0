"""What every service relies on, each piece on the real thing it wraps."""

import asyncio
import json
import logging
import socket
import subprocess
import sys
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import asyncpg
import pytest
from aiokafka.partitioner import DefaultPartitioner
from pydantic import Field, SecretStr
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from devstack.ports import free_port
from servicekit import bearer, http, ids, lifecycle, settings
from servicekit.health import Health
from servicekit.kafka import partition_of
from servicekit.postgres import OldSchema, check_revision, open_pool


class Example(settings.ServiceSettings):
    example_port: int = Field(default=1, ge=1, le=65535)
    example_secret: SecretStr


def test_a_setting_comes_from_the_environment_or_from_a_file(monkeypatch, tmp_path: Path):
    secret = tmp_path / "secret"
    secret.write_text("from a file\n")
    monkeypatch.setenv("EXAMPLE_PORT", "8080")
    monkeypatch.setenv("EXAMPLE_SECRET_FILE", str(secret))

    loaded = settings.load(Example)

    assert (loaded.example_port, loaded.example_secret.get_secret_value()) == (8080, "from a file")
    assert "from a file" not in repr(loaded)


def test_every_wrong_setting_is_named_and_no_value_shown(monkeypatch, capsys):
    monkeypatch.setenv("EXAMPLE_PORT", "a secret by mistake")

    with pytest.raises(SystemExit) as stopped:
        settings.load(Example)

    lines = capsys.readouterr().err.splitlines()
    assert stopped.value.code == 2
    assert [line.split(":")[1].strip() for line in lines] == ["EXAMPLE_PORT", "EXAMPLE_SECRET"]
    assert "by mistake" not in "".join(lines)


def test_a_file_that_cannot_be_read_is_named(monkeypatch, capsys):
    monkeypatch.setenv("EXAMPLE_SECRET_FILE", "/nowhere")

    with pytest.raises(SystemExit):
        settings.load(Example)

    assert "EXAMPLE_SECRET_FILE: cannot read /nowhere: No such file" in capsys.readouterr().err


def test_t44_a_secret_has_256_random_bits_a_prefix_and_a_checksum():
    secrets = {bearer.mint("scim") for _ in range(100)}

    assert len(secrets) == 100
    assert all(secret.startswith("scim_") and len(secret) == 54 and bearer.is_well_formed(secret) for secret in secrets)


@pytest.mark.parametrize("spoil", [lambda t: t[:-1], lambda t: t + "0", lambda t: t.swapcase(), lambda t: "x" + t])
def test_t19_a_spoiled_secret_is_not_well_formed(spoil):
    assert not bearer.is_well_formed(spoil(bearer.mint("scim")))


@pytest.mark.parametrize("text", ["", "_", "scim_", "é" * 60, "a" * 10_000])
def test_any_text_may_be_asked_about(text):
    assert bearer.is_well_formed(text) is False


def test_t47_digests_differ_by_every_character_and_kind():
    long = "scim_" + "a" * 72
    tokens = [long + "x", long + "y", long]
    digests = {bearer.digest(b"pepper", kind, token) for kind in ("scim", "session") for token in tokens}
    digests |= {bearer.digest(b"another", "scim", long), bearer.digest(b"pepper", "sci", "m" + long)}

    assert len(digests) == 8


def test_ids_are_uuid7_and_ascend():
    minted = [ids.uuid7() for _ in range(10_000)]

    assert minted == sorted(set(minted))
    assert {(one.version, one.variant) for one in minted} == {(7, "specified in RFC 4122")}


def test_a_partition_is_the_one_that_the_producer_chooses():
    choose = DefaultPartitioner()
    keys = [str(ids.uuid7()).encode() for _ in range(200)]

    assert [partition_of(key, 12) for key in keys] == [choose(key, list(range(12)), list(range(12))) for key in keys]


async def served(app: Starlette, stopping: asyncio.Event, port: int, **options) -> asyncio.Task[None]:
    serving = asyncio.create_task(http.serve(app, "127.0.0.1", port, stopping, **options))
    async with asyncio.timeout(10):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.02)
            else:
                writer.close()
                return serving


def fetch(port: int, path: str) -> tuple[int, str]:
    try:
        with urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except HTTPError as error:
        return error.code, error.read().decode()


async def test_p13_a_request_in_flight_is_answered_after_the_stop_and_no_other_is_taken():
    arrived, release = asyncio.Event(), asyncio.Event()

    async def slow(_: Request) -> PlainTextResponse:
        arrived.set()
        await release.wait()
        return PlainTextResponse("done")

    port, stopping, drained = free_port(), asyncio.Event(), asyncio.Event()
    serving = await served(Starlette(routes=[Route("/slow", slow)]), stopping, port, on_drain=drained.set)
    asked = asyncio.create_task(asyncio.to_thread(fetch, port, "/slow"))
    await asyncio.wait_for(arrived.wait(), 10)
    stopping.set()
    await asyncio.wait_for(drained.wait(), 10)
    release.set()

    assert await asked == (200, "done")
    await asyncio.wait_for(serving, 10)
    with pytest.raises(OSError, match="refused"):
        await asyncio.to_thread(fetch, port, "/slow")


async def test_a_port_in_use_is_one_clear_sentence():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(http.PortInUse, match=f"cannot listen on 127.0.0.1:{port}: .*; choose another port"):
            await http.serve(Starlette(), "127.0.0.1", port, asyncio.Event())


async def test_1100_idle_sockets_keep_nobody_else_waiting():
    stopping, port = asyncio.Event(), free_port()
    serving = await served(Starlette(routes=Health().routes()), stopping, port)
    idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(1100)]

    async with asyncio.timeout(http.HEADER_READ_TIMEOUT / 2000):  # they are closed after twice that
        status, _ = await asyncio.to_thread(fetch, port, "/health/live")

    assert status == 200
    for _, writer in idle:
        writer.close()
    stopping.set()
    await serving


async def test_readiness_names_the_check_that_fails_and_liveness_does_not_care():
    health, stopping, port = Health(), asyncio.Event(), free_port()

    async def fails() -> None:
        raise ConnectionRefusedError("10.0.0.1 refused")

    health.add("postgres", fails)
    serving = await served(Starlette(routes=health.routes()), stopping, port)

    assert (await asyncio.to_thread(fetch, port, "/health/live"))[0] == 200
    status, body = await asyncio.to_thread(fetch, port, "/health/ready")
    assert (status, json.loads(body)["checks"]) == (503, {"postgres": "ConnectionRefusedError"})

    health.add("postgres", lambda: asyncio.sleep(0))
    assert (await asyncio.to_thread(fetch, port, "/health/ready"))[0] == 200
    health.draining = True
    assert (await asyncio.to_thread(fetch, port, "/health/ready"))[0] == 503
    stopping.set()
    await serving


async def test_waiting_goes_on_until_it_works():
    attempts = iter([OSError(), OSError(), None])

    async def attempt() -> str:
        if error := next(attempts):
            raise error
        return "there"

    assert await lifecycle.wait_for(attempt, "a test", asyncio.Event()) == "there"


async def test_waiting_ends_when_the_service_is_told_to_stop():
    stopping = asyncio.Event()

    async def attempt() -> None:
        stopping.set()
        raise OSError

    with pytest.raises(lifecycle.Stopping):
        await lifecycle.wait_for(attempt, "a test", stopping)


@pytest.mark.parametrize(
    ("body", "code", "says"),
    [
        ("await stopping.wait()", 0, ""),
        ("raise lifecycle.StartupError('no luck')", 1, "no luck"),
        ("token = 'canary'; raise ValueError('canary') from KeyError('canary')", 1, "ValueError at"),
        ("raise lifecycle.Stopping", 0, ""),
    ],
)
def test_a_service_ends_with_the_right_code_and_says_why(body, code, says):
    program = (
        "import os, signal\nfrom servicekit import lifecycle, logs\nlogs.configure('example')\n"
        f"async def main(stopping):\n    os.kill(os.getpid(), signal.SIGTERM)\n    {body}\nlifecycle.run(main)\n"
    )

    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30)

    assert ended.returncode == code
    assert says in ended.stdout
    assert "canary" not in ended.stdout + ended.stderr


def test_a_librarys_message_is_logged_without_arguments_and_not_over_and_over():
    program = (
        "import logging\nfrom servicekit import logs\nlogs.configure('example')\n"
        "for _ in range(1000): logging.getLogger('lib').error('lost %s', 'canary')\n"
    )

    lines = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=30
    ).stdout.splitlines()

    assert [json.loads(line)["message"] for line in lines] == ["lost %s"]
    assert logging.getLevelName(logging.ERROR) == "ERROR"


async def test_a_pool_opens_before_postgres_does_and_carries_json(postgres_database: str):
    async with open_pool("postgresql://nobody@127.0.0.1:1/none", service="test") as away:
        with pytest.raises(OSError, match="127.0.0.1"):
            await away.fetchval("SELECT 1")
    async with open_pool(postgres_database, service="test") as pool:
        assert await pool.fetchval("SELECT $1::jsonb", {"a": ["ü", None]}) == {"a": ["ü", None]}
        assert await pool.fetchval("SELECT $1::jsonb", b'{"already": "text"}') == {"already": "text"}


async def test_an_older_schema_is_refused(postgres_database: str):
    async with open_pool(postgres_database, service="test") as pool:
        await check_revision(pool, "0001")
        with pytest.raises(OldSchema, match="needs 9999"):
            await check_revision(pool, "9999")
        await pool.execute("DROP TABLE alembic_version")
        with pytest.raises(asyncpg.UndefinedTableError):
            await check_revision(pool, "0001")
