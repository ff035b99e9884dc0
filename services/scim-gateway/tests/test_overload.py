"""More than there are slots for: what is refused, how soon, and what is not (promise P14, threats T50 and T51).

How fast is measured elsewhere (`python -m chaos overload`); here it is who is refused, and that the others are not.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest
import pytest_asyncio
from starlette.requests import Request

from contracts import CHANGE_ID_HEADER, OUTCOMES, Change, Outcome
from gateway_stand import (
    BASE,
    PEPPER,
    Directory,
    Running,
    Script,
    Tenant,
    applied,
    changes_in_topic,
    patch,
    running,
    settings_for,
    silence,
    until,
    user,
)
from scim_gateway import auth
from scim_gateway.admission import Slots
from scim_gateway.auth import Authenticator
from scim_gateway.store import tokens
from servicekit.kafka import open_producer

SLOTS, RESERVED, WINDOW = 128, 16, 64  # of a connection, by default
DEACTIVATE = patch({"op": "replace", "path": "active", "value": False})
PERSON = f"/Users/{uuid4()}"


@pytest_asyncio.fixture(loop_scope="session")
async def gateway(topics: str, directory: Directory) -> AsyncIterator[Running]:
    """A gateway with the limits that it has by default, and a deadline that no test reaches."""
    async with running(settings_for(topics, directory.gateway_dsn, gateway_outcome_deadline=60.0)) as started:
        yield started


async def colleague(tenant: Tenant) -> Tenant:
    """Another connection of the same organization, so that its changes go to the same partition."""
    other = await tenant.directory.add_connection()
    await tenant.directory.owner.execute(
        "UPDATE connections SET organization_id = $1, provider_id = 'entra' WHERE id = $2",
        tenant.organization_id,
        other.id,
    )
    other.organization_id = tenant.organization_id
    return other


def all_but(*others: Tenant):
    """A provisioner that answers these connections only."""
    served = {other.id for other in others}

    def answer(change: Change) -> Outcome | None:
        return applied(change) if change.connection_id in served else silence(change)

    return answer


@asynccontextmanager
async def flooded(
    gateway: Running, script: Script, tenant: Tenant, requests: int = SLOTS + 72
) -> AsyncIterator[list[asyncio.Task[httpx.Response]]]:
    """Within the block so many creates of `tenant` were sent, and as many are under way as it has slots for them.

    Those of its window are in the log. Afterwards all are answered.
    """
    limits = httpx.Limits(max_connections=requests)
    async with httpx.AsyncClient(base_url=gateway.client.base_url, timeout=30, trust_env=False, limits=limits) as http:
        sent = [
            asyncio.create_task(http.post("/Users", json=user(f"user{number}"), headers=tenant.auth))
            for number in range(requests)
        ]
        await until(lambda: sum(task.done() for task in sent) == requests - SLOTS + RESERVED)
        await until(lambda: len(of(script, tenant.id)) == WINDOW)
        yield sent
        script.answer = applied
        await answer_all(gateway, script)
        await asyncio.gather(*sent)


async def answer_all(gateway: Running, script: Script, changes: Sequence[Change] = ()) -> None:
    """Answer `changes`, by default all, that the provisioner has left unanswered; a second answer changes nothing."""
    async with open_producer(gateway.settings.kafka(), client_id="test") as producer:
        for change in changes or script.seen:
            headers = [(CHANGE_ID_HEADER, str(change.id).encode())]
            value = applied(change).model_dump_json().encode()
            await producer.send(OUTCOMES.name, value, partition=change.reply_partition, headers=headers)


async def is_created(gateway: Running, tenant: Tenant) -> bool:
    return (await gateway.client.post("/Users", json=user(), headers=tenant.auth)).status_code == 201


def of(script: Script, connection_id: UUID) -> list[Change]:
    return [change for change in script.seen if change.connection_id == connection_id]


async def test_t50_a_connection_has_its_slots_and_what_is_beyond_them_is_429_with_retry_after(gateway, script, tenant):
    script.answer = silence

    async with flooded(gateway, script, tenant) as sent:
        refused = [task.result() for task in sent if task.done()]

    assert {answer.status_code for answer in refused} == {429}
    assert {answer.headers["retry-after"] for answer in refused} == {"1"}
    assert all("nothing was changed" in answer.json()["detail"] for answer in refused)
    assert len(of(script, tenant.id)) == SLOTS - RESERVED


async def test_t50_only_a_window_of_a_flood_is_in_the_log_and_an_outcome_moves_it_on(gateway, script, tenant):
    script.answer = silence

    async with flooded(gateway, script, tenant) as sent:
        waiting = [task for task in sent if not task.done()]
        await answer_all(gateway, script, of(script, tenant.id)[:3])
        await until(lambda: sum(task.done() for task in waiting) == 3)
        await until(lambda: len(of(script, tenant.id)) == WINDOW + 3)

    assert Counter(task.result().status_code for task in waiting) == {201: SLOTS - RESERVED}


async def test_t50_who_waits_for_a_turn_in_vain_is_told_that_nothing_was_accepted(topics, directory, script, tenant):
    script.answer = silence
    limits = {"gateway_connection_window": 1, "gateway_outcome_deadline": 1.0}
    async with running(settings_for(topics, directory.gateway_dsn, **limits)) as gateway:
        answers = await asyncio.gather(
            *(gateway.client.post("/Users", json=user(f"user{number}"), headers=tenant.auth) for number in range(3))
        )
        await answer_all(gateway, script)  # the window is free again
        script.answer = applied
        await until(lambda: is_created(gateway, tenant))

    told = Counter("unknown" if "unknown" in answer.json()["detail"] else "not accepted" for answer in answers)
    assert {answer.status_code for answer in answers} == {503}
    assert told == {"unknown": 1, "not accepted": 2}


async def test_who_gives_up_waiting_leaves_the_turn_to_the_next():
    slots, connection = Slots(8, 8, window=1), uuid4()
    first, second, third = (slots.take(connection) for _ in range(3))
    await first.turn()
    gave_up, waits = (asyncio.create_task(slot.turn()) for slot in (second, third))
    await asyncio.sleep(0)  # both wait now

    gave_up.cancel()
    await asyncio.wait({gave_up})
    second.release()
    first.release()
    await waits

    late = slots.take(connection)
    is_late = asyncio.create_task(late.turn())
    await asyncio.sleep(0)
    assert not is_late.done()  # the third has the window
    third.release()
    await is_late


async def test_who_is_cancelled_when_the_turn_has_come_passes_it_on():
    slots, connection = Slots(8, 8, window=1), uuid4()
    first, second, third = (slots.take(connection) for _ in range(3))
    await first.turn()
    called, waits = (asyncio.create_task(slot.turn()) for slot in (second, third))
    await asyncio.sleep(0)

    first.release()
    called.cancel()  # its turn has come, and it does not know yet
    await asyncio.wait({called})
    second.release()

    await waits


async def test_p14_deactivations_have_their_reserved_slots_below_a_flood_of_creates(gateway, script, tenant):
    script.answer = silence

    async with flooded(gateway, script, tenant) as sent:
        urgent = [
            asyncio.create_task(
                gateway.client.delete(PERSON, headers=tenant.auth)
                if number % 2
                else gateway.client.patch(PERSON, json=DEACTIVATE, headers=tenant.auth)
            )
            for number in range(RESERVED)
        ]
        await until(lambda: len(of(script, tenant.id)) == WINDOW + RESERVED)
        one_more = await gateway.client.delete(PERSON, headers=tenant.auth)
    answers = await asyncio.gather(*urgent, *sent)

    assert one_more.status_code == 429
    assert [answer.status_code for answer in answers[:RESERVED]] == [200, 204] * (RESERVED // 2)
    assert Counter(answer.status_code for answer in answers[RESERVED:]) == {201: SLOTS - RESERVED, 429: 88}


async def test_p14_deactivations_go_on_when_the_creates_of_others_fill_the_gateway(topics, directory, script, tenant):
    others = [await directory.add_connection() for _ in range(2)]
    script.answer = all_but(tenant)
    limits = {"gateway_connection_slots": 8, "gateway_reserved_slots": 2, "gateway_global_slots": 16}
    async with running(settings_for(topics, directory.gateway_dsn, **limits)) as gateway:
        filling = [
            asyncio.create_task(gateway.client.post("/Users", json=user(), headers=other.auth))
            for other in others
            for _ in range(6)
        ]
        await until(lambda: len(script.seen) == 12)
        created = await gateway.client.post("/Users", json=user(), headers=tenant.auth)
        deactivated = await gateway.client.patch(PERSON, json=DEACTIVATE, headers=tenant.auth)
        deleted = await gateway.client.delete(PERSON, headers=tenant.auth)
        await answer_all(gateway, script)
        await asyncio.gather(*filling)

    assert created.status_code == 503
    assert created.headers["retry-after"] == "1"
    assert (deactivated.status_code, deleted.status_code) == (200, 204)


async def test_t50_another_connection_on_the_same_partition_is_served_behind_a_bounded_queue(
    gateway, topics, script, tenant
):
    """One partition is one queue. What a flood can put ahead of another's change is its window, whatever it sends."""
    other = await colleague(tenant)
    script.answer = all_but(other)

    async with flooded(gateway, script, tenant):
        answers = [await gateway.client.post("/Users", json=user(), headers=other.auth) for _ in range(10)]
    ours = [record for record in script.raw if Change.model_validate_json(record.value).connection_id == other.id]
    first = min(record.offset for record in script.raw if record.partition == ours[0].partition)

    assert {answer.status_code for answer in answers} == {201}
    assert {record.partition for record in script.raw} == {ours[0].partition}
    assert ours[0].offset - first <= WINDOW


