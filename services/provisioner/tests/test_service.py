"""The whole provisioner on a real broker: from `scim.changes` to Postgres and `scim.outcomes`."""

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
import pytest_asyncio
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import TopicAlreadyExistsError
from pydantic import SecretStr

from contracts import CHANGE_ID_HEADER, CHANGES, DEAD_LETTERS, OUTCOMES, TOPICS, Change
from devstack.kafka import Kafka
from devstack.ports import free_port
from provisioner import queue, service, watchdog
from provisioner.service import GROUP, Settings, serve
from servicekit.kafka import new_consumer, open_producer, partition_of
from servicekit.lifecycle import StartupError


async def until(look: Callable[[], Any], seconds: float = 60) -> Any:
    """What `look` answers once it is true; a coroutine function may look too."""
    async with asyncio.timeout(seconds):
        while True:
            found = look()
            if asyncio.iscoroutine(found):
                found = await found
            if found:
                return found
            await asyncio.sleep(0.02)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def own_broker(devstack_folder: Path) -> AsyncIterator[str]:
    """A broker for this module alone: a provisioner reads whatever anybody has ever published."""
    async with Kafka(devstack_folder / "provisioner-kafka") as broker:
        yield broker.bootstrap


@pytest_asyncio.fixture(loop_scope="session")
async def topics(own_broker: str) -> AsyncIterator[str]:
    """The bootstrap address of a broker that has our topics, empty."""
    async with created_topics(own_broker):
        yield own_broker


@asynccontextmanager
async def created_topics(own_broker: str) -> AsyncIterator[None]:
    admin = AIOKafkaAdminClient(bootstrap_servers=own_broker)
    await admin.start()
    try:
        for _ in range(100):
            try:
                await admin.create_topics(
                    [NewTopic(topic.name, topic.partitions, 1, topic_configs=topic.settings()) for topic in TOPICS]
                )
                break
            except TopicAlreadyExistsError:
                await admin.delete_topics([topic.name for topic in TOPICS])
        yield
    finally:
        await admin.delete_topics([topic.name for topic in TOPICS])
        await admin.close()


def settings_of(world, bootstrap: str) -> Settings:
    dsn = SecretStr(world.role_dsn)
    return Settings(provisioner_database_url=dsn, kafka_bootstrap=bootstrap, health_port=free_port())


@asynccontextmanager
async def provisioner(world, bootstrap: str, *, ends: bool = False) -> AsyncIterator[Settings]:
    """The service, in this process, ready; after the block it is stopped, or `ends` by itself."""
    settings = settings_of(world, bootstrap)
    stopping = asyncio.Event()
    task = asyncio.create_task(serve(settings, stopping))
    try:
        await until(lambda: task.done() or asyncio.to_thread(is_ready, settings))
        if task.done():
            task.result()
        yield settings
        if ends:
            await asyncio.wait_for(asyncio.shield(task), 30)
    finally:
        stopping.set()
        await task


def is_ready(settings: Settings) -> bool:
    return readiness(settings)["status"] == "ok"


def waits_for_topics(settings: Settings) -> bool:
    return readiness(settings)["checks"].get("consumer") == "TopicMissing"


def readiness(settings: Settings) -> dict[str, Any]:
    """What the probe is told."""
    try:
        with urlopen(f"http://127.0.0.1:{settings.health_port}/health/ready", timeout=2) as answer:
            return json.load(answer)
    except HTTPError as error:
        return json.load(error)
    except OSError:
        return {"status": "no answer", "checks": {}}


async def publish(producer: AIOKafkaProducer, *changes: Change) -> None:
    sent = [
        await producer.send(CHANGES.name, change.model_dump_json().encode(), key=str(change.organization_id).encode())
        for change in changes
    ]
    await asyncio.gather(*sent)


async def test_changes_become_users_and_outcomes_reach_the_partition_that_waits(world, topics):
    create = world.create("ada", reply_partition=3)
    listener = AIOKafkaConsumer(bootstrap_servers=topics)
    await listener.start()
    try:
        listener.assign([TopicPartition(OUTCOMES.name, 3)])
        await listener.seek_to_beginning()
        async with provisioner(world, topics), open_producer(topics, client_id="test") as producer:
            await publish(producer, create)
            record = await asyncio.wait_for(listener.getone(), 20)
    finally:
        await listener.stop()

    assert dict(record.headers)[CHANGE_ID_HEADER] == str(create.id).encode()
    outcome = json.loads(record.value or b"")
    assert (outcome["status"], outcome["resource_id"]) == (201, str(create.resource_id))
    assert [row["user_name"] for row in await world.rows("users")] == ["ada"]


