"""Wiring of the provisioner: settings, clients, health endpoint, and the consumer in their midst."""

import asyncio
import os
import socket
from contextlib import AbstractAsyncContextManager, AsyncExitStack, suppress

import asyncpg
import structlog
from aiokafka import AIOKafkaConsumer
from pydantic import Field, SecretStr
from starlette.applications import Starlette

from contracts import CHANGES, DEAD_LETTERS, EVENTS, OUTCOMES
from provisioner import refusals
from provisioner.consumer import Consumer, NotJoined, OutsideLog
from provisioner.engine import Engine
from provisioner.events import EventFeed
from provisioner.records import NewerVersion
from provisioner.replies import Replies
from provisioner.store.claims import OtherCluster
from provisioner.watchdog import Stalled, Watchdog, observing
from servicekit import http, lifecycle, logs, metrics, tracing
from servicekit.health import Health
from servicekit.kafka import KafkaSettings, new_consumer, open_producer
from servicekit.postgres import check_revision, open_pool
from servicekit.settings import ServerSettings, load

log = structlog.get_logger()

GROUP = "provisioner"
# One plan for each statement, always through indexes: batches differ in size only, planning costs more than such a
# statement, and a plan made while a table was small must not turn into scans when it has grown.
PLANNED_ONCE = {
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
}
# Milliseconds. A group of 100,000 members is written in a few seconds; a batch that is cancelled is tried again, so one
# that can never finish in time would hold its partition up.
STATEMENT_TIMEOUT = 60_000
NEEDED_REVISION = "0004"
NEEDED_TOPICS = {topic.name for topic in (CHANGES, OUTCOMES, EVENTS, DEAD_LETTERS)}
LEAVE_TIMEOUT = 5.0  # seconds to leave the group; a consumer that has stalled may never come back from it


class TopicMissing(Exception):
    """The topics have not been made yet."""


class Settings(ServerSettings, KafkaSettings):
    """What the provisioner reads from the environment."""

    provisioner_database_url: SecretStr
    health_host: str = "127.0.0.1"
    health_port: int = Field(default=8082, ge=1, le=65535)


def main() -> None:
    """The console script."""
    logs.configure("provisioner")
    tracing.configure("provisioner")
    settings = load(Settings)
    lifecycle.run(lambda stopping: serve(settings, stopping))
    tracing.flush()


async def serve(settings: Settings, stopping: asyncio.Event) -> None:
    """Consume until `stopping`; answer the health probes as long as the process lives."""
    health = Health()
    http.check_port(settings.health_host, settings.health_port)
    app = Starlette(routes=health.routes())
    served = asyncio.Event()
    probes = asyncio.create_task(http.serve(app, settings.health_host, settings.health_port, served))
    try:
        async with metrics.served(settings.metrics_host, settings.metrics_port):
            await provision(settings, health, stopping)
    finally:
        served.set()
        await probes


async def provision(settings: Settings, health: Health, stopping: asyncio.Event) -> None:
    """The consumer with all it needs, from the first connection to the last commit."""
    async with AsyncExitStack() as stack:
        pool = await stack.enter_async_context(open_directory(settings))
        health.add("postgres", lambda: check_revision(pool, NEEDED_REVISION))
        health.add("consumer", unjoined)
        await lifecycle.wait_for(lambda: check_revision(pool, NEEDED_REVISION), "Postgres with the schema", stopping)
        client_id = f"provisioner-{owner()}"
        brokers = settings.kafka()
        kafka = new_consumer(brokers, client_id=client_id, group_id=GROUP)
        stack.push_async_callback(leave, kafka)
        await lifecycle.wait_for(kafka.start, "Kafka", stopping)
        # Who joins before the topic exists is given no partitions, is ready, and looks again only after a minute.
        health.add("consumer", lambda: check_topics(kafka))
        await lifecycle.wait_for(lambda: check_topics(kafka), "the topics", stopping)
        health.add("consumer", unjoined)
        observer = await stack.enter_async_context(observing(brokers, GROUP))
        cluster_id = await observer.cluster_id()
        producer = await stack.enter_async_context(open_producer(brokers, client_id="provisioner"))
        events = EventFeed(pool, producer)
        engine = Engine(pool, Replies(producer).publish, stopping, events.hand_over)
        consumer = Consumer(kafka, engine, stopping, owner(), cluster_id, events)
        health.add("consumer", consumer.check_joined)
        watchdog = Watchdog(observer, client_id, consumer.progress, lambda: is_away(pool))
        health.add_live("progress", watchdog.check)
        refused = asyncio.create_task(refusals.follow(brokers, pool, client_id))
        stack.push_async_callback(cancel, refused)
        try:
            await consumer.run(CHANGES.name, watchdog.run)
        except (OutsideLog, OtherCluster, NewerVersion, Stalled) as error:
            raise lifecycle.StartupError(f"{type(error).__name__}: {error}") from error
    log.info("service.stopped")


def open_directory(settings: Settings) -> AbstractAsyncContextManager[asyncpg.Pool]:
    """A connection for every partition, one for the probes, two for events that are read again, one for refusals."""
    return open_pool(
        settings.provisioner_database_url.get_secret_value(),
        service="provisioner",
        max_size=CHANGES.partitions + 4,
        statement_timeout=STATEMENT_TIMEOUT,
        resets=False,  # a batch leaves nothing in its session
        settings=PLANNED_ONCE,
    )


async def is_away(pool: asyncpg.Pool) -> bool:
    """Whether Postgres does not answer as it should."""
    try:
        async with asyncio.timeout(2):
            await check_revision(pool, NEEDED_REVISION)
    except Exception:  # whatever it is, it is the reason why nothing moves
        return True
    return False


async def leave(kafka: AIOKafkaConsumer) -> None:
    """Leave the group, or let the group find out."""
    with suppress(TimeoutError):
        async with asyncio.timeout(LEAVE_TIMEOUT):
            await kafka.stop()


async def check_topics(kafka: AIOKafkaConsumer) -> None:
    """Raise TopicMissing until everything that is read and written exists."""
    if missing := NEEDED_TOPICS - await kafka.topics():
        raise TopicMissing(", ".join(sorted(missing)))


async def cancel(task: asyncio.Task[None]) -> None:
    """End what is beside the work, or leave it to the process's end."""
    task.cancel()
    await asyncio.wait({task}, timeout=LEAVE_TIMEOUT)


async def unjoined() -> None:
    """The readiness of a consumer that is not there yet."""
    raise NotJoined


def owner() -> str:
    """Who claims: host and process, for the operator's eyes."""
    return f"{socket.gethostname()}:{os.getpid()}"
