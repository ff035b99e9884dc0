"""The console without a browser: what its answers are, and how its streams end."""

import signal
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import UUID

import httpx
import pytest
from starlette.requests import Request

from admin_api.console import live as live_pages
from admin_api.console.chart import chart_of, nice
from admin_api.console.differences import Difference, differences
from admin_api.console.live import Live, Message
from admin_api.console.volume import Volume
from admin_api.errors import Unavailable
from admin_api.principals import Principal
from admin_api.sessions import COOKIE
from admin_api.settings import Settings
from admin_api.store.live import Hour
from admin_seed import seed
from admin_stand import PEPPER, Person, World, answer_of, ended, environment, new_client, started, token_of
from directory.tables import Organization
from servicekit import bearer
from servicekit.ids import uuid7

PAGE = {"accept": "text/html,application/xhtml+xml"}


async def cookie_of(world: World, person: Person) -> dict[str, str]:
    return {"cookie": f"{COOKIE}={token_of(await world.signed_in(person))}"}


async def test_a_part_of_a_page_sends_who_is_not_signed_in_to_the_sign_in_and_back(client: httpx.AsyncClient) -> None:
    current = {"hx-request": "true", "hx-current-url": "http://admin.test/admin/scim/activity?status=4xx"}
    part = await client.get("/admin/scim/activity", headers=current)
    elsewhere = {**current, "hx-current-url": "https://elsewhere.test/admin/settings"}

    assert part.status_code == 204
    assert part.headers["hx-redirect"] == "/admin/sign-in?returnTo=/admin/scim/activity%3Fstatus%3D4xx"
    assert (await client.get("/admin/scim/live", headers=current)).status_code == 401
    answer = await client.get("/admin/scim/activity", headers=elsewhere)
    assert answer.headers["hx-redirect"] == "/admin/sign-in?returnTo=/admin/scim"


async def test_browsers_go_from_the_root_to_the_console(client: httpx.AsyncClient) -> None:
    answer = await client.get("/", headers=PAGE)

    assert (answer.status_code, answer.headers["location"]) == (303, "/admin/scim")


