"""What happens before and around the handlers: framing, bodies, errors, names of requests."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import asyncpg
import httpx
import pytest
from fastapi import FastAPI

from admin_api import edge
from admin_api.edge import MAX_BODY
from admin_stand import PASSWORD, World, assert_refused, new_client

SIGN_IN = "/api/auth/sign-in/email"
GENERATE = "/api/auth/scim/generate-token"
JSON = {"content-type": "application/json"}

PATHS = {
    "/": "GET",
    SIGN_IN: "POST",
    "/api/auth/sign-out": "POST",
    "/api/auth/get-session": "GET",
    GENERATE: "POST",
    "/api/auth/scim/list-provider-connections": "GET",
    "/api/auth/scim/get-provider-connection": "GET",
    "/api/auth/scim/delete-provider-connection": "POST",
}


async def test_the_root_says_what_this_is(client: httpx.AsyncClient) -> None:
    answer = await client.get("/")

    assert answer.json() == {"service": "admin-api"}
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"


async def test_every_answer_names_its_request(client: httpx.AsyncClient) -> None:
    answers = [await client.get(path, headers={"x-request-id": "mine"}) for path in ("/", "/nope", "/health/live")]

    names = {answer.headers["x-request-id"] for answer in answers}
    assert len(names) == 3
    assert "mine" not in names


@pytest.mark.parametrize("path", ["/nope", "/api/auth/scim", "/api/auth/scim/v2/Users", "/docs", "/%00"])
async def test_an_unknown_path_is_not_found(client: httpx.AsyncClient, path: str) -> None:
    assert_refused(await client.get(path), 404, "not_found")


@pytest.mark.parametrize("path", PATHS)
async def test_another_method_is_not_allowed(client: httpx.AsyncClient, path: str) -> None:
    for method in {"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"} - {PATHS[path]}:
        answer = await client.request(method, path, headers={"x-http-method-override": PATHS[path]})
        assert_refused(answer, 405, "method_not_allowed")
        assert PATHS[path] in answer.headers["allow"]


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"\xff\xfe{}", b'{"providerId": NaN}', b"[" * 100_000, b"1" * 5_000, b'"\\ud800"', b"null", b"{}{}"],
)
async def test_a_body_that_is_no_json_object_is_refused(world: World, body: bytes) -> None:
    admin = await world.admin()

    for path in (SIGN_IN, GENERATE):
        assert_refused(await admin.post(path, content=body, headers=JSON), 400, "validation")


async def test_a_member_with_an_odd_name_is_refused_without_repeating_it(world: World) -> None:
    admin = await world.admin()

    for name in ("\ud800", "a\r\nb", "\x1b[31m", "x" * 1000):
        answer = await admin.post(GENERATE, content=json.dumps({"providerId": "okta", name: 1}), headers=JSON)
        assert_refused(answer, 400, "validation")
        assert name not in answer.json()["message"]


async def test_a_large_body_is_refused_whether_or_not_it_says_so(client: httpx.AsyncClient) -> None:
    async def streamed() -> AsyncIterator[bytes]:
        for _ in range(2 * MAX_BODY // 65536):
            yield b" " * 65536

    declared = await client.post(SIGN_IN, content=b" " * (MAX_BODY + 1), headers=JSON)
    assert_refused(declared, 413, "payload_too_large")
    chunked = await client.post(SIGN_IN, content=streamed(), headers=JSON)
    assert_refused(chunked, 413, "payload_too_large")
    just_right = await client.post(SIGN_IN, content=b" " * MAX_BODY, headers=JSON)
    assert_refused(just_right, 400, "validation")


async def test_a_body_that_does_not_come_is_given_up(app: FastAPI, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edge, "READ_DEADLINE", 0.05)

    assert await ask(app, [("content-length", "2")], body=None) == (408, "timeout")


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"content-type": "text/plain"},
        {"content-type": "application/x-www-form-urlencoded"},
        {"content-type": "multipart/form-data; boundary=x"},
        {"content-type": "application/jsonp"},
        {"content-type": "application/json", "content-encoding": "gzip"},
    ],
)
async def test_a_body_of_another_type_is_refused(client: httpx.AsyncClient, headers: dict[str, str]) -> None:
    assert_refused(await client.post(SIGN_IN, content=b"{}", headers=headers), 415, "unsupported_media_type")


async def test_the_type_may_carry_a_charset(client: httpx.AsyncClient) -> None:
    answer = await client.post(SIGN_IN, content=b"{}", headers={"content-type": "Application/JSON; charset=utf-8"})

    assert_refused(answer, 400, "validation")


@pytest.mark.parametrize(
    "headers",
    [
        [("host", "a"), ("host", "b")],
        [("content-type", "application/json"), ("content-type", "text/plain")],
        [("transfer-encoding", "gzip, chunked")],
        [("transfer-encoding", "chunked"), ("content-length", "2")],
        [("cookie", "a=1"), ("cookie", "b=2")],
        [("origin", "https://a.test"), ("origin", "https://b.test")],
    ],
)
async def test_t41_framing_that_reads_two_ways_is_refused(app: FastAPI, headers: list[tuple[str, str]]) -> None:
    answer = await ask(app, headers)

    assert answer == (400, "validation")


async def ask(app: FastAPI, headers: Iterable[tuple[str, str]], body: bytes | None = b"{}") -> tuple[int, str]:
    """Status and error of a request that a client library would not send; its `body` None never comes."""
    sent = []
    scope = {
        "type": "http",
        "method": "POST",
        "path": SIGN_IN,
        "raw_path": SIGN_IN.encode(),
        "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in headers],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
        "scheme": "http",
        "http_version": "1.1",
        "root_path": "",
    }

    async def receive() -> dict:
        if body is None:
            await asyncio.Event().wait()
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: dict) -> None:
        sent.append(message)

    await app(scope, receive, send)  # type: ignore[arg-type]
    return sent[0]["status"], json.loads(sent[1]["body"])["error"]


async def test_t57_a_bug_is_answered_with_its_name_only(
    world: World, app: FastAPI, postgres_module_database: str
) -> None:
    # Two connections of one name, which the index forbids: nothing in the code expects them.
    person = await world.person(await world.organization())
    admin = await world.signed_in(person)
    index = await world.db.fetchval("SELECT pg_get_indexdef('connections_organization_id_provider_id_key'::regclass)")
    await world.db.execute("DROP INDEX connections_organization_id_provider_id_key")
    for _ in range(2):
        await world.db.execute(
            "INSERT INTO connections (id, organization_id, provider_id) VALUES (gen_random_uuid(), $1, 'okta')",
            person.organization_id,
        )

    answer = await admin.get("/api/auth/scim/get-provider-connection", params={"providerId": "okta"})

    await world.db.execute("DELETE FROM connections WHERE organization_id = $1", person.organization_id)
    await world.db.execute(str(index))
    assert_refused(answer, 500, "internal")
    request_id = answer.headers["x-request-id"]
    assert answer.json()["message"] == f"something went wrong on our side; quote request {request_id} to the operator"


async def test_t57_while_postgres_is_away_the_answer_is_503_and_then_all_is_well(
    world: World, postgres_server: str
) -> None:
    person = await world.person(await world.organization())
    admin = await world.signed_in(person)

    async with kept_out(world.db, postgres_server):
        calls = [
            await admin.get("/api/auth/get-session"),
            await admin.post(GENERATE, json={"providerId": "okta"}),
            await new_client(world.app).post(SIGN_IN, json={"email": person.email, "password": PASSWORD}),
        ]
        ready = await admin.get("/health/ready")
        live = await admin.get("/health/live")

    for answer in calls:
        assert_refused(answer, 503, "unavailable")
        assert int(answer.headers["retry-after"]) > 0
        assert answer.json()["message"] == "the directory cannot be reached at the moment; try again"
    assert (ready.status_code, live.status_code) == (503, 200)
    assert (await admin.get("/api/auth/get-session")).status_code == 200
    assert (await admin.get("/health/ready")).json() == {"status": "ok", "checks": {"postgres": "ok", "kafka": "ok"}}


@asynccontextmanager
async def kept_out(db: asyncpg.Connection, server: str) -> AsyncIterator[None]:
    """The service's role loses its connections to this database and gets no new ones."""
    name = await db.fetchval("SELECT current_database()")
    owner = await asyncpg.connect(server)
    await db.execute(f"REVOKE CONNECT ON DATABASE {name} FROM PUBLIC")
    try:
        await owner.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1 AND usename = 'scim_admin'", name
        )
        yield
    finally:
        await db.execute(f"GRANT CONNECT ON DATABASE {name} TO PUBLIC")
        await owner.close()
