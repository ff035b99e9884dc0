"""Sign-in, sign-out and what a session is worth."""

import asyncio
import threading
from datetime import timedelta
from uuid import uuid4

import asyncpg
import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy.dialects import postgresql

from admin_api import passwords
from admin_api.failures import MAX_FAILURES
from admin_api.sessions import COOKIE, SESSION
from admin_api.store.sessions import select_session
from admin_stand import ORIGIN, PASSWORD, PEPPER, World, assert_refused, new_client, token_of
from servicekit import bearer

SIGN_IN = "/api/auth/sign-in/email"
SIGN_OUT = "/api/auth/sign-out"
SESSION_OF = "/api/auth/get-session"


async def test_signing_in_gives_a_session_and_says_who_one_is(client: httpx.AsyncClient, world: World) -> None:
    person = await world.person(await world.organization(), ["member", "admin"])

    answer = await client.post(SIGN_IN, json={**person.credentials, "email": person.email.upper()})

    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    assert answer.json()["user"] == {
        "id": str(person.id),
        "email": person.email,
        "name": "Ada Lovelace",
        "organizationId": str(person.organization_id),
        "roles": ["admin", "member"],
    }
    seen = await client.get(SESSION_OF, headers={"authorization": f"Bearer {answer.json()['token']}"})
    assert seen.json()["user"] == answer.json()["user"]
    assert seen.json()["session"]["expiresAt"]


async def test_t44_a_session_is_kept_as_a_digest_only(client: httpx.AsyncClient, world: World) -> None:
    person = await world.person(await world.organization())

    secret = (await client.post(SIGN_IN, json=person.credentials)).json()["token"]

    rows = await world.db.fetch("SELECT * FROM sessions WHERE account_id = $1", person.id)
    assert [row["digest"] for row in rows] == [bearer.digest(PEPPER.encode(), SESSION, secret)]
    assert secret not in str(rows)


async def test_whatever_is_wrong_with_a_sign_in_the_answer_and_the_cost_are_the_same(
    client: httpx.AsyncClient, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    organization = await world.organization()
    person = await world.person(organization)
    without_password = await world.person(organization, password_hash=None)
    suspended = await world.person(organization)
    await world.db.execute("UPDATE accounts SET status = 'suspended' WHERE id = $1", suspended.id)
    verify, costs = passwords.verify, []

    def counted(password_hash: str, password: str) -> bool:
        costs.append(threading.current_thread().name.rpartition("_")[0])
        return verify(password_hash, password)

    monkeypatch.setattr(passwords, "verify", counted)
    wrong = [
        {"email": person.email, "password": "not the password"},
        {"email": f"{uuid4().hex}@example.test", "password": PASSWORD},
        {"email": "no address", "password": PASSWORD},
        {"email": "zero\u0000byte@example.test", "password": PASSWORD},
        without_password.credentials,
        suspended.credentials,
        {**person.credentials, "organizationId": str(uuid4())},
        {**person.credentials, "organizationId": "nonsense"},
    ]

    answers = [await client.post(SIGN_IN, json=body) for body in wrong]

    for answer in answers:
        assert_refused(answer, 401, "unauthenticated")
    assert len({answer.json()["message"] for answer in answers}) == 1
    assert len({frozenset(answer.headers) for answer in answers}) == 1
    assert costs == ["argon2"] * len(wrong)  # one hash each, on a thread of the pool


async def test_the_password_decides_between_organizations_that_share_an_email(
    client: httpx.AsyncClient, world: World
) -> None:
    email = f"{uuid4().hex}@example.test"
    mine = await world.person(await world.organization(), email=email)
    hashed = passwords.hash_password("another password")
    other = await world.person(await world.organization(), email=email, password_hash=hashed)

    for person, password in ((mine, PASSWORD), (other, "another password")):
        answer = await client.post(SIGN_IN, json={"email": email, "password": password})
        assert answer.json()["user"]["organizationId"] == str(person.organization_id)


async def test_the_same_password_in_two_organizations_needs_the_organization_named(
    client: httpx.AsyncClient, world: World
) -> None:
    email = f"{uuid4().hex}@example.test"
    people = [await world.person(await world.organization(), email=email) for _ in range(2)]

    assert_refused(await client.post(SIGN_IN, json=people[0].credentials), 409, "conflict")
    for person in people:
        body = {**person.credentials, "organizationId": str(person.organization_id)}
        answer = await client.post(SIGN_IN, json=body)
        assert answer.json()["user"]["id"] == str(person.id)


async def test_after_too_many_failures_even_the_right_password_waits(client: httpx.AsyncClient, world: World) -> None:
    organization = await world.organization()
    person, bystander = await world.person(organization), await world.person(organization)

    # At the same time: they count before they have failed.
    guesses = [client.post(SIGN_IN, json={**person.credentials, "password": "guess"}) for _ in range(MAX_FAILURES)]
    assert {answer.status_code for answer in await asyncio.gather(*guesses)} == {401}

    refused = await client.post(SIGN_IN, json=person.credentials)
    assert_refused(refused, 429, "too_many_requests")
    assert int(refused.headers["retry-after"]) > 0
    assert (await client.post(SIGN_IN, json=bystander.credentials)).status_code == 200


async def test_success_forgets_the_failures_before_it(client: httpx.AsyncClient, world: World) -> None:
    person = await world.person(await world.organization())

    for _ in range(3):
        for _ in range(MAX_FAILURES - 1):
            await client.post(SIGN_IN, json={**person.credentials, "password": "guess"})
        assert (await client.post(SIGN_IN, json=person.credentials)).status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        *({}, [], "text", None),
        {"email": "a@b.c"},
        {"email": "a@b.c", "password": ""},
        {"email": "a@b.c", "password": "x" * 1025},
        {"email": "a" * 321, "password": "x"},
        {"email": 1, "password": "x"},
    ],
)
async def test_a_sign_in_of_the_wrong_shape_is_refused(client: httpx.AsyncClient, body: object) -> None:
    assert_refused(await client.post(SIGN_IN, json=body), 400, "validation")