async def test_before_its_topics_exist_it_is_not_ready_and_soon_after_it_works(world, own_broker):
    create, settings, stopping = world.create("early"), settings_of(world, own_broker), asyncio.Event()
    task = asyncio.create_task(serve(settings, stopping))
    try:
        await until(lambda: asyncio.to_thread(waits_for_topics, settings))
        async with created_topics(own_broker), open_producer(own_broker, client_id="test") as producer:
            await until(lambda: asyncio.to_thread(is_ready, settings))
            await publish(producer, create)
            await until(lambda: world.outcome(create.id), 8)
            stopping.set()
            await task
    finally:
        stopping.set()
        await task


async def test_a_successor_goes_on_where_postgres_says_and_applies_nothing_twice(world, topics):
    first, second = world.create("first"), world.create("second")
    async with open_producer(topics, client_id="test") as producer:
        async with provisioner(world, topics):
            await publish(producer, first)
            await until(lambda: world.outcome(first.id))
        await publish(producer, second)
        async with provisioner(world, topics):
            await until(lambda: world.outcome(second.id))

    assert sorted(row["user_name"] for row in await world.rows("users")) == ["first", "second"]
    offsets = {row["partition"]: row for row in await world.rows("partition_offsets") if row["owner"] != "test"}
    partition = partition_of(str(world.organization_id).encode(), CHANGES.partitions)
    assert offsets[partition]["next_offset"] == 2
    assert offsets[partition]["epoch"] >= 2
    assert offsets[partition]["cluster_id"]


async def test_the_groups_offsets_are_a_mirror_written_when_stopping(world, topics):
    create = world.create("ada")
    async with provisioner(world, topics), open_producer(topics, client_id="test") as producer:
        await publish(producer, create)
        await until(lambda: world.outcome(create.id))

    partition = partition_of(str(world.organization_id).encode(), CHANGES.partitions)
    observer = AIOKafkaConsumer(bootstrap_servers=topics, group_id=GROUP, enable_auto_commit=False)
    await observer.start()
    try:
        assert await observer.committed(TopicPartition(CHANGES.name, partition)) == 1
    finally:
        await observer.stop()


async def test_a_poison_record_goes_to_the_dead_letters_and_the_partition_goes_on(world, topics):
    create = world.create("after")
    listener = AIOKafkaConsumer(DEAD_LETTERS.name, bootstrap_servers=topics, auto_offset_reset="earliest")
    await listener.start()
    try:
        async with provisioner(world, topics), open_producer(topics, client_id="test") as producer:
            key = str(world.organization_id).encode()
            await producer.send_and_wait(CHANGES.name, b"poison", key=key)
            await publish(producer, create)
            await until(lambda: world.outcome(create.id))
            record = await asyncio.wait_for(listener.getone(), 20)
    finally:
        await listener.stop()

    assert record.value == b"poison"
    assert dict(record.headers)["error"] == b"not JSON"


async def test_an_offset_outside_the_log_stops_with_a_clear_reason(world, topics):
    await world.owner.execute(
        "INSERT INTO partition_offsets (topic, partition, next_offset, epoch, owner) VALUES ($1, 5, 99, 1, 'before')",
        CHANGES.name,
    )

    with pytest.raises(StartupError, match="99"):
        await asyncio.wait_for(serve(settings_of(world, topics), asyncio.Event()), 20)


async def test_offsets_of_another_cluster_stop_with_a_clear_reason(world, topics):
    await world.owner.execute(
        "INSERT INTO partition_offsets (topic, partition, next_offset, epoch, owner, cluster_id)"
        " VALUES ($1, 5, 0, 1, 'before', 'elsewhere')",
        CHANGES.name,
    )

    with pytest.raises(StartupError, match=r"OtherCluster: scim.changes/5 .* elsewhere"):
        await asyncio.wait_for(serve(settings_of(world, topics), asyncio.Event()), 20)


async def test_a_consumer_that_stalls_without_a_word_ends_the_process(world, topics, monkeypatch):
    """The stall is made: aiokafka's task that fetches goes, and nothing tells."""
    clients = []

    def new_consumer_in_view(*arguments, **options):
        clients.append(new_consumer(*arguments, **options))
        return clients[-1]

    monkeypatch.setattr(service, "new_consumer", new_consumer_in_view)
    monkeypatch.setattr(watchdog, "INTERVAL", 0.2)
    first, second = world.create("first"), world.create("second")
    async with open_producer(topics, client_id="test") as producer:

        async def stall() -> None:
            async with provisioner(world, topics, ends=True):
                await publish(producer, first)
                await until(lambda: world.outcome(first.id))
                fetcher = clients[0]._fetcher
                fetcher._fetch_task.cancel()
                await until(lambda: all(task.done() for task in fetcher._pending_tasks))
                monkeypatch.setattr(watchdog, "PATIENCE", 2.0)
                await publish(producer, second)

        with pytest.raises(StartupError, match=r"Stalled: .* is applied up to offset 1, the log ends at 2"):
            await stall()
        monkeypatch.setattr(watchdog, "PATIENCE", 30.0)
        async with provisioner(world, topics):
            await until(lambda: world.outcome(second.id))


