"""From `scim.refusals` into the provisioning log."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest_asyncio
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import TopicAlreadyExistsError

from contracts import REFUSALS, Outcome, RefusedRequest, RequestSummary, ResourceType
from provisioner import refusals
from servicekit.ids import uuid7
from servicekit.kafka import open_producer


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def topic(kafka_bootstrap: str) -> str:
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka_bootstrap)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(REFUSALS.name, REFUSALS.partitions, 1)])
    except TopicAlreadyExistsError:
        pass
    finally:
        await admin.close()
    return kafka_bootstrap


def refused_request(world, body: Any = None) -> RefusedRequest:
    id_ = uuid7()
    return RefusedRequest(
        organization_id=world.organization_id,
        connection_id=world.connection_id,
        token_id=world.token_id,
        actor="scim:okta",
        operation="create",
        outcome=Outcome(
            change_id=id_,
            resource_type=ResourceType.USER,
            resource_id=id_,
            status=400,
            scim_type="invalidValue",
            detail="userName is required.",
            similar=3,
        ),
        received_at=datetime.now(UTC),
        request=RequestSummary(method="POST", path="/Users", body=body or {"displayName": "Ada"}),
    )


@asynccontextmanager
async def following(world, bootstrap: str) -> AsyncIterator[None]:
    task = asyncio.create_task(refusals.follow(bootstrap, world.pool, "test"))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def publish(bootstrap: str, *values: bytes) -> None:
    async with open_producer(bootstrap, client_id="test") as producer:
        for value in values:
            await producer.send_and_wait(REFUSALS.name, value, partition=0)


async def written(world, refusal: RefusedRequest) -> Any:
    async with asyncio.timeout(60):
        while not (row := await row_of(world, refusal)):
            await asyncio.sleep(0.02)
    return row


async def row_of(world, refusal: RefusedRequest) -> Any:
    return await world.owner.fetchrow("SELECT * FROM outcomes WHERE change_id = $1", refusal.outcome.change_id)


async def test_a_refusal_is_an_entry_of_the_log_once_however_often_it_comes(world, topic):
    refusal, last = refused_request(world), refused_request(world)
    value = refusal.model_dump_json().encode()
    async with following(world, topic):
        await publish(topic, value, value)
        row = await written(world, refusal)
        await publish(topic, value, last.model_dump_json().encode())
        await written(world, last)

    assert Outcome.model_validate_json(row["reply"]) == refusal.outcome
    assert (row["organization_id"], row["connection_id"]) == (world.organization_id, world.connection_id)
    assert (row["operation"], row["resource_type"], row["status"]) == ("create", "User", 400)
    assert row["request"] == {"method": "POST", "path": "/Users", "body": {"displayName": "Ada"}}
    assert row["received_at"] == refusal.received_at


async def test_what_cannot_be_read_or_stored_holds_nothing_up(world, topic):
    newer = orjson.dumps(orjson.loads(refused_request(world).model_dump_json()) | {"version": 99})
    odd, last = refused_request(world, "\x00 is no text of Postgres"), refused_request(world)
    async with following(world, topic):
        await publish(topic, b"garbage", newer, *(each.model_dump_json().encode() for each in (odd, last)))
        await written(world, last)

    assert await row_of(world, odd) is None
