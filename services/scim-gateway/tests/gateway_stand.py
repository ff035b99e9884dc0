"""A gateway on a real socket, before a real broker and database; the provisioner's part is played by a script."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx
import orjson
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import TopicAlreadyExistsError
from pydantic import SecretStr

from contracts import CHANGE_ID_HEADER, CHANGES, OUTCOMES, SCIM_TOKEN, TOPICS, Change, Operation, Outcome, Topic
from devstack.ports import free_port
from scim.keys import email_key, identity_key
from scim_gateway.app import create_app
from scim_gateway.endpoints import BASE
from scim_gateway.settings import Settings
from servicekit import bearer
from servicekit.health import Health
from servicekit.http import serve
from servicekit.ids import uuid7
from servicekit.kafka import new_consumer, open_producer
from servicekit.postgres import open_pool

PEPPER = "a pepper of the tests"
CORE_USER = "urn:ietf:params:scim:schemas:core:2.0:User"
PATCH_OP = "urn:ietf:params:scim:api:messages:2.0:PatchOp"

type Answer = Callable[[Change], Outcome | None]


async def until[T](look: Callable[[], T | Awaitable[T]], seconds: float = 60) -> T:
    """What `look` answers once it is true; a coroutine function may look too."""
    async with asyncio.timeout(seconds):
        while True:
            found: Any = look()
            if isinstance(found, Awaitable):
                found = await found
            if found:
                return found
            await asyncio.sleep(0.02)


def user(user_name: str = "ada@example.com", /, **attributes: Any) -> dict[str, Any]:
    return {"schemas": [CORE_USER], "userName": user_name, **attributes}


def patch(*operations: dict[str, Any]) -> dict[str, Any]:
    return {"schemas": [PATCH_OP], "Operations": list(operations)}


# --- Kafka ---------------------------------------------------------------------------------------------------------


async def create_topics(bootstrap: str, *topics: Topic) -> None:
    """Our topics, or those that are named, empty."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        for _ in range(100):
            try:
                await admin.create_topics(
                    [NewTopic(t.name, t.partitions, 1, topic_configs=t.settings()) for t in topics or TOPICS]
                )
                return
            except TopicAlreadyExistsError:
                await admin.delete_topics([topic.name for topic in topics or TOPICS])
    finally:
        await admin.close()


async def changes_in_topic(bootstrap: str) -> int:
    """How many records `scim.changes` holds."""
    consumer = new_consumer(bootstrap, client_id="test")
    await consumer.start()
    try:
        partitions = [TopicPartition(CHANGES.name, number) for number in range(CHANGES.partitions)]
        return sum((await consumer.end_offsets(partitions)).values())
    finally:
        await consumer.stop()


@dataclass
class Script:
    """Plays the provisioner: answers each change as `answer` says, None meaning not at all."""

    answer: Answer
    seen: list[Change] = field(default_factory=list)
    raw: list[Any] = field(default_factory=list)


def applied(change: Change) -> Outcome:
    """The outcome of a change that simply works; only a create carries what was sent."""
    status = {Operation.CREATE: 201, Operation.DELETE: 204}.get(change.operation, 200)
    has_body = change.operation is not Operation.DELETE
    return Outcome(
        change_id=change.id,
        resource_type=change.resource_type,
        resource_id=change.resource_id,
        status=status,
        resource={"active": True, "userName": "someone", **(change.resource or {})} if has_body else None,
        resource_version=1 if status == 201 else 2,
        created=change.received_at if has_body else None,
        last_modified=change.received_at if has_body else None,
    )


def refused(status: int, detail: str, scim_type: str | None = None) -> Answer:
    return lambda change: Outcome(
        change_id=change.id,
        resource_type=change.resource_type,
        resource_id=change.resource_id,
        status=status,
        scim_type=scim_type,
        detail=detail,
    )


def silence(change: Change) -> None:
    """The provisioner is away, or its reply is lost."""


