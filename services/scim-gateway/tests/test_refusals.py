"""What the gateway refuses by itself is told on `scim.refusals`, and no answer waits for it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

from aiokafka import TopicPartition

from contracts import REFUSALS, RefusedRequest, ResourceType
from devstack.ports import free_port
from gateway_stand import applied, patch, refused, running, settings_for, silence, until, user
from scim_gateway.refusals import BURST
from servicekit.kafka import new_consumer

NOBODY = UUID(int=0)


@asynccontextmanager
async def followed(bootstrap: str) -> AsyncIterator[list[RefusedRequest]]:
    """The refusals that are told from now on."""
    consumer, told = new_consumer(bootstrap, client_id="test"), list[RefusedRequest]()
    await consumer.start()
    consumer.assign([TopicPartition(REFUSALS.name, number) for number in range(REFUSALS.partitions)])
    for partition, end in (await consumer.end_offsets(list(consumer.assignment()))).items():
        consumer.seek(partition, end)

    async def follow() -> None:
        async for record in consumer:
            told.append(RefusedRequest.model_validate_json(record.value or b""))

    task = asyncio.create_task(follow())
    try:
        yield told
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await consumer.stop()


async def test_an_invalid_create_is_told_with_its_masked_body_and_the_reason(gateway, topics, tenant):
    async with followed(topics) as told:
        body = {"schemas": user()["schemas"], "displayName": "Ada", "password": "canary"}
        answer = await gateway.client.post("/Users", json=body, headers=tenant.auth)
        (refusal,) = await until(lambda: told)

    assert answer.status_code == 400
    assert (refusal.organization_id, refusal.connection_id) == (tenant.organization_id, tenant.id)
    assert (refusal.operation, refusal.actor) == ("create", "scim:okta")
    assert (refusal.outcome.status, refusal.outcome.scim_type) == (400, answer.json()["scimType"])
    assert refusal.outcome.detail == answer.json()["detail"]
    assert (refusal.outcome.resource_type, refusal.outcome.resource_id) == (ResourceType.USER, NOBODY)
    assert refusal.request.model_dump() == {"method": "POST", "path": "/Users", "body": body | {"password": "***"}}


async def test_every_kind_of_refusal_is_told(gateway, topics, tenant):
    reader = {"Authorization": f"Bearer {await tenant.add_token(scopes=['read'])}"}
    client, id_ = gateway.client, "0191e2a4-0000-7000-8000-000000000001"
    async with followed(topics) as told:
        await client.post("/Users", content=b"{", headers=tenant.auth)
        await client.patch(f"/Users/{id_}", json=patch({"op": "explode"}), headers=tenant.auth)
        await client.put("/Users/nobody", json=user(), headers=tenant.auth)
        await client.delete(f"/Users/{id_}", headers=reader)
        await client.get("/Users", params={"filter": "userName zz"}, headers=tenant.auth)
        await client.post("/Groups/.search", json={"schemas": []}, headers=tenant.auth)
        await client.post("/Bulk", json={"schemas": []}, headers=tenant.auth)
        await until(lambda: len(told) == 7)

    seen = {(each.operation, each.outcome.resource_type.value, each.outcome.status) for each in told}
    assert seen == {
        ("create", "User", 400),
        ("patch", "User", 400),
        ("replace", "User", 404),
        ("delete", "User", 403),
        ("read", "User", 400),
        ("read", "Group", 400),
        ("bulk", "Bulk", 400),
    }
    assert {str(each.outcome.resource_id) for each in told} == {str(NOBODY), id_}


async def test_what_the_provisioner_decides_is_not_told_nor_is_who_is_unknown(gateway, topics, script, tenant):
    script.answer = refused(409, "userName is taken", "uniqueness")
    async with followed(topics) as told:
        conflict = await gateway.client.post("/Users", json=user(), headers=tenant.auth)
        unknown = await gateway.client.post("/Users", json={}, headers={"Authorization": "Bearer scim_x"})
        missing = await gateway.client.get("/Users/nobody", headers=tenant.auth)
        last = await gateway.client.post("/Users", json={}, headers=tenant.auth)
        await until(lambda: told)

    assert [answer.status_code for answer in (conflict, unknown, missing, last)] == [409, 401, 404, 400]
    assert [each.outcome.status for each in told] == [400]


async def test_a_storm_of_refusals_is_a_sample_and_a_number(gateway, topics, tenant):
    async with followed(topics) as told:
        for _ in range(int(BURST) + 30):
            assert (await gateway.client.post("/Users", json={}, headers=tenant.auth)).status_code == 400
        await until(lambda: len(told) >= BURST)

        async def one_more() -> bool:
            await gateway.client.post("/Users", json={}, headers=tenant.auth)
            return any(each.outcome.similar for each in told)

        await until(one_more)

    last = max(told, key=lambda each: each.received_at)
    assert len(told) <= BURST + 10
    assert sum(each.outcome.similar or 0 for each in told) >= 30 - 10
    assert last.outcome.similar


async def test_t50_what_has_no_slot_is_told_too(topics, directory, script, tenant):
    script.answer = silence
    settings = settings_for(topics, directory.gateway_dsn, gateway_connection_slots=1, gateway_reserved_slots=0)
    async with running(settings) as gateway, followed(topics) as told:
        waiting = asyncio.create_task(gateway.client.post("/Users", json=user(), headers=tenant.auth))
        (change,) = await until(lambda: script.seen)
        refusal = await gateway.client.post("/Users", json=user(), headers=tenant.auth)
        await until(lambda: told)
        await tenant.add_outcome(applied(change))
        await waiting

    assert refusal.status_code == 429
    assert [each.outcome.status for each in told] == [429]


async def test_without_kafka_answers_are_the_same(directory, tenant):
    settings = settings_for(f"127.0.0.1:{free_port()}", directory.gateway_dsn)
    async with running(settings, ready=False) as gateway:
        answers = [await gateway.client.post("/Users", json={}, headers=tenant.auth) for _ in range(30)]

    assert {answer.status_code for answer in answers} == {400}