LONG = bool(os.environ.get("LONG"))
DELAY = 30.0  # seconds that a poison record may take (P11)
# Aborts the interpreter, as a bug in a C library would, in the middle of a change.
ABORTING = """
import os, resource, sys
from provisioner import batch, rules, service

resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
decide = rules.decide

def decide_or_abort(directory, change, *arguments):
    if change.resource and change.resource["userName"] == "abort":
        os.abort()
    return decide(directory, change, *arguments)

rules.decide = decide_or_abort
service.GROUP = sys.argv[1]
service.main()
"""


async def test_p11_a_record_that_aborts_the_process_is_set_aside_and_the_rest_goes_on(world, topics, tmp_path):
    """Restarted at once each time, as a supervisor does.

    With LONG=1 the processes are of one group, so each waits until the session of the dead one has run out.
    """
    (tmp_path / "aborting.py").write_text(ABORTING)
    await world.owner.execute("DELETE FROM partition_offsets")  # the world's own claim would count as a process's
    poison, after = world.create("abort"), world.create("after")
    async with open_producer(topics, client_id="test") as producer:
        await publish(producer, poison, after)
    began = time.monotonic()
    deaths = 0
    process = None
    while not await world.outcome(after.id):
        if process is None or process.returncode is not None:
            deaths += process is not None
            process = await start_aborting(world, topics, tmp_path, "provisioner" if LONG else f"provisioner-{deaths}")
        assert time.monotonic() - began < 90
        await asyncio.sleep(0.05)
    took = time.monotonic() - began
    assert process
    process.terminate()
    await process.wait()

    assert deaths == 3
    assert not LONG or took < DELAY
    (row,) = await world.rows("quarantine")
    assert (row["error"], row["change_id"]) == ("ended the process", poison.id)
    assert row["value"] == poison.model_dump_json().encode()
    assert await status_of(world, poison) == 500
    assert [row["user_name"] for row in await world.rows("users")] == ["after"]
    listener = AIOKafkaConsumer(DEAD_LETTERS.name, bootstrap_servers=topics, auto_offset_reset="earliest")
    await listener.start()
    record = await asyncio.wait_for(listener.getone(), 20)
    await listener.stop()
    assert record.value == row["value"]


async def status_of(world, change: Change) -> int | None:
    outcome = await world.outcome(change.id)
    return outcome.status if outcome else None


async def start_aborting(world, bootstrap: str, folder: Path, group: str) -> asyncio.subprocess.Process:
    environment = os.environ | {
        "PROVISIONER_DATABASE_URL": world.role_dsn,
        "KAFKA_BOOTSTRAP": bootstrap,
        "HEALTH_PORT": str(free_port()),
    }
    with (folder / "log").open("ab") as log:
        return await asyncio.create_subprocess_exec(
            sys.executable, str(folder / "aborting.py"), group, env=environment, stdout=log, stderr=log
        )


async def test_two_provisioners_share_the_partitions_and_lose_nothing_when_one_leaves(world, topics):
    changes = [world.create(f"user{number}") for number in range(300)]
    async with open_producer(topics, client_id="test") as producer, provisioner(world, topics):
        async with provisioner(world, topics):
            await publish(producer, *changes[:100])
        await publish(producer, *changes[100:200])
        async with provisioner(world, topics):
            await publish(producer, *changes[200:])
            await until(lambda: all_applied(world, changes))

    assert len(await world.rows("users")) == 300
    assert len(await world.rows("outcomes")) == 300


async def all_applied(world, changes) -> bool:
    return await world.owner.fetchval("SELECT count(*) FROM outcomes") == len(changes)


async def test_a_long_queue_pauses_its_partition_and_is_worked_off(world, topics, monkeypatch):
    monkeypatch.setattr(queue.RecordQueue, "is_full", property(lambda self: len(self._records) > 5))
    changes = [world.create(f"user{number}") for number in range(400)]
    async with open_producer(topics, client_id="test") as producer, provisioner(world, topics):
        await publish(producer, *changes)
        await until(lambda: all_applied(world, changes))

    assert len(await world.rows("users")) == 400
