"""Admission, publishing and waiting: what a client is told when parts are away (design section 4)."""

import asyncio
import signal
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from uuid import uuid4

import pytest

from contracts import CHANGES, OUTCOMES
from devstack.kafka import Kafka
from devstack.ports import free_port
from devstack.postgres import Postgres
from directory import migrate
from gateway_stand import (
    applied,
    changes_in_topic,
    create_topics,
    environment,
    opened_directory,
    patch,
    running,
    scripted_provisioner,
    settings_for,
    silence,
    until,
    user,
)
from scim_gateway import broker
from scim_gateway.admission import Slots
from scim_gateway.endpoints import BASE

DEACTIVATE = patch({"op": "replace", "path": "active", "value": False})


def loop_time() -> float:
    return asyncio.get_running_loop().time()


async def test_a_lost_reply_is_found_in_postgres_after_two_seconds(gateway, script, tenant):
    script.answer = silence
    started = loop_time()
    posting = asyncio.create_task(gateway.client.post("/Users", json=user(), headers=tenant.auth))
    (change,) = await until(lambda: script.seen)
    await tenant.add_outcome(applied(change))

    answer = await posting
    assert answer.status_code == 201
    assert answer.json()["id"] == str(change.resource_id)
    assert 1.9 < loop_time() - started < 6


async def test_many_lost_replies_are_found_together(gateway, script, tenant):
    script.answer = silence
    posting = [
        asyncio.create_task(gateway.client.post("/Users", json=user(f"user{n}"), headers=tenant.auth))
        for n in range(30)
    ]
    await until(lambda: len(script.seen) == 30)
    for change in script.seen:
        await tenant.add_outcome(applied(change))
    answers = await asyncio.gather(*posting)
    assert {answer.status_code for answer in answers} == {201}
    assert {answer.json()["id"] for answer in answers} == {str(change.resource_id) for change in script.seen}


async def test_at_the_deadline_the_outcome_is_unknown(topics, directory, script, tenant):
    script.answer = silence
    async with running(settings_for(topics, directory.gateway_dsn, gateway_outcome_deadline=0.5)) as gateway:
        before = await changes_in_topic(topics)
        answer = await gateway.client.post("/Users", json=user(), headers=tenant.auth)

        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) > 0
        assert "unknown" in answer.json()["detail"]
        assert "not accepted" not in answer.json()["detail"]
        assert await changes_in_topic(topics) == before + 1


async def test_an_outcome_after_the_deadline_harms_nobody(topics, directory, script, tenant):
    script.answer = silence
    settings = settings_for(
        topics,
        directory.gateway_dsn,
        gateway_outcome_deadline=0.3,
        gateway_connection_slots=1,
        gateway_reserved_slots=0,
    )
    async with running(settings) as gateway:
        late = await gateway.client.post("/Users", json=user(), headers=tenant.auth)
        full = await gateway.client.post("/Users", json=user(), headers=tenant.auth)
        await tenant.add_outcome(applied(script.seen[0]))
        script.answer = applied

        async def created() -> bool:
            answer = await gateway.client.post("/Users", json=user(), headers=tenant.auth)
            return answer.status_code == 201

        assert (late.status_code, full.status_code) == (503, 429)
        await until(created)


async def test_without_kafka_at_start_the_gateway_lives_is_not_ready_and_accepts_nothing(directory, tenant):
    user_id = await tenant.add_user("ada@example.com")
    settings = settings_for(f"127.0.0.1:{free_port()}", directory.gateway_dsn)
    async with running(settings, ready=False) as gateway:
        ready = await gateway.client.get(f"http://127.0.0.1:{gateway.port}/health/ready")
        answer = await gateway.client.post("/Users", json=user(), headers=tenant.auth)
        read = await gateway.client.get(f"/Users/{user_id}", headers=tenant.auth)

        assert ready.status_code == 503
        assert ready.json()["checks"]["kafka"] == "KafkaAway"
        assert ready.json()["checks"]["postgres"] == "ok"
        assert answer.status_code == 503
        assert "not accepted" in answer.json()["detail"]
        assert int(answer.headers["retry-after"]) > 0
        assert read.status_code == 200


