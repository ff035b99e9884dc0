"""How long the log of changes is, which with the provisioner's offsets tells how far behind it is."""

import asyncio
import time
from contextlib import suppress

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from contracts import CHANGES
from servicekit.kafka import Brokers, new_consumer

log = structlog.get_logger()

CACHE_SECONDS = 2.0
TIMEOUT = 2.0  # seconds that a status page waits for Kafka


class LogEnds:
    """The end offsets of the partitions of scim.changes, asked for at most every CACHE_SECONDS."""

    def __init__(self, brokers: Brokers) -> None:
        self._brokers = brokers
        self._consumer: AIOKafkaConsumer | None = None
        self._asking = asyncio.Lock()
        self._asked_at = float("-inf")
        self._ends: dict[int, int] = {}

    async def get(self) -> dict[int, int]:
        """The offset behind the last record, by partition; empty while Kafka is away."""
        async with self._asking:
            if time.monotonic() - self._asked_at >= CACHE_SECONDS:
                self._ends = await self._ask()
                self._asked_at = time.monotonic()
            return self._ends

    async def close(self) -> None:
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            with suppress(KafkaError, OSError):
                await consumer.stop()

    async def _ask(self) -> dict[int, int]:
        try:
            async with asyncio.timeout(TIMEOUT):
                consumer = await self._open()
                partitions = [TopicPartition(CHANGES.name, number) for number in range(CHANGES.partitions)]
                ends = await consumer.end_offsets(partitions)
        except (KafkaError, OSError) as error:  # TimeoutError among them
            log.warning("kafka.end_offsets.failed", error=type(error).__name__)
            await self.close()
            return {}
        return {partition.partition: offset for partition, offset in ends.items()}

    async def _open(self) -> AIOKafkaConsumer:
        if self._consumer is None:
            consumer = new_consumer(self._brokers, client_id="admin-api")
            try:
                await consumer.start()
            except BaseException:
                await consumer.stop()
                raise
            self._consumer = consumer
        return self._consumer
