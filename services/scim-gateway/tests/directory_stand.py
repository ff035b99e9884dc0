"""The real provisioner, as a process of its own, behind a gateway: what clients see of both together."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import httpx
from aiokafka import AIOKafkaConsumer, TopicPartition

from contracts import CHANGES
from devstack.ports import free_port
from gateway_stand import Running, Tenant, patch, until, user

COMMAND = Path(sys.executable).parent / "provisioner"
CORE_GROUP = "urn:ietf:params:scim:schemas:core:2.0:Group"


def group(name: str, /, *members: str, **attributes: Any) -> dict[str, Any]:
    listed = {"members": [{"value": member} for member in members]} if members else {}
    return {"schemas": [CORE_GROUP], "displayName": name, **listed, **attributes}


# The session's log holds what other modules' databases were asked; a new database starts behind it.
START_AT = """
    INSERT INTO partition_offsets (topic, partition, next_offset, epoch, owner, claims, claimed_offset)
    VALUES ($1, $2, $3, 0, 'test', 0, 0) ON CONFLICT DO NOTHING
"""


async def log_ends(bootstrap: str) -> list[tuple[str, int, int]]:
    """Topic, partition and end offset of each partition of the changes."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap)
    await consumer.start()
    try:
        ends = await consumer.end_offsets(
            [TopicPartition(CHANGES.name, number) for number in range(CHANGES.partitions)]
        )
    finally:
        await consumer.stop()
    return [(partition.topic, partition.partition, end) for partition, end in ends.items()]


@asynccontextmanager
async def real_provisioner(bootstrap: str, owner_dsn: str) -> AsyncIterator[None]:
    """Runs until the block ends, on the topics and the database that the gateway uses."""
    db = await asyncpg.connect(owner_dsn)
    await db.execute("ALTER ROLE scim_provisioner PASSWORD 'provisioner'")
    await db.executemany(START_AT, await log_ends(bootstrap))
    await db.close()
    port = free_port()
    environment = {
        **os.environ,
        "PROVISIONER_DATABASE_URL": f"postgresql://scim_provisioner:provisioner@{owner_dsn.partition('@')[2]}",
        "KAFKA_BOOTSTRAP": bootstrap,
        "HEALTH_PORT": str(port),
        "LOG_FORMAT": "json",
    }
    process = await asyncio.create_subprocess_exec(COMMAND, env=environment, start_new_session=True)
    try:
        async with httpx.AsyncClient(trust_env=False, timeout=5) as client:

            async def ready() -> bool:
                assert process.returncode is None, "the provisioner has ended"
                try:
                    return (await client.get(f"http://127.0.0.1:{port}/health/ready")).status_code == 200
                except httpx.TransportError:
                    return False

            await until(ready, 60)
        yield
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        await process.wait()


@dataclass
class Client:
    """A client of one connection; asserts that what it asks for works."""

    gateway: Running
    tenant: Tenant

    async def send(self, method: str, path: str, **options: Any) -> httpx.Response:
        headers = {**self.tenant.auth, **options.pop("headers", {})}
        return await self.gateway.client.request(method, path, headers=headers, **options)

    async def get(self, path: str, **params: Any) -> Any:
        answer = await self.send("GET", path, params=params)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def add_user(self, name: str, **attributes: Any) -> str:
        answer = await self.send("POST", "/Users", json=user(name, **attributes))
        assert answer.status_code == 201, answer.text
        return answer.json()["id"]

    async def add_group(self, name: str, *members: str, **attributes: Any) -> str:
        answer = await self.send("POST", "/Groups", json=group(name, *members, **attributes))
        assert answer.status_code == 201, answer.text
        return answer.json()["id"]

    async def patch(self, path: str, *operations: dict[str, Any], **options: Any) -> httpx.Response:
        return await self.send("PATCH", path, json=patch(*operations), **options)

    async def members(self, group_id: str) -> list[str]:
        return [member["value"] for member in (await self.get(f"/Groups/{group_id}"))["members"]]

    async def found(self, path: str, query: str) -> list[str]:
        return [resource["id"] for resource in (await self.get(path, filter=query))["Resources"]]