async def test_without_postgres_at_start_reads_and_tokens_are_503(topics, tenant):
    settings = settings_for(topics, f"postgresql://scim_gateway:x@127.0.0.1:{free_port()}/nothing")
    async with running(settings, ready=False) as gateway:
        ready = await gateway.client.get(f"http://127.0.0.1:{gateway.port}/health/ready")
        answer = await gateway.client.get("/Users", headers=tenant.auth)

        assert ready.status_code == 503
        assert answer.status_code == 503
        assert answer.headers["content-type"] == "application/scim+json"
        assert int(answer.headers["retry-after"]) > 0


@pytest.mark.timeout(180)
async def test_a_broker_that_dies_and_returns(devstack_folder, postgres_database):
    """What was refused while it was away is not in the log, and everything goes on when it is back.

    Its topics are made after the gateway has started, and from the moment that it is ready every change is taken."""
    async with Kafka(devstack_folder / "kafka-that-dies") as kafka, opened_directory(postgres_database) as directory:
        tenant = await directory.add_connection()
        settings = settings_for(kafka.bootstrap, directory.gateway_dsn, gateway_outcome_deadline=3)
        async with AsyncExitStack() as stack:
            gateway = await stack.enter_async_context(running(settings, ready=False))

            async def post(name: str):
                return await gateway.client.post("/Users", json=user(name), headers=tenant.auth)

            async def checks() -> dict[str, str]:
                return (await gateway.client.get(f"http://127.0.0.1:{gateway.port}/health/ready")).json()["checks"]

            async def says(**expected: str) -> bool:
                return expected.items() <= (await checks()).items()

            assert await says(changes="NoProducer")
            await create_topics(kafka.bootstrap, OUTCOMES)
            await until(lambda: says(outcomes="ok"), 30)
            assert await says(changes="NoProducer")
            assert "not accepted" in (await post("refused")).json()["detail"]
            await create_topics(kafka.bootstrap, CHANGES)
            script = await stack.enter_async_context(scripted_provisioner(kafka.bootstrap))
            await until(lambda: says(changes="ok", outcomes="ok", kafka="ok"), 30)
            assert (await post("before")).status_code == 201
            await kafka.kill()
            in_doubt = await post("in-doubt")  # the gateway cannot know yet
            assert in_doubt.status_code == 503
            assert "unknown" in in_doubt.json()["detail"]

            async def is_refused() -> bool:
                return "not accepted" in (await post("refused")).json()["detail"]

            await until(is_refused)
            started = loop_time()
            refusals = [await post("refused") for _ in range(20)]
            assert all("not accepted" in refusal.json()["detail"] for refusal in refusals)
            assert loop_time() - started < 3

            await kafka.start()

            async def works() -> bool:
                return (await post("after")).status_code == 201

            await until(works, 60)
            names = [(change.resource or {})["userName"] for change in script.seen]
            assert "refused" not in names
            assert names[0] == "before"
            assert names.count("in-doubt") <= 1


@pytest.mark.timeout(180)
async def test_postgres_that_dies_and_returns(topics, devstack_folder):
    async with Postgres(devstack_folder / "postgres-that-dies") as postgres:
        await asyncio.to_thread(migrate, postgres.dsn)
        async with opened_directory(postgres.dsn) as directory:
            tenant = await directory.add_connection()
            user_id = await tenant.add_user("ada@example.com")
            dsn = directory.gateway_dsn
        async with running(settings_for(topics, dsn)) as gateway, scripted_provisioner(topics):

            async def status(path: str) -> int:
                answer = await gateway.client.get(path, headers=tenant.auth)
                assert answer.headers["content-type"].startswith("application/")
                return answer.status_code

            assert await status(f"/Users/{user_id}") == 200
            await postgres.kill()
            for _ in range(3):
                assert await status(f"/Users/{user_id}") == 503
            assert (await gateway.client.get(f"http://127.0.0.1:{gateway.port}/health/ready")).status_code == 503
            await postgres.start()

            async def works() -> bool:
                posted = await gateway.client.post("/Users", json=user(), headers=tenant.auth)
                return await status(f"/Users/{user_id}") == 200 and posted.status_code == 201

            await until(works, 60)