async def test_t57_a_bug_is_a_page_that_names_the_request(
    world: World, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """T57."""

    async def fail(*_: object) -> None:
        raise RuntimeError("SELECT secret FROM 10.0.0.1")

    headers = await cookie_of(world, await world.person(await world.organization()))
    monkeypatch.setattr("admin_api.sync_status.get_status", fail)

    answer = await client.get("/admin/scim", headers=headers)

    assert answer.status_code == 500
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["x-request-id"] in answer.text
    assert "SELECT" not in answer.text
    assert "RuntimeError" not in answer.text


async def test_t53_errors_of_the_openid_callback_are_pages_for_people_only(client: httpx.AsyncClient) -> None:
    page = await client.get("/api/auth/callback/oidc", params={"code": "x"}, headers=PAGE)
    assert (page.status_code, page.headers["content-type"]) == (404, "text/html; charset=utf-8")
    assert "not set up here" in page.text
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert (await client.get("/api/auth/callback/oidc")).json()["error"] == "not_found"
    assert (await client.get("/api/auth/get-session", headers=PAGE)).json()["error"] == "unauthenticated"


async def test_t53_forms_are_taken_for_pages_and_json_for_the_api_only(client: httpx.AsyncClient) -> None:
    credentials = {"email": "a@example.test", "password": "x"}

    assert (await client.post("/api/auth/sign-in/email", data=credentials)).status_code == 415
    assert (await client.post("/admin/sign-in", json=credentials)).status_code == 415
    assert (await client.post("/admin/sign-in", data=credentials)).status_code == 403  # no Origin


async def test_t53_signing_in_makes_a_new_session_and_takes_none_over(world: World, client: httpx.AsyncClient) -> None:
    person = await world.person(await world.organization())
    client.headers["origin"] = "http://admin.test"
    given = bearer.mint("session")

    answer = await client.post("/admin/sign-in", data=person.credentials, headers={"cookie": f"{COOKIE}={given}"})

    assert (answer.status_code, answer.headers["location"]) == (303, "/admin/scim")
    cookie = answer.headers["set-cookie"]
    assert given not in cookie
    assert all(part in cookie for part in ("HttpOnly", "Secure", "SameSite=strict", "Path=/"))
    assert "Domain" not in cookie


@pytest.fixture
def live(world: World) -> Live:
    return Live(world.app.state.service.transaction, PEPPER.encode())


async def stream(live: Live, world: World, person: Person, cookie: dict[str, str]) -> AsyncIterator[str]:
    """What a page of the person's is sent; each message is the time."""
    organization = await world.db.fetchrow("SELECT * FROM organizations WHERE id = $1", person.organization_id)
    assert organization is not None
    request = Request({"type": "http", "headers": [(b"cookie", cookie["cookie"].encode())]})

    async def message() -> Message:
        return Message("<p>\nnow</p>", "7")

    principal = Principal(Organization(**dict(organization)), f"account:{person.id}", is_admin=True)
    return aiter(live.stream(request, principal, message).body_iterator)  # pyright: ignore[reportReturnType, reportArgumentType]


async def test_a_stream_sends_at_once_and_when_something_changed(world: World, live: Live) -> None:
    person = await world.person(await world.organization())
    made = await seed(world.db, person.organization_id)
    parts = await stream(live, world, person, await cookie_of(world, person))

    assert await anext(parts) == ": open\n\n"
    assert await anext(parts) == "id: 7\ndata: <p>\ndata: now</p>\n\n"
    await anext(parts)  # the poller's first look
    await made.outcome(uuid7())
    began = time.monotonic()
    assert (await anext(parts)).startswith("id: 7")
    assert time.monotonic() - began < 2
    await parts.aclose()  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize("end", ["signed out", "suspended", "no admin any more", "idle", "lapsed plan"])
async def test_t41_a_stream_ends_with_what_let_it_in(world: World, live: Live, end: str) -> None:
    person = await world.person(await world.organization())
    cookie = await cookie_of(world, person)
    parts = await stream(live, world, person, cookie)
    for _ in range(2):
        await anext(parts)
    past = datetime.now(UTC) - timedelta(minutes=16)
    statements: dict[str, tuple[str, tuple[object, ...]]] = {
        "signed out": ("UPDATE sessions SET revoked_at = now() WHERE account_id = $1", (person.id,)),
        "suspended": ("UPDATE accounts SET status = 'suspended' WHERE id = $1", (person.id,)),
        "no admin any more": ("DELETE FROM grants WHERE account_id = $1", (person.id,)),
        "idle": ("UPDATE sessions SET last_seen_at = $2 WHERE account_id = $1", (person.id, past)),
        "lapsed plan": ("UPDATE organizations SET plan = 'free' WHERE id = $1", (person.organization_id,)),
    }
    statement, values = statements[end]
    await world.db.execute(statement, *values)

    assert [part async for part in parts][-1] == live_pages.ENDED


async def test_an_open_page_does_not_keep_a_session_alive(world: World, live: Live) -> None:
    person = await world.person(await world.organization())
    cookie = await cookie_of(world, person)
    seen = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=10)
    await world.db.execute("UPDATE sessions SET last_seen_at = $2 WHERE account_id = $1", person.id, seen)
    parts = await stream(live, world, person, cookie)
    for _ in range(3):
        await anext(parts)

    assert await world.db.fetchval("SELECT last_seen_at FROM sessions WHERE account_id = $1", person.id) == seen
    live.close()
    assert not [part async for part in parts if "ended" in part]


async def test_streams_are_bounded_and_make_room_when_they_end(
    world: World, live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_pages, "MAX_STREAMS_OF_ONE", 1)
    person = await world.person(await world.organization())
    cookie = await cookie_of(world, person)
    parts = await stream(live, world, person, cookie)
    await anext(parts)

    with pytest.raises(Unavailable):
        await stream(live, world, person, cookie)
    await parts.aclose()  # pyright: ignore[reportAttributeAccessIssue]
    again = await stream(live, world, person, cookie)
    assert await anext(again) == ": open\n\n"
    live.close()
    assert [part async for part in again] == []
    with pytest.raises(Unavailable):
        await stream(live, world, person, cookie)


