"""What others do to the servers: an operator's lock, records that are in the log twice, garbage among the outcomes.

A server that is away because of another fault is left alone: each of these then does nothing.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import asyncpg
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError

from chaos.stack import Stack
from contracts import CHANGE_ID_HEADER, CHANGES, OUTCOMES

PATIENCE = 5.0  # seconds for a server to take it
AGAIN = 20  # records of each partition


async def table_locked(stack: Stack) -> AsyncIterator[None]:
    """A session that holds what every write needs."""
    sessions: list[asyncpg.Connection] = []
    with suppress(OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
        async with asyncio.timeout(PATIENCE):
            sessions.append(await asyncpg.connect(stack.postgres.dsn))
            await sessions[0].execute("BEGIN")
            await sessions[0].execute("LOCK TABLE users IN ACCESS EXCLUSIVE MODE")
    try:
        yield
    finally:
        for session in sessions:
            session.terminate()


async def records_again(stack: Stack) -> AsyncIterator[None]:
    """The last changes once more at the end of their partitions, as a producer without idempotence would send them."""
    with suppress(KafkaError, OSError, TimeoutError):
        async with asyncio.timeout(PATIENCE), producer_to(stack) as producer:
            consumer = AIOKafkaConsumer(bootstrap_servers=stack.kafka.bootstrap, enable_auto_commit=False)
            await consumer.start()
            try:
                partitions = [TopicPartition(CHANGES.name, number) for number in range(CHANGES.partitions)]
                consumer.assign(partitions)
                for partition, end in (await consumer.end_offsets(partitions)).items():
                    consumer.seek(partition, max(0, end - AGAIN))
                for records in (await consumer.getmany(timeout_ms=1000)).values():
                    for record in records:
                        await producer.send_and_wait(
                            CHANGES.name,
                            record.value,
                            record.key,
                            partition=record.partition,
                            headers=list(record.headers),
                        )
            finally:
                await consumer.stop()
    yield


async def garbage_among_outcomes(stack: Stack) -> AsyncIterator[None]:
    """Records that no gateway can read, on every partition that gateways listen to."""
    headers = [(CHANGE_ID_HEADER, b"nonsense")]
    with suppress(KafkaError, OSError, TimeoutError):
        async with asyncio.timeout(PATIENCE), producer_to(stack) as producer:
            for partition in range(OUTCOMES.partitions):
                await producer.send_and_wait(OUTCOMES.name, b"\x00{", partition=partition, headers=headers)
                await producer.send_and_wait(OUTCOMES.name, None, b"garbage", partition=partition)
    yield


@asynccontextmanager
async def producer_to(stack: Stack) -> AsyncIterator[AIOKafkaProducer]:
    producer = AIOKafkaProducer(bootstrap_servers=stack.kafka.bootstrap)
    await producer.start()
    try:
        yield producer
    finally:
        await producer.stop()