# --- slots ---------------------------------------------------------------------------------------------------------


async def test_t68_slots_are_held_though_the_client_is_gone(topics, directory, script, tenant):
    script.answer = silence
    settings = settings_for(
        topics, directory.gateway_dsn, gateway_connection_slots=4, gateway_reserved_slots=0, gateway_slot_lifetime=600
    )
    body = b'{"schemas":["urn:ietf:params:scim:schemas:core:2.0:User"],"userName":"ada"}'
    request = (
        f"POST {BASE}/Users HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {tenant.token}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode() + body
    async with running(settings) as gateway:
        before = await changes_in_topic(topics)
        for number in range(4):
            _, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
            writer.write(request)
            await writer.drain()
            await until(lambda seen=number + 1: len(script.seen) == seen)
            writer.close()
        answers = [await gateway.client.post("/Users", json=user(), headers=tenant.auth) for _ in range(5)]

        assert [answer.status_code for answer in answers] == [429] * 5
        assert all(int(answer.headers["retry-after"]) > 0 for answer in answers)
        assert await changes_in_topic(topics) == before + 4
        for change in script.seen:
            await tenant.add_outcome(applied(change))
        script.answer = applied

        async def has_room() -> bool:
            return (await gateway.client.post("/Users", json=user(), headers=tenant.auth)).status_code == 201

        await until(has_room)


async def test_slots_whose_outcome_never_comes_are_given_back_in_the_end(topics, directory, script, tenant):
    script.answer = silence
    settings = settings_for(
        topics,
        directory.gateway_dsn,
        gateway_connection_slots=1,
        gateway_reserved_slots=0,
        gateway_outcome_deadline=0.2,
        gateway_slot_lifetime=1,
    )
    async with running(settings) as gateway:
        await gateway.client.post("/Users", json=user(), headers=tenant.auth)
        script.answer = applied

        async def has_room() -> bool:
            return (await gateway.client.post("/Users", json=user(), headers=tenant.auth)).status_code == 201

        await until(has_room)


async def test_deactivations_have_slots_of_their_own(topics, directory, script, tenant):
    script.answer = silence
    settings = settings_for(
        topics,
        directory.gateway_dsn,
        gateway_connection_slots=2,
        gateway_reserved_slots=1,
        gateway_outcome_deadline=0.2,
        gateway_slot_lifetime=600,
    )
    path = f"/Users/{uuid4()}"
    async with running(settings) as gateway:
        await gateway.client.post("/Users", json=user(), headers=tenant.auth)
        refused = await gateway.client.post("/Users", json=user(), headers=tenant.auth)
        mixed = patch({"op": "replace", "value": {"active": False, "title": "x"}})
        refused_too = await gateway.client.patch(path, json=mixed, headers=tenant.auth)
        script.answer = applied
        deactivated = await gateway.client.patch(path, json=DEACTIVATE, headers=tenant.auth)
        deleted = await gateway.client.delete(path, headers=tenant.auth)

        assert (refused.status_code, refused_too.status_code) == (429, 429)
        assert (deactivated.status_code, deleted.status_code) == (200, 204)


async def test_one_connections_slots_are_not_anothers(topics, directory, script, tenant):
    script.answer = silence
    settings = settings_for(
        topics,
        directory.gateway_dsn,
        gateway_connection_slots=1,
        gateway_reserved_slots=0,
        gateway_global_slots=2,
        gateway_outcome_deadline=0.2,
        gateway_slot_lifetime=600,
    )
    second, third = await directory.add_connection(), await directory.add_connection()
    async with running(settings) as gateway:
        for each in (tenant, second):
            await gateway.client.post("/Users", json=user(), headers=each.auth)
        busy = await gateway.client.post("/Users", json=user(), headers=third.auth)
        assert busy.status_code == 503
        assert "nothing was changed" in busy.json()["detail"]
        assert len(script.seen) == 2


def test_releasing_a_slot_twice_is_releasing_it_once():
    slots, connection = Slots(2, 2), uuid4()
    first, second = slots.take(connection), slots.take(connection)
    first.release()
    first.release()
    assert slots.in_use == 1
    second.release()
    assert slots.in_use == 0


# --- the process ---------------------------------------------------------------------------------------------------


async def start_process(settings) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        str(Path(sys.executable).parent / "scim-gateway"),
        env=environment(settings),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )


async def test_sigterm_lets_requests_in_flight_end_and_exits_0(topics, directory, script, tenant, gateway):
    script.answer = silence
    settings = settings_for(topics, directory.gateway_dsn)
    process = await start_process(settings)
    try:
        origin = f"http://127.0.0.1:{settings.gateway_port}"

        async def is_ready() -> bool:
            try:
                return (await gateway.client.get(f"{origin}/health/ready")).status_code == 200
            except Exception:
                return False

        await until(is_ready)
        posting = [
            asyncio.create_task(
                gateway.client.post(f"{origin}{BASE}/Users", json=user(f"user{number}"), headers=tenant.auth)
            )
            for number in range(10)
        ]
        await until(lambda: len(script.seen) == 10)
        process.send_signal(signal.SIGTERM)
        for change in script.seen:
            await tenant.add_outcome(applied(change))
        answers = await asyncio.gather(*posting)
        output = (await process.communicate())[0].decode()

        assert {answer.status_code for answer in answers} == {201}
        assert process.returncode == 0, output
        assert "Traceback" not in output
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_sigterm_ends_a_gateway_that_never_reached_kafka(directory):
    settings = settings_for(f"127.0.0.1:{free_port()}", directory.gateway_dsn)
    process = await start_process(settings)
    assert process.stdout is not None
    async with asyncio.timeout(20):
        while b"connecting" not in await process.stdout.readline():
            pass
    process.send_signal(signal.SIGTERM)
    async with asyncio.timeout(20):
        output = (await process.communicate())[0].decode()
    assert process.returncode == 0, output


def test_reachability_needs_a_recent_sign_of_life(monkeypatch):
    reachability = broker.Reachability()
    assert not reachability.is_reachable
    reachability.seen()
    assert reachability.is_reachable
    monkeypatch.setattr(broker, "FRESH_SECONDS", 0.0)
    assert not reachability.is_reachable


async def test_t50_a_connection_that_hoards_slots_is_429_and_others_are_served(topics, directory, script):
    noisy, other = await directory.add_connection(), await directory.add_connection()
    script.answer = lambda change: silence(change) if change.connection_id == noisy.id else applied(change)
    overrides = {"gateway_connection_slots": 20, "gateway_reserved_slots": 2, "gateway_outcome_deadline": 2.0}
    async with running(settings_for(topics, directory.gateway_dsn, **overrides)) as gateway:
        requests = [
            asyncio.create_task(gateway.client.post("/Users", json=user(f"user{number}"), headers=noisy.auth))
            for number in range(60)
        ]
        served = [await gateway.client.post("/Users", json=user(), headers=other.auth) for _ in range(20)]
        assert {answer.status_code for answer in served} == {201}
        answers = await asyncio.gather(*requests)
    refused = [answer for answer in answers if answer.status_code == 429]
    assert len(refused) >= 60 - 20
    assert all(int(answer.headers["retry-after"]) <= 5 for answer in refused)
    assert {answer.status_code for answer in answers} == {429, 503}
    assert sum(change.connection_id == noisy.id for change in script.seen) == 60 - len(refused)
