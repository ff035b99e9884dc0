"""Sign-in with an OpenID provider, against a real one in a process of its own."""

import asyncio
import base64
import hashlib
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from urllib.parse import parse_qs, urlencode, urlsplit
from uuid import uuid4

import httpx
import pytest
from pydantic import SecretStr, ValidationError

from admin_api.settings import OidcSettings, Settings
from admin_api.sign_in import STATE_COOKIE, is_own_path, seal, unseal
from admin_stand import ORIGIN, PEPPER, World, assert_refused, new_client, running

START = "/api/auth/sign-in/oidc"
CALLBACK = "/api/auth/callback/oidc"
CLIENT_ID = "directory-sync"


def test_the_settings_want_what_belongs_together() -> None:
    for wrong in (
        {"oidc_issuer": "https://idp.test", "oidc_client_id": "x"},
        {"oidc_issuer": "https://idp.test", "public_url": "https://us.test"},
        {"oidc_issuer": "http://idp.test", "oidc_client_id": "x", "public_url": "https://us.test"},
    ):
        with pytest.raises(ValidationError):
            OidcSettings.model_validate(wrong)


@dataclass
class Browser:
    """A browser of somebody whom the provider knows as `subject`; keeps cookies like one."""

    client: httpx.AsyncClient
    issuer: str
    subject: str
    cookie: str = ""

    async def start(self, **query: str) -> str:
        """The address at the provider that we send the browser to."""
        answer = await self.client.get(START, params=query)
        assert answer.status_code == 302, answer.text
        cookie = answer.headers["set-cookie"]
        assert cookie.startswith(f"{STATE_COOKIE}=")
        assert all(word in cookie for word in ("HttpOnly", "Secure", "SameSite=lax", "Path=/"))
        self.cookie = answer.cookies[STATE_COOKIE]
        self.client.cookies.clear()  # they are for https only, and the tests speak http
        return answer.headers["location"]

    async def authorize(self, url: str) -> str:
        """What the provider sends the browser back with: the query of the callback."""
        async with httpx.AsyncClient() as provider:
            answer = await provider.post(url, data={"sub": self.subject})
        assert answer.status_code == 302, answer.text
        target = urlsplit(answer.headers["location"])
        assert f"{target.scheme}://{target.netloc}{target.path}" == ORIGIN + CALLBACK
        return target.query

    async def finish(self, query: str) -> httpx.Response:
        """Come back to us with the query and the cookie."""
        headers = {"cookie": f"{STATE_COOKIE}={self.cookie}"} if self.cookie else {}
        answer = await self.client.get(f"{CALLBACK}?{query}", headers=headers)
        self.client.cookies.clear()
        return answer

    async def sign_in(self, **query: str) -> httpx.Response:
        return await self.finish(await self.authorize(await self.start(**query)))

    async def session(self, answer: httpx.Response) -> dict:
        """Who the browser is signed in as."""
        secret = answer.cookies["__Host-session"]
        own = await self.client.get("/api/auth/get-session", headers={"authorization": f"Bearer {secret}"})
        assert own.status_code == 200, own.text
        return own.json()["user"]


@pytest.fixture(scope="module")
async def oidc_world(settings: Settings, issuer: str, db: object) -> AsyncIterator[World]:
    secret = SecretStr("secret-of-the-client")
    wanted = {"oidc_issuer": issuer, "oidc_client_id": CLIENT_ID, "oidc_client_secret": secret, "public_url": ORIGIN}
    async with running(settings.model_copy(update=wanted)) as app:
        yield World(db, app)  # pyright: ignore[reportArgumentType]


async def browser_of(world: World, issuer: str, email: str | None, *, verified: bool = True) -> Browser:
    """The browser of a person whom the provider knows by this email."""
    subject = f"subject-{uuid4().hex[:8]}"
    claims = {"email": email, "email_verified": verified} if email else {}
    async with httpx.AsyncClient() as provider:
        (await provider.put(f"{issuer}/users/{subject}", json=claims)).raise_for_status()
    return Browser(new_client(world.app), issuer, subject)


