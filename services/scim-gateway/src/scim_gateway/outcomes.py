"""Outcomes of the changes under way: from this gateway's partition of `scim.outcomes`, and from Postgres when late.

Both ways lead to `settle`, whichever comes first; the topic is the fast one, the table the one that cannot be lost.
"""

import asyncio
import random
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import asyncpg
import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from prometheus_client import Histogram
from pydantic import ValidationError

from contracts import CHANGE_ID_HEADER, OUTCOMES, TRACEPARENT_HEADER, Outcome
from scim.errors import ScimError
from scim_gateway import metrics
from scim_gateway.admission import Slot
from scim_gateway.broker import Reachability
from scim_gateway.store import outcomes as store
from servicekit import tracing
from servicekit.kafka import Brokers, new_consumer

log = structlog.get_logger()

PING_SECONDS = 1.0
POLL_SECONDS = 0.25
POLL_AFTER = 2.0  # seconds; the topic answers in milliseconds, so a later one is probably lost
STALL_SECONDS = 5.0  # records are there and none is read: aiokafka can stall silently (aio-libs/aiokafka 625, 880)
RECONNECT_SECONDS = 0.5


class Stalled(Exception):
    """The consumer has stopped reading though there is something to read."""


@dataclass(slots=True, eq=False)
class Pending:
    """A change under way; `since` is the loop's time when it was expected."""

    change_id: UUID
    slot: Slot
    since: float
    outcome: asyncio.Future[Outcome] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Outcomes:
    """Waits for outcomes by change id. A slot is held until its outcome is seen, at most `lifetime` seconds."""

    def __init__(self, brokers: Brokers, pool: asyncpg.Pool, reachability: Reachability, lifetime: float) -> None:
        self.partition = random.randrange(OUTCOMES.partitions)
        self._brokers = brokers
        self._pool = pool
        self._reachability = reachability
        self._lifetime = lifetime
        self._pending: dict[bytes, Pending] = {}
        self._is_positioned = False
        metrics.PENDING.set_function(lambda: len(self._pending))
        metrics.OUTCOMES_POSITIONED.set_function(lambda: self._is_positioned)

    @property
    def is_positioned(self) -> bool:
        """Whether outcomes published from now on will be read."""
        return self._is_positioned

    def expect(self, change_id: UUID, slot: Slot) -> Pending:
        """Register a change before it is published; from here on the slot is ours to release."""
        pending = Pending(change_id, slot, asyncio.get_running_loop().time())
        self._pending[str(change_id).encode()] = pending
        return pending

    def forget(self, change_id: UUID) -> None:
        """The change was never published."""
        pending = self._pending.pop(str(change_id).encode(), None)
        if pending is not None:
            pending.slot.release()

    def settle(self, change_id: bytes, value: bytes, wait: Histogram = metrics.FROM_TOPIC) -> None:
        """An outcome has arrived; a second one for the same change, or one of another gateway's, changes nothing."""
        pending = self._pending.get(change_id)
        if pending is None:
            return
        try:
            outcome = Outcome.model_validate_json(value)
        except ValidationError:
            log.error("outcome.undecodable", change_id=change_id.decode())
            return
        del self._pending[change_id]
        wait.observe(asyncio.get_running_loop().time() - pending.since)
        pending.slot.release()
        if not pending.outcome.done():  # else nobody waits any more
            pending.outcome.set_result(outcome)

    async def listen(self) -> None:
        """Read the partition until cancelled; starts again from its end whenever the consumer fails or stalls."""
        while True:
            try:
                await self._listen_once()
            except* (KafkaError, OSError, Stalled) as errors:
                log.warning("outcomes.reconnecting", error=type(errors.exceptions[0]).__name__)
                metrics.OUTCOMES_RECONNECTS.inc()
            self._is_positioned = False
            await asyncio.sleep(RECONNECT_SECONDS)

    async def poll(self) -> None:
        """Ask Postgres for late outcomes until cancelled, and let go of slots whose time is over."""
        is_failing = False
        while True:
            await asyncio.sleep(POLL_SECONDS)
            self._expire()
            late = self._late()
            if not late:
                continue
            try:
                found = await store.find(self._pool, late)
                is_failing = False
            except ScimError:  # Postgres is away; the topic may still answer
                if not is_failing:
                    log.warning("outcomes.poll_failed", late=len(late))
                is_failing = True
                continue
            for change_id, reply in found:
                self.settle(str(change_id).encode(), reply, metrics.FROM_TABLE)

    async def _listen_once(self) -> None:
        consumer = new_consumer(self._brokers, client_id="scim-gateway")
        partition = TopicPartition(OUTCOMES.name, self.partition)
        try:
            await consumer.start()
            consumer.assign([partition])
            end = (await consumer.end_offsets([partition]))[partition]
            consumer.seek(partition, end)
            self._is_positioned = True
            self._reachability.seen()
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._read(consumer))
                tasks.create_task(self._ping(consumer, partition))
        finally:
            self._is_positioned = False
            await consumer.stop()

    async def _read(self, consumer: AIOKafkaConsumer) -> None:
        while True:
            batches = await consumer.getmany(timeout_ms=1000)
            for records in batches.values():
                self._reachability.seen()
                for record in records:
                    self._settle_record(record)

    def _settle_record(self, record: Any) -> None:
        # The id is in a header, so that records of the other gateways on this partition are not even parsed.
        for name, change_id in record.headers:
            if name == CHANGE_ID_HEADER and change_id in self._pending:
                _trace(record)
                self.settle(change_id, record.value)

    async def _ping(self, consumer: AIOKafkaConsumer, partition: TopicPartition) -> None:
        """Ask the broker for the end of the partition: whether it answers, and whether we are behind."""
        loop = asyncio.get_running_loop()
        behind_since: float | None = None
        last_position = -1
        while True:
            await asyncio.sleep(PING_SECONDS)
            try:
                async with asyncio.timeout(PING_SECONDS):
                    end = (await consumer.end_offsets([partition]))[partition]
                    position = await consumer.position(partition)
            except TimeoutError:
                continue  # Reachability runs out by itself
            self._reachability.seen()
            if position >= end or position != last_position:
                behind_since = None
            elif behind_since is None:
                behind_since = loop.time()
            elif loop.time() - behind_since > STALL_SECONDS:
                raise Stalled
            last_position = position

    def _late(self) -> list[UUID]:
        before = asyncio.get_running_loop().time() - POLL_AFTER
        return [pending.change_id for pending in self._pending.values() if pending.since <= before]

    def _expire(self) -> None:
        before = asyncio.get_running_loop().time() - self._lifetime
        expired = [change_id for change_id, pending in self._pending.items() if pending.since <= before]
        for change_id in expired:
            self._pending.pop(change_id).slot.release()
            metrics.ABANDONED.inc()


def _trace(record: Any) -> None:
    """The way back: from the provisioner's sending to here."""
    if traceparent := dict(record.headers).get(TRACEPARENT_HEADER):
        tracing.record("receive scim.outcomes", traceparent.decode(), record.timestamp * 1_000_000, kind="consumer")
