"""`directory.events`: what committed, in order, at least once, with the same ids each time."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import pytest_asyncio
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import TopicAlreadyExistsError

from contracts import EVENTS, Event, EventType
from contracts.events import EventRow, SubjectType
from provisioner.chain import ChainedEvent
from provisioner.engine import ClaimLost, Engine
from provisioner.events import EventFeed, to_event
from provisioner.results import Results
from servicekit.kafka import open_producer


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def producer(kafka_bootstrap: str) -> AsyncIterator[AIOKafkaProducer]:
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka_bootstrap)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(EVENTS.name, EVENTS.partitions, 1)])
    except TopicAlreadyExistsError:
        pass
    finally:
        await admin.close()
    async with open_producer(kafka_bootstrap, client_id="test") as producer:
        yield producer


@pytest_asyncio.fixture(loop_scope="session")
async def published(kafka_bootstrap: str, producer: AIOKafkaProducer, world) -> AsyncIterator["Published"]:
    consumer = AIOKafkaConsumer(EVENTS.name, bootstrap_servers=kafka_bootstrap, auto_offset_reset="earliest")
    await consumer.start()
    yield Published(consumer, world.organization_id)
    await consumer.stop()


class Published:
    """Reads the events of one organization; those of one subject come in their order."""

    def __init__(self, consumer: AIOKafkaConsumer, organization_id: UUID) -> None:
        self._consumer = consumer
        self._organization_id = organization_id
        self.keys: list[bytes | None] = []

    async def next(self, count: int) -> list[Event]:
        found: list[Event] = []
        async with asyncio.timeout(20):
            while len(found) < count:
                record = await self._consumer.getone()
                event = Event.model_validate_json(record.value or b"")
                if event.organizationid == self._organization_id:
                    found.append(event)
                    self.keys.append(record.key)
        return found


@asynccontextmanager
async def feeding(world, producer: AIOKafkaProducer) -> AsyncIterator[EventFeed]:
    """An open feed for the world's partition, and an engine that hands over to it."""
    feed = EventFeed(world.pool, producer)
    feed.open(world.claim.partition)
    quiet = world.engine
    world.engine = Engine(world.pool, ignore, asyncio.Event(), feed.hand_over)
    try:
        yield feed
    finally:
        world.engine = quiet
        await feed.close([world.claim.partition])


async def ignore(results: Results) -> None:
    """Nobody waits for replies here."""


FOLLOW = Path(__file__).parents[3] / "docs" / "examples" / "follow_events.py"


async def test_the_example_in_the_documentation_follows_and_drops_repetitions(world, producer, kafka_bootstrap):
    create = world.create("ada@example.com")
    async with feeding(world, producer):
        await world.apply(create, world.patch(create.resource_id, {"op": "replace", "path": "active", "value": False}))
    await world.owner.execute("UPDATE partition_offsets SET published_event = 0")
    async with feeding(world, producer):
        await world.apply(world.delete(create.resource_id))
    (account_id,) = {str(row["subject_id"]) for row in await rows(world)}
    follower = await asyncio.create_subprocess_exec(
        *(sys.executable, str(FOLLOW), kafka_bootstrap, f"test-{account_id}"), stdout=asyncio.subprocess.PIPE
    )
    assert follower.stdout
    told: list[str] = []
    async with asyncio.timeout(30):
        while not told or told[-1] != "delete":
            words = (await follower.stdout.readline()).decode().split()
            if words[2] == account_id:
                told.append(words[3])
    follower.kill()
    await follower.wait()

    assert told == ["create:full", "deactivate", "delete"]


async def rows(world) -> list[dict[str, Any]]:
    return await world.rows("events ORDER BY seq")


async def test_events_of_a_subject_come_in_order_as_they_were_committed(world, producer, published):
    create = world.create("ada@example.com")
    user_id = create.resource_id
    async with feeding(world, producer):
        await world.apply(create, world.patch(user_id, {"op": "add", "path": "title", "value": "Dr"}))
        await world.apply(world.patch(user_id, {"op": "replace", "path": "active", "value": False}))
        await world.apply(world.delete(user_id))
        events = await published.next(4)

    assert [event.type for event in events] == [
        EventType.CREATED,
        EventType.PATCHED,
        EventType.DEACTIVATED,
        EventType.DELETED,
    ]
    stored = await rows(world)
    assert [event.id for event in events] == [row["id"] for row in stored]
    assert [int(event.sequence) for event in events] == [row["seq"] for row in stored]
    assert {event.data.txn for event in events} == {row["change_id"] for row in stored}
    assert published.keys == [str(stored[0]["subject_id"]).encode()] * 4
    assert {event.data.sub_id.uri for event in events} == {f"/Users/{user_id}"}


async def test_what_the_owner_before_left_is_published_after_the_claim(world, producer, published):
    await world.apply(world.create("ada@example.com"), world.create("bob@example.com"))

    async with feeding(world, producer):
        events = await published.next(2)

    assert {event.id for event in events} == {row["id"] for row in await rows(world)}