async def test_a_person_signs_in_by_verified_email_and_is_known_by_subject_from_then_on(
    oidc_world: World, issuer: str
) -> None:
    person = await oidc_world.person(await oidc_world.organization())
    browser = await browser_of(oidc_world, issuer, person.email.upper())

    answer = await browser.sign_in(returnTo="/admin/roles?x=1&y=2")

    assert answer.status_code == 200, answer.text
    assert 'content="0;url=/admin/roles?x=1&amp;y=2"' in answer.text
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    cookie = next(c for c in answer.headers.get_list("set-cookie") if c.startswith("__Host-session="))
    assert all(word in cookie for word in ("HttpOnly", "Secure", "SameSite=strict", "Path=/"))
    assert (await browser.session(answer))["id"] == str(person.id)
    async with httpx.AsyncClient() as provider:  # the address changes at the provider
        await provider.put(f"{issuer}/users/{browser.subject}", json={"email": "new@x.test", "email_verified": True})
    assert (await browser.session(await browser.sign_in()))["id"] == str(person.id)
    types = await oidc_world.db.fetch("SELECT type FROM events WHERE subject_id = $1 ORDER BY seq", person.id)
    assert [row["type"].rpartition(":")[2] for row in types] == ["identity-linked", "signed-in", "signed-in"]


async def test_the_request_to_the_provider_has_pkce_state_and_nonce(oidc_world: World, issuer: str) -> None:
    browser = await browser_of(oidc_world, issuer, None)

    one, two = [parse_qs(urlsplit(await browser.start()).query) for _ in range(2)]

    assert (one["response_type"], one["code_challenge_method"]) == (["code"], ["S256"])
    assert set(one["scope"][0].split()) == {"openid", "email", "profile"}
    assert one["redirect_uri"] == [ORIGIN + CALLBACK]
    begun = unseal(PEPPER.encode(), browser.cookie)
    assert begun is not None
    digest = hashlib.sha256(begun["verifier"].encode()).digest()
    assert two["code_challenge"] == [base64.urlsafe_b64encode(digest).decode().rstrip("=")]
    for name in ("state", "nonce", "code_challenge"):
        assert len(one[name][0]) >= 32
        assert one[name] != two[name]


@pytest.mark.parametrize("email", ["unverified", "unknown", "none"])
async def test_t01_only_a_verified_email_opens_an_account(oidc_world: World, issuer: str, email: str) -> None:
    person = await oidc_world.person(await oidc_world.organization())
    claimed = {"unverified": person.email, "unknown": f"{uuid4().hex}@x.test", "none": None}[email]
    browser = await browser_of(oidc_world, issuer, claimed, verified=email != "unverified")

    assert_refused(await browser.sign_in(), 401, "unauthenticated")
    assert await oidc_world.db.fetchval("SELECT count(*) FROM sessions WHERE account_id = $1", person.id) == 0


async def test_t16_a_suspended_account_is_not_signed_in_to(oidc_world: World, issuer: str) -> None:
    person = await oidc_world.person(await oidc_world.organization())
    browser = await browser_of(oidc_world, issuer, person.email)
    assert (await browser.sign_in()).status_code == 200

    await oidc_world.db.execute("UPDATE accounts SET status = 'suspended' WHERE id = $1", person.id)

    assert_refused(await browser.sign_in(), 401, "unauthenticated")


async def test_t10_an_address_that_is_given_to_somebody_else_opens_nothing(oidc_world: World, issuer: str) -> None:
    """T10: the account belongs to the subject that signed in to it first."""
    person = await oidc_world.person(await oidc_world.organization())
    assert (await (await browser_of(oidc_world, issuer, person.email)).sign_in()).status_code == 200

    assert_refused(await (await browser_of(oidc_world, issuer, person.email)).sign_in(), 401, "unauthenticated")


async def test_who_is_in_two_organizations_names_one(oidc_world: World, issuer: str) -> None:
    email = f"{uuid4().hex}@x.test"
    here, there = [await oidc_world.person(await oidc_world.organization(), email=email) for _ in range(2)]
    browser = await browser_of(oidc_world, issuer, email)

    assert_refused(await browser.sign_in(), 409, "conflict")
    for person in (here, there):
        answer = await browser.sign_in(organizationId=str(person.organization_id))
        assert (await browser.session(answer))["id"] == str(person.id)
    assert_refused(await browser.sign_in(organizationId=str(uuid4())), 401, "unauthenticated")


