"""Changes that an admin asks for; they take the road of every other change, through Kafka to the provisioner."""

import asyncio
from contextlib import AsyncExitStack
from datetime import datetime, timedelta

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from contracts import CHANGE_ID_HEADER, CHANGES, TRACEPARENT_HEADER, Change, Operation, ResourceType
from directory.tables import Connection
from servicekit import tracing
from servicekit.ids import uuid7
from servicekit.kafka import open_producer

log = structlog.get_logger()

PUBLISH_TIMEOUT = 5.0  # seconds; a request waits no longer, the sweep publishes what it missed
# How long after its request a change counts as late; nobody waits for these.
PATIENCE = timedelta(minutes=1)


class KafkaAway(Exception):
    """The broker does not answer, or not in time."""


def delete_connection(connection: Connection, actor: str, now: datetime) -> Change:
    """All users and groups of the connection are to go; asking twice is harmless."""
    return Change(
        id=uuid7(),
        organization_id=connection.organization_id,
        connection_id=connection.id,
        actor=actor,
        resource_type=ResourceType.CONNECTION,
        operation=Operation.DELETE,
        resource_id=connection.id,
        received_at=now,
        deadline=now + PATIENCE,
        traceparent=tracing.traceparent(),
    )


class Publisher:
    """Publishes changes, keyed by organization; its producer is opened at first use, and again after a failure."""

    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap
        self._producer: AIOKafkaProducer | None = None
        self._stack = AsyncExitStack()
        self._opening = asyncio.Lock()

    async def publish(self, change: Change) -> None:
        """Return when the change is in the log; raises KafkaAway when that is not known."""
        try:
            async with asyncio.timeout(PUBLISH_TIMEOUT):
                producer = await self._open()
                await producer.send_and_wait(
                    CHANGES.name,
                    key=str(change.organization_id).encode(),
                    value=change.model_dump_json(exclude_none=True).encode(),
                    headers=_headers(change),
                )
        except TimeoutError as error:  # the producer goes on trying
            raise KafkaAway("no answer in time") from error
        except (KafkaError, OSError) as error:
            await self.close()
            raise KafkaAway(type(error).__name__) from error

    async def check(self) -> None:
        """Raise KafkaAway unless a broker answers and has the topic; for readiness."""
        try:
            producer = await self._open()
            if not await producer.client.force_metadata_update():
                raise KafkaAway("no broker answers")
        except (KafkaError, OSError) as error:
            raise KafkaAway(type(error).__name__) from error
        if CHANGES.name not in producer.client.cluster.topics():
            raise KafkaAway(f"topic {CHANGES.name} is missing")

    async def close(self) -> None:
        """Flush and forget the producer; the next use opens a new one."""
        self._producer = None
        try:
            async with asyncio.timeout(PUBLISH_TIMEOUT):
                await self._stack.aclose()
        except (KafkaError, OSError) as error:
            log.warning("kafka.producer.close_failed", error=type(error).__name__)

    async def _open(self) -> AIOKafkaProducer:
        async with self._opening:
            if self._producer is None:
                producer = await self._stack.enter_async_context(open_producer(self._bootstrap, client_id="admin-api"))
                await producer.client.add_topic(CHANGES.name)
                self._producer = producer
            return self._producer


def _headers(change: Change) -> list[tuple[str, bytes]]:
    headers = [(CHANGE_ID_HEADER, str(change.id).encode())]
    if change.traceparent:
        headers.append((TRACEPARENT_HEADER, change.traceparent.encode()))
    return headers