async def test_a_commit_whose_answer_was_lost_is_not_left_out(world, producer, published):
    """Its events were handed over by nobody; the next batch's number tells."""
    create = world.create("ada@example.com")
    async with feeding(world, producer):
        await world.apply(create)
        await published.next(1)
        world.engine, engine = Engine(world.pool, ignore, asyncio.Event()), world.engine
        await world.apply(world.patch(create.resource_id, {"op": "add", "path": "title", "value": "Dr"}))
        world.engine = engine
        await world.apply(world.delete(create.resource_id))
        events = await published.next(2)

    assert [event.type for event in events] == [EventType.PATCHED, EventType.DELETED]


async def test_what_is_marked_is_not_published_again_and_what_is_not_has_the_same_ids(world, producer, published):
    async with feeding(world, producer):
        await world.apply(world.create("ada@example.com"))
        first = await published.next(1)
    (offset,) = await world.rows("partition_offsets")
    assert offset["published_event"] == 1

    async with feeding(world, producer):
        await world.apply(world.create("bob@example.com"))
        second = await published.next(1)
    await world.owner.execute("UPDATE partition_offsets SET published_event = 0")
    async with feeding(world, producer):
        again = await published.next(2)

    assert {event.id for event in again} == {first[0].id, second[0].id}
    assert first[0].id != second[0].id


async def test_what_did_not_commit_is_never_published(world, producer, published):
    async with feeding(world, producer):
        stale = world.claim
        world.claim = await world.engine.claim(stale.topic, stale.partition, 0, "another")
        with pytest.raises(ClaimLost):
            await world.engine.apply(stale, world.records([world.create("zombie@example.com")]))
        await world.apply(world.create("ada@example.com"), world.create("ada@example.com"))
        await world.apply(world.create("bob@example.com"))
        events = await published.next(2)

    names = [event.data.events[event.type]["data"]["userName"] for event in events]
    assert sorted(names) == ["ada@example.com", "bob@example.com"]


ROW = {
    "id": UUID(int=1),
    "organization_id": UUID(int=2),
    "connection_id": UUID(int=3),
    "token_id": None,
    "actor": "token:okta",
    "change_id": UUID(int=4),
    "subject_type": SubjectType.ACCOUNT.value,
    "subject_id": UUID(int=5),
    "at": datetime(2026, 11, 24, tzinfo=UTC),
}
ROLE = {"roleId": "r", "groupId": "g"}
PATCH_OP = "urn:ietf:params:scim:api:messages:2.0:PatchOp"


@pytest.mark.parametrize(
    ("kind", "data", "expected_type", "expected"),
    [
        (EventType.CREATED, {"after": {"userName": "a"}}, EventType.CREATED, {"data": {"userName": "a"}}),
        (
            EventType.REPLACED,
            {"before": {"title": "Dr", "nickName": "x"}, "after": {"title": "Prof"}},
            EventType.PATCHED,
            {
                "data": {
                    "schemas": [PATCH_OP],
                    "Operations": [
                        {"op": "remove", "path": "nickName"},
                        {"op": "replace", "path": "title", "value": "Prof"},
                    ],
                }
            },
        ),
        (
            EventType.PATCHED,
            {"joined": ["m1"], "joinedCount": 1, "left": ["m2"], "leftCount": 5000},
            EventType.PATCHED,
            {
                "joinedCount": 1,
                "leftCount": 5000,
                "data": {
                    "schemas": [PATCH_OP],
                    "Operations": [
                        {"op": "remove", "path": 'members[value eq "m2"]'},
                        {"op": "add", "path": "members", "value": [{"value": "m1"}]},
                    ],
                },
            },
        ),
        (EventType.DEACTIVATED, {"userId": "u"}, EventType.DEACTIVATED, {}),
        (EventType.DELETED, {"before": {"userName": "a"}}, EventType.DELETED, {}),
        (
            EventType.ROLES_CHANGED,
            {"gained": [{"roleId": "r"}]},
            EventType.ROLES_CHANGED,
            {"gained": [{"roleId": "r"}]},
        ),
        (EventType.CREATED, None, EventType.CREATED, {"data": {}}),
    ],
    ids=["created", "replaced", "members", "deactivated", "deleted", "roles", "erased"],
)
def test_the_payload_is_what_the_rfc_has_for_the_type(kind, data, expected_type, expected):
    event = to_event(ChainedEvent(7, EventRow(type=kind.value, data=data, **ROW), b"", b""))

    assert event.type == expected_type
    assert event.data.events == {expected_type: expected}


def test_an_account_without_a_scim_user_is_an_opaque_subject():
    event = to_event(ChainedEvent(7, EventRow(type=EventType.LINKED.value, data={}, **ROW), b"", b""))

    assert json.loads(event.data.sub_id.model_dump_json(exclude_none=True)) == {
        "format": "opaque",
        "id": str(ROW["subject_id"]),
    }


def test_sequences_compare_as_text():
    numbers = (9, 10, 2**62)

    def sequence(number: int) -> str:
        return to_event(ChainedEvent(number, EventRow(type=EventType.DELETED.value, data={}, **ROW), b"", b"")).sequence

    assert sorted(map(sequence, numbers)) == list(map(sequence, numbers))