async def test_t50_other_organizations_are_served_as_if_nothing_were(gateway, script, tenant, directory):
    other = await directory.add_connection()
    script.answer = all_but(other)

    async with flooded(gateway, script, tenant):
        answers = [await gateway.client.post("/Users", json=user(), headers=other.auth) for _ in range(20)]

    assert {answer.status_code for answer in answers} == {201}


# --- refused at the door -----------------------------------------------------------------------------------------


@pytest.fixture
def recognized(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tokens are not asked for again during the test: who is not known at the door goes the ordinary way."""
    monkeypatch.setattr(auth, "CACHE_SECONDS", 60.0)


@pytest.mark.parametrize(("method", "path"), [("POST", "/Users"), ("POST", "/Groups"), ("POST", "/Bulk")])
async def test_p14_a_refusal_waits_for_no_body(method: str, path: str, recognized, gateway, script, tenant):
    script.answer = silence

    async with flooded(gateway, script, tenant):
        answer = await gateway.raw(request(method, path, tenant, b"Content-Length: 100\r\n"))

    assert answer.startswith(b"HTTP/1.1 429 ")


async def test_p14_a_refusal_at_the_door_is_the_one_after_a_look_at_the_body(recognized, gateway, script, tenant):
    script.answer = silence
    body = b'{"schemas":["urn:ietf:params:scim:schemas:core:2.0:User"],"userName":"ada"}'
    plain = request("POST", "/Users", tenant, b"Content-Length: %d\r\n" % len(body)) + body
    chunked = b"Transfer-Encoding: chunked\r\n"
    looked_at = request("POST", "/Users", tenant, chunked) + b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)

    async with flooded(gateway, script, tenant):
        at_the_door, after_a_look = await gateway.raw(plain), await gateway.raw(looked_at)

    assert without_what_differs(at_the_door) == without_what_differs(after_a_look)


async def test_what_is_refused_at_the_door_leaves_nothing_on_the_socket(recognized, gateway, script, tenant):
    """The body is not read, and it is not taken for the next request either (threat T23)."""
    script.answer = silence
    body = b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n"
    shed = request("POST", "/Users", tenant, b"Content-Length: %d\r\n" % len(body)) + body
    last = request("GET", "/ResourceTypes", tenant, b"Connection: close\r\n")

    async with flooded(gateway, script, tenant):
        answers = await gateway.raw(shed + shed + last, until_closed=True)

    assert [each[:3] for each in answers.split(b"HTTP/1.1 ")[1:]] == [b"429", b"429", b"200"]


async def test_p14_only_who_may_write_learns_that_there_is_no_slot(recognized, gateway, script, tenant, directory):
    script.answer = silence
    reader = await tenant.add_token(scopes=["read"])
    lapsed = await directory.add_connection(plan="free")

    async with flooded(gateway, script, tenant):
        statuses = [
            (await gateway.client.post(path, json=user(), headers={"Authorization": credential})).status_code
            for path, credential in [
                ("/Users", "Bearer scim_unknown"),
                ("/Users", f"Bearer {reader}"),
                ("/Users", f"Bearer {lapsed.token}"),
                ("/Nothing", f"Bearer {tenant.token}"),
            ]
        ]
        read = await gateway.client.get("/Users", headers=tenant.auth)

    assert statuses == [401, 403, 403, 404]
    assert read.status_code == 200


async def test_a_token_that_is_revoked_is_401_though_there_is_no_slot(gateway, script, tenant):
    script.answer = silence

    async with flooded(gateway, script, tenant):
        await tenant.directory.owner.execute("UPDATE tokens SET revoked_at = now() WHERE connection_id = $1", tenant.id)

        async def is_unknown() -> bool:
            return (await gateway.client.post("/Users", json=user(), headers=tenant.auth)).status_code == 401

        await until(is_unknown, 2.5)  # P10: reads end 2 seconds later


def request(method: str, path: str, tenant: Tenant, fields: bytes) -> bytes:
    head = f"{method} {BASE}{path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {tenant.token}\r\n"
    return head.encode() + fields + b"Content-Type: application/scim+json\r\n\r\n"


def without_what_differs(answer: bytes) -> list[bytes]:
    """The lines of the answer, in any order of its fields, without those that differ from one request to the next."""
    lines = answer.split(b"\r\n")
    return sorted(line for line in lines if not line.lower().startswith((b"x-request-id:", b"date:")))


# --- what identity providers do ----------------------------------------------------------------------------------


async def test_t51_100_requests_at_any_time_are_all_served(gateway, topics, script, tenant):
    """Entra counts refusals. With 100 under way at any time nothing is refused, however many there are in all."""
    script.answer = applied
    before, left = await changes_in_topic(topics), iter(range(400))

    async def work() -> set[int]:
        return {
            (await gateway.client.post("/Users", json=user(f"user{number}"), headers=tenant.auth)).status_code
            for number in left
        }

    statuses = set().union(*await asyncio.gather(*(work() for _ in range(100))))

    assert statuses == {201}
    assert await changes_in_topic(topics) == before + 400


async def test_p14_who_floods_stays_recognized_and_is_looked_up_seldom(tenant, monkeypatch):
    """Its token is asked for before the time is over for which the last answer is believed."""
    credential, found, find = f"Bearer {tenant.token}".encode(), 0, tokens.find

    async def counted(pool: asyncpg.Pool, digest: bytes) -> Any:
        nonlocal found
        found += 1
        return await find(pool, digest)

    monkeypatch.setattr(tokens, "find", counted)
    monkeypatch.setattr(auth, "CACHE_SECONDS", 4.0)
    authenticator = Authenticator(tenant.directory.owner, PEPPER.encode())
    request = Request({"type": "http", "headers": [(b"authorization", credential)], "client": ("127.0.0.1", 1)})
    await authenticator.connection_of(request, None)
    asked = 0
    while found < 2:
        assert authenticator.recognized(credential) is not None
        asked += 1
        await asyncio.sleep(0.01)

    assert asked > 10