async def test_a_refusal_does_not_repeat_what_was_sent(client: httpx.AsyncClient) -> None:
    answer = await client.post(SIGN_IN, json={"email": ["canary@example.test"], "password": {"canary": 1}})

    assert_refused(answer, 400, "validation")
    assert "canary" not in answer.text


async def test_t53_sign_out_ends_the_session_and_every_sign_in_starts_a_new_one(
    client: httpx.AsyncClient, world: World
) -> None:
    person = await world.person(await world.organization())
    first, second = await world.signed_in(person), await world.signed_in(person)
    assert token_of(first) != token_of(second)

    assert (await first.post(SIGN_OUT)).json() == {"success": True}

    assert_refused(await first.get(SESSION_OF), 401, "unauthenticated")
    assert_refused(await first.post(SIGN_OUT), 401, "unauthenticated")
    assert (await second.get(SESSION_OF)).status_code == 200


async def test_t53_the_cookie_is_for_our_own_pages_only(client: httpx.AsyncClient, world: World) -> None:
    person = await world.person(await world.organization())
    answer = await client.post(SIGN_IN, json=person.credentials, headers={"origin": ORIGIN})
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith(f"{COOKIE}=session_")
    assert {"HttpOnly", "Secure", "Path=/", "SameSite=strict"} <= set(cookie.split("; "))
    assert "Domain" not in cookie
    cookie = {"cookie": cookie.partition(";")[0]}
    client.cookies.clear()

    assert (await client.get(SESSION_OF, headers=cookie)).status_code == 200
    foreign = [
        {},
        {"origin": "null"},
        {"origin": "https://evil.test"},
        {"origin": "http://admin.test.evil.test"},
        {"origin": "http://[broken"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ]
    for headers in foreign:
        assert_refused(await client.post(SIGN_OUT, headers=cookie | headers), 403, "forbidden")
    assert (await client.get(SESSION_OF, headers=cookie)).status_code == 200
    own = await client.post(SIGN_OUT, headers=cookie | {"origin": ORIGIN})
    assert own.json() == {"success": True}
    assert f'{COOKIE}=""' in own.headers["set-cookie"]
    assert_refused(await client.get(SESSION_OF, headers=cookie), 401, "unauthenticated")


async def test_t53_another_site_cannot_sign_a_browser_in(client: httpx.AsyncClient, world: World) -> None:
    person = await world.person(await world.organization())

    answer = await client.post(SIGN_IN, json=person.credentials, headers={"origin": "https://evil.test"})

    assert_refused(answer, 403, "forbidden")
    assert "set-cookie" not in answer.headers


async def test_t16_suspension_ends_every_session_even_after_reactivation(world: World) -> None:
    person = await world.person(await world.organization())
    admin = await world.signed_in(person)

    await world.db.execute("UPDATE accounts SET status = 'suspended', epoch = epoch + 1 WHERE id = $1", person.id)
    assert_refused(await admin.get(SESSION_OF), 401, "unauthenticated")
    assert_refused(await admin.get("/api/auth/scim/list-provider-connections"), 401, "unauthenticated")

    await world.db.execute("UPDATE accounts SET status = 'active' WHERE id = $1", person.id)
    assert_refused(await admin.get(SESSION_OF), 401, "unauthenticated")
    assert (await (await world.signed_in(person)).get(SESSION_OF)).status_code == 200


@pytest.mark.parametrize(
    "change",
    [
        "revoked_at = now()",
        "expires_at = now()",
        "last_seen_at = now() - interval '15 minutes'",
        "epoch = epoch - 1",
    ],
)
async def test_t16_a_session_that_ended_is_refused(world: World, change: str) -> None:
    person = await world.person(await world.organization())
    admin = await world.signed_in(person)

    await world.db.execute(f"UPDATE sessions SET {change} WHERE account_id = $1", person.id)

    assert_refused(await admin.get(SESSION_OF), 401, "unauthenticated")


async def test_a_session_lives_eight_hours_at_most_and_use_keeps_it_from_going_idle(world: World) -> None:
    person = await world.person(await world.organization())
    admin = await world.signed_in(person)
    created, expires = await times(world.db, person.id, "created_at", "expires_at")
    assert expires - created == timedelta(hours=8)

    await admin.get(SESSION_OF)
    assert await times(world.db, person.id, "last_seen_at") == (created,)  # within a minute: not written again

    await world.db.execute(
        "UPDATE sessions SET last_seen_at = last_seen_at - interval '14 minutes' WHERE account_id = $1", person.id
    )
    assert (await admin.get(SESSION_OF)).status_code == 200
    assert (await times(world.db, person.id, "last_seen_at"))[0] > created
    assert (await times(world.db, person.id, "expires_at"))[0] == expires


async def times(db: asyncpg.Connection, account_id: object, *columns: str) -> tuple:
    [row] = await db.fetch(f"SELECT {', '.join(columns)} FROM sessions WHERE account_id = $1", account_id)
    return tuple(row)


async def test_t19_a_secret_that_is_not_exactly_right_is_refused(world: World) -> None:
    admin = await world.admin()
    secret = token_of(admin)
    wrong = [
        "",
        secret[:-1],
        secret + "0",
        secret + "_0",
        secret.swapcase(),
        "session_",
        "session_" + "0" * 49,
        bearer.mint(SESSION),
        bearer.mint("scim"),
        "a" * 4000,
        "null",
        f" {secret}",
    ]

    for token in wrong:
        admin.headers["authorization"] = f"Bearer {token}"
        assert_refused(await admin.get(SESSION_OF), 401, "unauthenticated")


async def test_t41_one_credential_in_one_form(app: FastAPI, world: World) -> None:
    mine, other = await world.admin(), await world.admin()
    a, b = (f"Bearer {token_of(client)}" for client in (mine, other))
    client = new_client(app)

    async def ask(*headers: tuple[str, str]) -> httpx.Response:
        return await client.get(SESSION_OF, headers=list(headers))

    for first, second in ((a, b), (b, a), (a, a), (a, "Bearer x")):
        answer = await ask(("authorization", first), ("authorization", second))
        assert_refused(answer, 400, "validation")
    for header in (f"{a}, {b}", f"{a},{b}", f"{a} {b}", f"Bearer {a}", f"Basic {token_of(mine)}", token_of(mine)):
        assert_refused(await ask(("authorization", header)), 401, "unauthenticated")
    # A header that is there decides alone, so the order of two cookies or of header and cookie changes nothing.
    assert_refused(
        await ask(("cookie", f"{COOKIE}={token_of(mine)}"), ("authorization", "Bearer x")), 401, "unauthenticated"
    )
    assert (await ask(("authorization", a.replace("Bearer", "bEARER")))).status_code == 200


async def test_t46_a_session_is_found_by_the_index(db: asyncpg.Connection) -> None:
    statement = str(select_session(b"").compile(dialect=postgresql.dialect(paramstyle="numeric_dollar")))
    async with db.transaction():
        await db.execute("SET LOCAL enable_seqscan = off")
        plan = await db.fetch(f"EXPLAIN {statement}", b"\x00" * 32)

    assert any("sessions_digest_key" in line[0] for line in plan), plan


def test_t47_secrets_that_begin_alike_have_different_digests() -> None:
    beginning = "session_" + "A" * 72
    digests = {bearer.digest(b"pepper", SESSION, beginning + end) for end in ("", "a", "b", "bb")}
    assert len(digests) == 4
    assert bearer.digest(b"pepper", "a", "bc") != bearer.digest(b"pepper", "ab", "c")
