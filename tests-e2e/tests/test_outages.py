"""Kafka, Postgres or the provisioner away, in the middle and at a start: 503 in SCIM's words, then it goes on (P3)."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest

from e2e.scim import Scim, assert_error, client, new_name, user
from e2e.stack import BACK_DEADLINE, Stack, frozen, until

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(300)]

PATIENCE = 20.0  # seconds within which even the worst answer must come: Okta's own limit is 60
LATE = 1.5  # seconds past its deadline that a create counts as never delivered


@pytest.fixture
async def scim(chaos_stack: Stack) -> AsyncIterator[Scim]:
    """A client of the stack, which is whole before and after each test."""
    await chaos_stack.is_whole()
    async with client(chaos_stack.scim_url, chaos_stack.token) as scim:
        yield scim
    await chaos_stack.is_whole()


def assert_unavailable(response: httpx.Response) -> str:
    detail = assert_error(response, 503)
    assert 1 <= int(response.headers["retry-after"]) <= 60
    return detail


async def assert_writes_again(scim: Scim, name: str) -> None:
    """The user can be created, or was; in the end there is one."""
    response = await scim.request("POST", "/Users", user(name))
    assert response.status_code in (201, 409), response.text
    assert len(await scim.find(f'userName eq "{name}"')) == 1


async def answered(scim: Scim, method: str, path: str, body: object = None) -> httpx.Response:
    """An answer within PATIENCE."""
    async with asyncio.timeout(PATIENCE):
        return await scim.request(method, path, body)


async def test_without_kafka_writes_are_503_and_reads_go_on(chaos_stack: Stack, scim: Scim):
    name, known = new_name(), await scim.create(user())

    with frozen(chaos_stack.pid("kafka")):
        write, read = await asyncio.gather(
            answered(scim, "POST", "/Users", user(name)), answered(scim, "GET", f"/Users/{known['id']}")
        )

    assert_unavailable(write)
    assert read.json() == known
    await chaos_stack.is_whole()
    await assert_writes_again(scim, name)


async def test_without_postgres_everything_is_503(chaos_stack: Stack, scim: Scim):
    name, known = new_name(), await scim.create(user())

    with frozen(chaos_stack.pid("postgres")):
        answers = await asyncio.gather(
            answered(scim, "POST", "/Users", user(name)),
            answered(scim, "GET", f"/Users/{known['id']}"),
            answered(scim, "GET", "/Users"),
        )

    for answer in answers:
        assert_unavailable(answer)
    await chaos_stack.is_whole()
    assert await scim.get(known["id"]) == known
    await assert_writes_again(scim, name)


async def test_a_gateway_that_starts_without_kafka_serves_reads_and_later_writes(chaos_stack: Stack, scim: Scim):
    known = await scim.create(user())

    with frozen(chaos_stack.pid("kafka")):
        await restart_gateway(chaos_stack)
        read = await answered(scim, "GET", f"/Users/{known['id']}")
        write = await answered(scim, "POST", "/Users", user())

    assert read.json() == known
    assert "not accepted" in assert_unavailable(write)
    await chaos_stack.is_whole()
    await assert_writes_again(scim, new_name())


async def test_a_gateway_that_starts_without_postgres_answers_503_and_later_serves(chaos_stack: Stack, scim: Scim):
    known = await scim.create(user())

    with frozen(chaos_stack.pid("postgres")):
        await restart_gateway(chaos_stack)
        assert_unavailable(await answered(scim, "GET", f"/Users/{known['id']}"))

    await chaos_stack.is_whole()
    assert await scim.get(known["id"]) == known


async def restart_gateway(stack: Stack) -> None:
    """`kill -9` it and return when the next one listens; it cannot be ready."""
    old = stack.signal("gateway", signal.SIGKILL)
    await until(lambda: stack.pid("gateway") != old, "another gateway", BACK_DEADLINE)
    live = stack.document["healthUrls"]["gateway"].replace("/ready", "/live")

    async def listens() -> bool:
        async with httpx.AsyncClient(trust_env=False, timeout=5) as http:
            try:
                return (await http.get(live)).status_code == 200
            except httpx.HTTPError:
                return False

    await until(listens, "the gateway to listen", BACK_DEADLINE)


@pytest.mark.parametrize("part", ["kafka", "postgres"])
async def test_a_killed_server_costs_503s_only(part: str, chaos_stack: Stack, scim: Scim):
    async with hammered(scim) as statuses:
        await until(lambda: len(statuses) > 20, "some answers", 60)
        await chaos_stack.killed_and_back(part)
        mark = len(statuses)
        await until(lambda: statuses[mark:].count(201) > 10, "writes to go on", BACK_DEADLINE)

    assert set(statuses) <= {200, 201, 503}, sorted(set(statuses))


@asynccontextmanager
async def hammered(scim: Scim) -> AsyncIterator[list[int]]:
    """Four clients that read and write within the block; the statuses they got."""
    statuses: list[int] = []
    ending = asyncio.Event()

    async def work() -> None:
        while not ending.is_set():
            for method, body in (("POST", user()), ("GET", None)):
                response = await scim.request(method, "/Users?count=1" if method == "GET" else "/Users", body)
                statuses.append(response.status_code)
                if response.status_code >= 400:
                    assert_error(response, response.status_code)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(4):
            tasks.create_task(work())
        yield statuses
        ending.set()


async def test_p3_a_create_whose_answer_was_lost_is_answered_when_it_is_repeated(chaos_stack: Stack, scim: Scim):
    name = new_name()
    body = user(name, externalId=f"x-{name}")
    with frozen(chaos_stack.pid("provisioner")):
        lost = await answered(scim, "POST", "/Users", body)
        over = time.monotonic() + LATE
        await until(lambda: time.monotonic() > over, "the change to be late", LATE + 5)
    await chaos_stack.is_whole()

    repeated = await scim.request("POST", "/Users", body)
    another = await scim.request("POST", "/Users", body | {"title": "another"})

    assert "unknown" in assert_unavailable(lost)
    assert repeated.status_code == 201, repeated.text
    assert [each["id"] for each in await scim.find(f'userName eq "{name}"')] == [repeated.json()["id"]]
    assert repeated.json()["meta"]["version"] == 'W/"1"'
    assert_error(another, 409, "uniqueness")


async def test_p2_what_waited_for_a_frozen_provisioner_is_applied_once(chaos_stack: Stack, scim: Scim):
    created = await scim.create(user(title="0"))
    patch = {"op": "replace", "path": "title"}

    with frozen(chaos_stack.pid("provisioner")):
        waiting = [
            asyncio.create_task(scim.patch(created["id"], patch | {"value": str(number)})) for number in range(1, 9)
        ]
        answers = await asyncio.gather(*waiting)
    await chaos_stack.is_whole()

    assert {answer.status_code for answer in answers} == {503}
    final = await scim.get(created["id"])
    assert final["meta"]["version"] == 'W/"9"'