async def test_t53_the_answer_counts_only_in_the_browser_that_asked(oidc_world: World, issuer: str) -> None:
    """T53: no session by somebody else's code, without the cookie, with another state, or twice."""
    person = await oidc_world.person(await oidc_world.organization())
    browser = await browser_of(oidc_world, issuer, person.email)
    query = await browser.authorize(await browser.start())
    stranger = await browser_of(oidc_world, issuer, person.email)

    assert_refused(await stranger.finish(query), 401, "unauthenticated")
    await stranger.start()
    assert_refused(await stranger.finish(query), 401, "unauthenticated")
    code = parse_qs(query)["code"][0]
    own_state = unseal(PEPPER.encode(), stranger.cookie)
    assert own_state is not None
    swapped = {"code": code, "state": own_state["state"]}  # another browser's code: its nonce is not ours
    assert_refused(await stranger.finish(urlencode(swapped)), 401, "unauthenticated")
    query = await browser.authorize(await browser.start())
    assert (await browser.finish(query)).status_code == 200
    assert_refused(await browser.finish(query), 401, "unauthenticated")
    for query in ("", "code=x", "state=x", "code=x&state=%C3%A9", "error=access_denied&state=x"):
        await browser.start()
        assert_refused(await browser.finish(query), 401, "unauthenticated")


def test_t53_a_state_that_we_did_not_make_or_made_long_ago_is_none() -> None:
    pepper = PEPPER.encode()
    state = {"state": "a", "until": int(time.time()) + 60}

    assert unseal(pepper, seal(pepper, state)) == state
    assert unseal(b"another-pepper-is-another", seal(pepper, state)) is None
    assert unseal(pepper, seal(pepper, state | {"until": int(time.time()) - 1})) is None
    for cookie in ("", ".", "x", "x.y", "é.é", seal(pepper, state)[:-1], "e30." + "0" * 64):
        assert unseal(pepper, cookie) is None


@pytest.mark.parametrize("path", ["//evil.test", "/\\evil.test", "https://evil.test", "javascript:x", "", "/a\nb"])
async def test_the_way_back_is_on_our_site(oidc_world: World, path: str) -> None:
    assert not is_own_path(path)
    assert_refused(await new_client(oidc_world.app).get(START, params={"returnTo": path}), 400, "validation")


async def test_without_a_provider_there_is_only_the_password(world: World, oidc_world: World) -> None:
    client = new_client(world.app)

    assert (await client.get("/api/auth/sign-in/ways")).json() == {"password": True, "oidc": False}
    assert_refused(await client.get(START), 404, "not_found")
    assert_refused(await client.get(CALLBACK, params={"code": "x", "state": "x"}), 404, "not_found")
    answer = await new_client(oidc_world.app).get("/api/auth/sign-in/ways")
    assert answer.json() == {"password": True, "oidc": True}


@asynccontextmanager
async def liar(settings: Settings, metadata: dict | None) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a service whose provider answers with this metadata, or not at all."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        body = json.dumps(metadata).encode()
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: ")
        writer.write(f"{len(body)}\r\n\r\n".encode() + body)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    if metadata is None:
        server.close()
        await server.wait_closed()
    wanted = {"oidc_issuer": f"http://127.0.0.1:{port}", "oidc_client_id": "x", "public_url": ORIGIN}
    async with running(settings.model_copy(update=wanted)) as app:
        yield new_client(app)
    server.close()


@pytest.mark.parametrize("metadata", [None, {}, {"issuer": "https://evil.test", "authorization_endpoint": "x"}])
async def test_t57_a_provider_that_is_away_or_another_one_is_a_503(settings: Settings, metadata: dict | None) -> None:
    async with liar(settings, metadata) as client:
        answer = await client.get(START)

    assert_refused(answer, 503, "unavailable")
    assert "127.0.0.1" not in answer.text