async def test_sigterm_ends_open_streams_at_once(settings: Settings, unused_port: int, world: World) -> None:
    person = await world.person(await world.organization())
    async with (
        started(environment(settings, unused_port)) as process,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{unused_port}") as client,
    ):
        await answer_of(client, "/health/ready", 200)
        secret = (await client.post("/api/auth/sign-in/email", json=person.credentials)).json()["token"]
        async with client.stream("GET", "/admin/scim/live", headers={"cookie": f"{COOKIE}={secret}"}) as answer:
            assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
            chunks = answer.aiter_text()
            assert await anext(chunks) == ": open\n\n"
            began = time.monotonic()
            process.send_signal(signal.SIGTERM)
            assert "ended" not in "".join([chunk async for chunk in chunks])

        status, _, errors = await ended(process)
        assert (status, errors) == (0, "")
        assert time.monotonic() - began < 3


async def test_the_chart_counts_each_hour_and_remembers_those_that_are_over(world: World) -> None:
    made = await seed(world.db, await world.organization())
    now = datetime.now(UTC).replace(minute=40, second=0, microsecond=0)
    volume = Volume(world.app.state.service.transaction)
    for hours, status in ((0, 201), (0, 409), (3, 200), (23, 500), (30, 200)):
        at = now - timedelta(hours=hours)
        await made.outcome(uuid7(), status, at=at, change_id=id_at(at))

    first = await volume.of(made.organization_id, now)
    await made.outcome(uuid7(), at=now, change_id=id_at(now))
    await made.outcome(uuid7(), at=now - timedelta(hours=3), change_id=id_at(now - timedelta(hours=3)))
    volume._counted[made.organization_id].fresh_until = 0.0
    second = await volume.of(made.organization_id, now)

    assert [(hour.applied, hour.refused) for hour in first if hour.applied or hour.refused] == [(0, 1), (1, 0), (1, 1)]
    assert len(first) == 24
    assert [(hour.applied, hour.refused) for hour in second if hour.applied or hour.refused] == [(0, 1), (1, 0), (2, 1)]


def id_at(at: datetime) -> UUID:
    """A change's id of that time."""
    return UUID(int=(int(at.timestamp() * 1000) << 80) | (uuid7().int & ((1 << 80) - 1)))


def test_bars_fit_their_scale_and_show_the_smallest_numbers() -> None:
    assert [nice(number) for number in (0, 4, 5, 11, 21, 999, 1001)] == [4, 4, 6, 20, 40, 1000, 2000]
    at = datetime(2026, 1, 1, tzinfo=UTC)
    [large, small] = chart_of([Hour(at, 1000, 1), Hour(at, 0, 1)]).bars
    assert large.applied + large.refused <= 100
    assert large.refused == small.refused == 2
    assert chart_of([Hour(at)]).bars[0].applied == 0


def test_differences_name_attributes_and_their_sub_attributes() -> None:
    before = {"title": "Clerk", "name": {"givenName": "Ada", "familyName": "King"}, "active": True, "nickName": "A"}
    after = {"title": "Captain", "name": {"givenName": "Ada", "familyName": "Lovelace"}, "emails": [{"value": "é"}]}

    assert differences(before, after) == [
        Difference("title", "Clerk", "Captain"),
        Difference("name.familyName", "King", "Lovelace"),
        Difference("active", "true", None),
        Difference("nickName", "A", None),
        Difference("emails", None, '[{"value": "é"}]'),
    ]
    assert differences({"manager": "x"}, {"manager": {"value": "y"}})[0].attribute == "manager.value"


async def test_another_organizations_entries_are_not_there(world: World) -> None:
    made = await seed(world.db, await world.organization())
    change = await made.outcome(uuid7())
    own = await cookie_of(world, await world.person(made.organization_id))
    foreign = await cookie_of(world, await world.person(await world.organization()))

    async with new_client(world.app) as client:
        assert (await client.get(f"/admin/scim/activity/{change}", headers=own)).status_code == 200
        assert (await client.get(f"/admin/scim/activity/{change}", headers=foreign)).status_code == 404
        assert str(change) not in (await client.get("/admin/scim/activity", headers=foreign)).text
