"""What gateways refused by themselves, from `scim.refusals` into the provisioning log.

Best effort, beside the changes and never in their way: nothing here can stop or delay a partition of `scim.changes`.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress

import asyncpg
import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRecord
from aiokafka.errors import KafkaError
from pydantic import ValidationError

from contracts import REFUSALS, RefusedRequest
from provisioner import metrics
from provisioner.store import refusals as store
from servicekit.kafka import Brokers, address

log = structlog.get_logger()

GROUP = "provisioner-refusals"
MAX_BATCH = 200  # records
POLL_TIMEOUT = 5_000  # milliseconds
RETRY_INTERVAL = 5.0  # seconds


async def follow(brokers: Brokers, pool: asyncpg.Pool, client_id: str) -> None:
    """Write refusals down until cancelled, and start again whenever Kafka or Postgres is away."""
    while True:
        try:
            await _follow(brokers, pool, client_id)
        except (KafkaError, OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            log.warning("refusals.waiting", error=type(error).__name__)
        await asyncio.sleep(RETRY_INTERVAL)


async def _follow(brokers: Brokers, pool: asyncpg.Pool, client_id: str) -> None:
    consumer = AIOKafkaConsumer(
        REFUSALS.name,
        **address(brokers),
        client_id=f"{client_id}-refusals",
        group_id=GROUP,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
    )
    try:
        await consumer.start()
        while True:
            fetched = await consumer.getmany(timeout_ms=POLL_TIMEOUT, max_records=MAX_BATCH)
            records = [record for batch in fetched.values() for record in batch]
            if records:
                await write(pool, records)
                await consumer.commit()
    finally:
        with suppress(KafkaError):
            await consumer.stop()


async def write(pool: asyncpg.Pool, records: Sequence[ConsumerRecord]) -> None:
    """Write the records down together or, when Postgres refuses a value, one by one; what cannot be read is passed."""
    refusals = [refusal for record in records if (refusal := _decoded(record))]
    try:
        await store.add(pool, refusals)
    except (asyncpg.DataError, ValueError):
        for refusal in refusals:
            await _add_alone(pool, refusal)


async def _add_alone(pool: asyncpg.Pool, refusal: RefusedRequest) -> None:
    try:
        await store.add(pool, [refusal])
    except (asyncpg.DataError, ValueError) as error:
        metrics.REFUSALS_LOST.inc()
        log.warning("refusal.lost", id=str(refusal.outcome.change_id), error=type(error).__name__)


def _decoded(record: ConsumerRecord) -> RefusedRequest | None:
    """The refusal, None of what a newer release or nobody of ours has written."""
    try:
        return RefusedRequest.model_validate_json(record.value or b"")
    except ValidationError:
        metrics.REFUSALS_LOST.inc()
        log.warning("refusal.undecodable", partition=record.partition, offset=record.offset)
        return None
