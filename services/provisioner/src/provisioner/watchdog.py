"""Noticing that records wait although nothing is away: aiokafka is known to stall without a word.

The watchdog asks the broker with clients of its own, for the one that consumes may be the one that stalls.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from servicekit.kafka import REQUEST_TIMEOUT, Brokers, address, new_consumer

log = structlog.get_logger()

INTERVAL = 2.0  # seconds between two looks
PATIENCE = 30.0  # seconds until records that wait in the log must have been fetched
BUSY_PATIENCE = 150.0  # seconds for the batch in hand; above two statement timeouts, for a retry is progress too
ASK_TIMEOUT = 5.0  # seconds


class Stalled(Exception):
    """Records wait, Kafka and Postgres answer, and nothing is applied: only a new process is known to help."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a worker is: `applied` is None before its claim; `waits`: what it needs is away, and it says so."""

    applied: int | None
    is_busy: bool
    waits: bool


@dataclass(frozen=True, slots=True)
class Seen:
    """What a worker had applied at a time of the monotonic clock."""

    applied: int | None
    at: float


class Observer:
    """What the broker says, in its own words."""

    def __init__(self, consumer: AIOKafkaConsumer, admin: AIOKafkaAdminClient, group: str) -> None:
        self._consumer = consumer
        self._admin = admin
        self._group = group

    async def cluster_id(self) -> str:
        return (await self._admin.describe_cluster())["cluster_id"]

    async def ends(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        """The offsets at which the log of the partitions ends."""
        return await self._consumer.end_offsets(list(partitions)) if partitions else {}

    async def members(self) -> set[str]:
        """The client ids of the group's members."""
        (answer,) = await self._admin.describe_consumer_groups([self._group])
        return {member["client_id"] for group in answer.to_object()["groups"] for member in group["members"]}


@asynccontextmanager
async def observing(brokers: Brokers, group: str) -> AsyncIterator[Observer]:
    """An observer with connections of its own; raises KafkaError when no broker answers."""
    consumer = new_consumer(brokers, client_id="provisioner-watchdog")
    admin = AIOKafkaAdminClient(
        **address(brokers), client_id="provisioner-watchdog", request_timeout_ms=REQUEST_TIMEOUT
    )
    try:
        await consumer.start()
        await admin.start()
        yield Observer(consumer, admin, group)
    finally:
        for close in (consumer.stop, admin.close):
            with suppress(KafkaError, TimeoutError):
                async with asyncio.timeout(ASK_TIMEOUT):
                    await close()


class Watchdog:
    """Compares the log's ends with what is applied, and the group's members with who we are.

    `progress` tells of the workers of this process; `is_away` whether Postgres is, which excuses.
    """

    def __init__(
        self,
        observer: Observer,
        client_id: str,
        progress: Callable[[], Mapping[TopicPartition, Progress]],
        is_away: Callable[[], Awaitable[bool]],
    ) -> None:
        self._observer = observer
        self._client_id = client_id
        self._progress = progress
        self._is_away = is_away
        self._seen: dict[TopicPartition, Seen] = {}
        self._member_at = time.monotonic()
        self._stalled: Stalled | None = None

    async def run(self) -> None:
        """Look every INTERVAL seconds until something stalls; raises Stalled."""
        while True:
            await asyncio.sleep(INTERVAL)
            try:
                async with asyncio.timeout(ASK_TIMEOUT):
                    ends = await self._observer.ends(self._progress().keys())
                    members = await self._observer.members()
            except (KafkaError, OSError) as error:  # a TimeoutError is an OSError
                log.info("watchdog.kafka_away", error=type(error).__name__)
                self.forget()
                continue
            try:
                self.look(time.monotonic(), ends, members)
            except Stalled as stalled:
                if await self._is_away():
                    self.forget()
                    continue
                self._stalled = stalled
                raise

    async def check(self) -> None:
        """Liveness: raises Stalled once something has."""
        if self._stalled:
            raise self._stalled

    def look(self, now: float, ends: Mapping[TopicPartition, int], members: Collection[str]) -> None:
        """Raise Stalled when a partition with records, or our membership, is missed for too long."""
        if self._client_id in members:
            self._member_at = now
        if now - self._member_at > PATIENCE:
            raise Stalled(f"the consumer group has not had this process as a member for {now - self._member_at:.0f} s")
        progress = self._progress()
        self._seen = {
            partition: self._looked_at(partition, worker, ends[partition], now)
            for partition, worker in progress.items()
            if partition in ends
        }

    def forget(self) -> None:
        """Begin anew: what happened while something was away says nothing."""
        self._seen.clear()
        self._member_at = time.monotonic()

    def _looked_at(self, partition: TopicPartition, worker: Progress, end: int, now: float) -> Seen:
        seen = self._seen.get(partition)
        has_nothing_to_do = worker.applied is not None and worker.applied >= end
        if seen is None or seen.applied != worker.applied or has_nothing_to_do or worker.waits:
            return Seen(worker.applied, now)
        if now - seen.at > (BUSY_PATIENCE if worker.is_busy else PATIENCE):
            raise Stalled(
                f"{partition.topic}/{partition.partition} is applied up to offset {worker.applied}, the log ends at "
                f"{end}, and nothing has moved for {now - seen.at:.0f} s: the process ends, so that another takes over"
            )
        return seen