@asynccontextmanager
async def scripted_provisioner(bootstrap: str) -> AsyncIterator[Script]:
    """A script that reads the changes published from now on."""
    script = Script(applied)
    consumer = new_consumer(bootstrap, client_id="test")
    await consumer.start()
    consumer.assign([TopicPartition(CHANGES.name, number) for number in range(CHANGES.partitions)])
    for partition, end in (await consumer.end_offsets(list(consumer.assignment()))).items():
        consumer.seek(partition, end)

    async def play() -> None:
        async with open_producer(bootstrap, client_id="test") as producer:
            async for record in consumer:
                change = Change.model_validate_json(record.value or b"")
                script.raw.append(record)
                script.seen.append(change)
                outcome = script.answer(change)
                if outcome is not None:
                    headers = [(CHANGE_ID_HEADER, str(change.id).encode())]
                    value = outcome.model_dump_json().encode()
                    await producer.send(OUTCOMES.name, value, partition=change.reply_partition, headers=headers)

    task = asyncio.create_task(play())
    try:
        yield script
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await consumer.stop()


# --- Postgres ------------------------------------------------------------------------------------------------------


@dataclass
class Directory:
    """The tables, written as their owner; the gateway reads them with its own role."""

    owner: asyncpg.Pool
    gateway_dsn: str

    async def add_connection(self, *, plan: str = "enterprise", provider_id: str = "okta") -> "Tenant":
        tenant = Tenant(self, uuid4(), uuid4())
        await self.owner.execute(
            "INSERT INTO organizations (id, name, plan) VALUES ($1, 'Example', $2)", tenant.organization_id, plan
        )
        await self.owner.execute(
            "INSERT INTO connections (id, organization_id, provider_id) VALUES ($1, $2, $3)",
            tenant.id,
            tenant.organization_id,
            provider_id,
        )
        tenant.token = await tenant.add_token()
        return tenant


@dataclass
class Tenant:
    """One connection of one organization, and a token of it."""

    directory: Directory
    organization_id: UUID
    id: UUID
    token: str = ""

    @property
    def auth(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}

    async def add_token(self, **columns: Any) -> str:
        token = bearer.mint(SCIM_TOKEN)
        names = ", ".join(["id", "connection_id", "digest", "hint", *columns])
        places = ", ".join(f"${number}" for number in range(1, 5 + len(columns)))
        await self.directory.owner.execute(
            f"INSERT INTO tokens ({names}) VALUES ({places})",
            uuid4(),
            self.id,
            bearer.digest(PEPPER.encode(), SCIM_TOKEN, token),
            bearer.hint(token),
            *columns.values(),
        )
        return token

    async def add_user(self, user_name: str, /, **attributes: Any) -> UUID:
        """A user as the provisioner would have stored it."""
        user_id, account_id, now = uuid7(), uuid4(), datetime.now(UTC)
        resource = {"userName": user_name, "active": True, **attributes}
        async with self.directory.owner.acquire() as db, db.transaction():
            await db.execute(
                "INSERT INTO accounts (id, organization_id, display_name, status, created_at, updated_at)"
                " VALUES ($1, $2, $3, 'active', $4, $4)",
                account_id,
                self.organization_id,
                user_name,
                now,
            )
            await db.execute(
                "INSERT INTO users (id, connection_id, account_id, user_name, user_name_key, external_id, active,"
                " resource, version, created_at, last_modified, email_keys)"
                " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 1, $9, $9, $10)",
                user_id,
                self.id,
                account_id,
                user_name,
                identity_key(user_name),
                resource.get("externalId"),
                resource["active"],
                resource,
                now,
                email_keys(resource),
            )
            await db.execute(
                "INSERT INTO connection_stats (connection_id, users) VALUES ($1, 1)"
                " ON CONFLICT (connection_id) DO UPDATE SET users = connection_stats.users + 1",
                self.id,
            )
        return user_id

    async def add_outcome(self, outcome: Outcome) -> None:
        """An outcome as the provisioner commits it."""
        await self.directory.owner.execute(
            "INSERT INTO outcomes (change_id, organization_id, connection_id, actor, resource_type, operation,"
            " resource_id, status, reply, received_at, applied_at)"
            " VALUES ($1, $2, $3, 'test', 'User', 'create', $4, $5, $6, now(), now())",
            outcome.change_id,
            self.organization_id,
            self.id,
            outcome.resource_id,
            outcome.status,
            outcome.model_dump_json().encode(),
        )


