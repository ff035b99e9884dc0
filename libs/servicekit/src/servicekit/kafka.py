"""Kafka clients of a service, with the settings that its promises need."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.partitioner import murmur2

REQUEST_TIMEOUT = 10_000  # milliseconds
MAX_RECORD_BYTES = 16 * 1024 * 1024


@asynccontextmanager
async def open_producer(bootstrap: str, *, client_id: str) -> AsyncIterator[AIOKafkaProducer]:
    """An idempotent producer with acks=all and no lingering; raises KafkaConnectionError when no broker answers."""
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap,
        client_id=client_id,
        acks="all",
        enable_idempotence=True,
        linger_ms=0,
        max_batch_size=256 * 1024,
        max_request_size=MAX_RECORD_BYTES,
        request_timeout_ms=REQUEST_TIMEOUT,
        metadata_max_age_ms=60_000,
    )
    await producer.start()
    try:
        yield producer
    finally:
        await producer.stop()


def new_consumer(bootstrap: str, *, client_id: str, group_id: str | None = None) -> AIOKafkaConsumer:
    """A consumer that commits nothing by itself and never resets a position; call start() and stop()."""
    return AIOKafkaConsumer(
        bootstrap_servers=bootstrap,
        client_id=client_id,
        group_id=group_id,
        enable_auto_commit=False,
        auto_offset_reset="none",
        fetch_max_wait_ms=500,
        max_partition_fetch_bytes=MAX_RECORD_BYTES + 1024 * 1024,
        session_timeout_ms=6_000,
        heartbeat_interval_ms=1_500,
        request_timeout_ms=REQUEST_TIMEOUT,
        metadata_max_age_ms=60_000,
    )


def partition_of(key: bytes, partitions: int) -> int:
    """Where Kafka's default partitioner puts a key."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions
