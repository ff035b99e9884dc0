"""Records that could not be applied: listed, shown, tried again, given up."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest
from aiokafka import AIOKafkaConsumer, ConsumerRecord

from admin_api import quarantine
from admin_api.changes import Publisher
from admin_api.errors import Conflict, NotFound
from admin_api.store.database import Transaction, open_engine, transactions
from admin_stand import PEPPER, Cli
from contracts import CHANGES, Change, Operation, ResourceType
from directory.tables import Quarantined
from servicekit.ids import uuid7

ADMIN = "account:ada"
LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
async def transaction(settings) -> AsyncIterator[Transaction]:
    """Transactions of the service's own role."""
    async with open_engine(settings.admin_database_url.get_secret_value(), pool_size=2) as engine:
        yield transactions(engine)


@pytest.fixture
async def publisher(topics: str) -> AsyncIterator[Publisher]:
    publisher = Publisher(topics)
    yield publisher
    await publisher.close()


@pytest.fixture
async def log(topics: str) -> AsyncIterator[AIOKafkaConsumer]:
    """Reads what is published from now on."""
    consumer = AIOKafkaConsumer(CHANGES.name, bootstrap_servers=topics, auto_offset_reset="latest")
    await consumer.start()
    await consumer.seek_to_end()
    for partition in consumer.assignment():
        await consumer.position(partition)
    yield consumer
    await consumer.stop()


async def next_record(log: AIOKafkaConsumer) -> ConsumerRecord:
    return await asyncio.wait_for(log.getone(), 20)


def create(user_name: str = "ada", **members: Any) -> Change:
    values = {
        "id": uuid7(),
        "organization_id": uuid4(),
        "connection_id": uuid4(),
        "token_id": uuid4(),
        "actor": "token:okta",
        "resource_type": ResourceType.USER,
        "operation": Operation.CREATE,
        "resource_id": uuid7(),
        "resource": {"userName": user_name},
        "received_at": LONG_AGO,
        "deadline": LONG_AGO + timedelta(seconds=10),
        "reply_partition": 3,
    }
    return Change(**(values | members))


async def set_aside(db: asyncpg.Connection, content: Change | bytes, *, change_id: UUID | None = None) -> UUID:
    """A row as the provisioner writes it."""
    quarantine_id = uuid4()
    change = content if isinstance(content, Change) else None
    await db.execute(
        """
        INSERT INTO quarantine
            (id, topic, partition, record_offset, key, value, change_id, organization_id, error, created_at)
        VALUES ($1, 'scim.changes', 0, (SELECT count(*) FROM quarantine), $2, $3, $4, $5, 'a bug', now())
        """,
        quarantine_id,
        str(change.organization_id).encode() if change else b"key",
        change.model_dump_json().encode() if change else content,
        change_id or (change.id if change else None),
        change.organization_id if change else None,
    )
    return quarantine_id


async def row_of(db: asyncpg.Connection, quarantine_id: UUID) -> asyncpg.Record:
    row = await db.fetchrow("SELECT * FROM quarantine WHERE id = $1", quarantine_id)
    assert row
    return row


async def test_a_retried_change_is_published_as_a_new_one_of_now(db, transaction, publisher, log):
    broken = create()
    quarantine_id = await set_aside(db, broken)
    before = datetime.now(UTC)

    async with transaction() as session:
        change_id = await quarantine.retry(session, publisher, quarantine_id, ADMIN)

    record = await next_record(log)
    again = Change.model_validate_json(record.value or b"")
    assert again.id == change_id
    assert again.id.version == 7
    assert again.id != broken.id
    assert (again.resource, again.resource_id) == (broken.resource, broken.resource_id)
    assert (again.actor, again.token_id, again.reply_partition) == (ADMIN, None, None)
    assert before <= again.received_at < again.deadline
    assert record.key == str(broken.organization_id).encode()
    row = await row_of(db, quarantine_id)
    assert (row["resolution"], row["resolved_by"]) == ("retried", ADMIN)
    assert row["resolved_at"] >= before


async def test_what_cannot_be_read_is_published_as_it_was(db, transaction, publisher, log):
    quarantine_id = await set_aside(db, b"poison")

    async with transaction() as session:
        assert await quarantine.retry(session, publisher, quarantine_id, ADMIN) is None

    record = await next_record(log)
    assert (record.key, record.value) == (b"key", b"poison")


async def test_of_a_bulk_request_only_the_operation_that_failed_is_published_again(db, transaction, publisher, log):
    fine, broken = create("fine"), create("broken")
    bulk = create(resource_type=ResourceType.BULK, operation=Operation.BULK, resource=None, changes=[fine, broken])
    quarantine_id = await set_aside(db, bulk, change_id=broken.id)

    async with transaction() as session:
        await quarantine.retry(session, publisher, quarantine_id, ADMIN)

    again = Change.model_validate_json((await next_record(log)).value or b"")
    assert (again.resource, again.changes) == (broken.resource, None)


async def test_a_bulk_request_that_failed_whole_gets_new_ids_throughout(db):
    bulk = create(resource_type=ResourceType.BULK, operation=Operation.BULK, resource=None, changes=[create()])
    quarantine_id = await set_aside(db, bulk)

    again = quarantine.again(Quarantined(**await row_of(db, quarantine_id)), ADMIN)

    assert again
    assert again.changes
    assert bulk.changes
    assert again.changes[0].id != bulk.changes[0].id
    assert again.changes[0].resource_id == bulk.changes[0].resource_id


async def test_what_was_resolved_stays_so_and_what_is_not_there_is_not_found(db, transaction, publisher):
    quarantine_id = await set_aside(db, create())
    async with transaction() as session:
        await quarantine.discard(session, quarantine_id, ADMIN)

    with pytest.raises(Conflict, match="discarded before, by account:ada"):
        async with transaction() as session:
            await quarantine.discard(session, quarantine_id, ADMIN)
    with pytest.raises(Conflict):
        async with transaction() as session:
            await quarantine.retry(session, publisher, quarantine_id, ADMIN)
    with pytest.raises(NotFound):
        async with transaction() as session:
            await quarantine.discard(session, uuid4(), ADMIN)


async def test_an_organization_sees_and_touches_only_its_own(db, transaction, publisher):
    mine, theirs = create(), create()
    my_record, their_record = await set_aside(db, mine), await set_aside(db, theirs)
    nobodys = await set_aside(db, b"poison")

    async with transaction() as session:
        listed = await quarantine.list_quarantine(session, mine.organization_id)
        everything = await quarantine.list_quarantine(session, limit=1000)
    assert [row.id for row in listed] == [my_record]
    assert {my_record, their_record, nobodys} <= {row.id for row in everything}
    for foreign in (their_record, nobodys):
        with pytest.raises(NotFound):
            async with transaction() as session:
                await quarantine.show(session, foreign, mine.organization_id)
        with pytest.raises(NotFound):
            async with transaction() as session:
                await quarantine.retry(session, publisher, foreign, ADMIN, mine.organization_id)


async def test_a_resolution_is_in_the_audit_trail(db, transaction):
    change = create()
    quarantine_id = await set_aside(db, change)

    async with transaction() as session:
        await quarantine.discard(session, quarantine_id, ADMIN)

    event = await db.fetchrow("SELECT * FROM events WHERE subject_id = $1", quarantine_id)
    assert event
    assert (event["organization_id"], event["actor"]) == (change.organization_id, ADMIN)
    assert json.loads(event["data"]) == {"after": {"resolution": "discarded"}}


async def test_operators_list_show_retry_and_discard(db, postgres_module_database, topics):
    cli = Cli({"DATABASE_URL": postgres_module_database, "KAFKA_BOOTSTRAP": topics, "TOKEN_PEPPER": PEPPER})
    change = create("grace")
    first, second = await set_aside(db, change), await set_aside(db, b"\xffpoison")

    listed, _ = await cli.run("quarantine", "list")
    shown, _ = await cli.run("quarantine", "show", str(first))
    value, _ = await cli.run("quarantine", "show", str(second), "--value", "--json")
    retried, _ = await cli.run("quarantine", "retry", str(first))
    discarded, _ = await cli.run("quarantine", "discard", str(second))
    _, twice = await cli.run("quarantine", "retry", str(second), status=1)

    assert str(first) in listed
    assert str(second) in listed
    assert "a bug" in shown
    assert "grace" not in shown
    assert json.loads(value)["value"] == "\\xffpoison"
    assert "Published as change" in retried
    assert "is discarded" in discarded
    assert "was discarded before, by operator:" in twice
    assert {(await row_of(db, each))["resolution"] for each in (first, second)} == {"retried", "discarded"}