def email_keys(resource: dict[str, Any]) -> list[str]:
    """The keys of a user's addresses, as the provisioner keeps them."""
    values = [resource.get("userName"), *(email.get("value") for email in resource.get("emails", ()))]
    return sorted({key for value in values if value and (key := email_key(value))})


async def gateway_dsn(owner_dsn: str) -> str:
    """The DSN of the gateway's own role: that it can only read is part of what is tested."""
    db = await asyncpg.connect(owner_dsn)
    await db.execute("ALTER ROLE scim_gateway PASSWORD 'gateway'")
    await db.close()
    return f"postgresql://scim_gateway:gateway@{owner_dsn.partition('@')[2]}"


@asynccontextmanager
async def opened_directory(owner_dsn: str) -> AsyncIterator[Directory]:
    async with open_pool(owner_dsn, service="test", max_size=3) as owner:
        yield Directory(owner, await gateway_dsn(owner_dsn))


# --- the gateway ---------------------------------------------------------------------------------------------------


@dataclass
class Running:
    """A gateway that serves."""

    settings: Settings
    client: httpx.AsyncClient

    @property
    def port(self) -> int:
        return self.settings.gateway_port

    async def raw(self, *parts: bytes, until_closed: bool = False) -> bytes:
        """Send these bytes on a connection of their own; the first bytes of the answer, or all until it is closed."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            for part in parts:
                writer.write(part)
                await writer.drain()
            async with asyncio.timeout(10):
                return await reader.read(-1 if until_closed else 65536)
        finally:
            writer.close()


def settings_for(bootstrap: str, dsn: str, **overrides: Any) -> Settings:
    values = {
        "gateway_port": free_port(),
        "gateway_database_url": SecretStr(dsn),
        "kafka_bootstrap": bootstrap,
        "token_pepper": SecretStr(PEPPER),
        "public_url": "https://scim.example.com",
        "gateway_outcome_deadline": 30.0,  # a busy machine is slow, not wrong
    }
    return Settings(**{**values, **overrides})


@asynccontextmanager
async def running(settings: Settings, *, ready: bool = True) -> AsyncIterator[Running]:
    """The gateway in this process, on its port; `ready` waits until it is."""
    stopping, health = asyncio.Event(), Health()
    serving = asyncio.create_task(
        serve(create_app(settings, health), settings.gateway_host, settings.gateway_port, stopping)
    )
    origin = f"http://127.0.0.1:{settings.gateway_port}"
    async with httpx.AsyncClient(base_url=origin + BASE, timeout=60, trust_env=False) as client:

        async def answers() -> bool:
            try:
                status = (await client.get(f"{origin}/health/{'ready' if ready else 'live'}")).status_code
            except httpx.TransportError:
                return False
            return status == 200

        try:
            await until(answers)
            yield Running(settings, client)
        finally:
            stopping.set()
            await serving


def body_of(answer: bytes) -> Any:
    """The JSON body of a raw HTTP answer."""
    return orjson.loads(answer.partition(b"\r\n\r\n")[2])


def environment(settings: Settings) -> dict[str, str]:
    """The settings as a process of its own would get them."""
    return {
        **os.environ,
        "GATEWAY_PORT": str(settings.gateway_port),
        "GATEWAY_DATABASE_URL": settings.gateway_database_url.get_secret_value(),
        "KAFKA_BOOTSTRAP": settings.kafka_bootstrap,
        "TOKEN_PEPPER": settings.token_pepper.get_secret_value(),
        "LOG_FORMAT": "json",
    }
