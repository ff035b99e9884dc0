"""Outcomes by day: partitions are made ahead and dropped in time, and no row is lost or misplaced meanwhile."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import asyncpg
import pytest

import directory
from directory import Role

TODAY = datetime(2026, 11, 24, 15, tzinfo=UTC)
DAY = timedelta(days=1)
PASSWORD = "outcomes"
ADD = """
    INSERT INTO outcomes (change_id, organization_id, actor, resource_type, operation, resource_id, status, reply,
                          received_at, applied_at)
    VALUES ($1, $1, 'test', 'User', 'create', $1, 201, '', now(), now()) RETURNING tableoid::regclass::text
"""


def change_id_at(at: datetime) -> UUID:
    """A UUIDv7 of that time."""
    milliseconds = int(at.timestamp() * 1000)
    return UUID(int=(milliseconds << 80) | (0x7 << 76) | (0x2 << 62) | (uuid4().int & (1 << 62) - 1))


@pytest.fixture
async def owner(postgres_database: str) -> AsyncIterator[asyncpg.Connection]:
    db = await asyncpg.connect(postgres_database)
    yield db
    await db.close()


@pytest.fixture
async def admin(postgres_database: str) -> AsyncIterator[asyncpg.Connection]:
    """The role that is neither owner nor may write outcomes."""
    await directory.set_role_passwords(postgres_database, {Role.ADMIN: PASSWORD})
    parts = urlsplit(postgres_database)
    address = f"{Role.ADMIN}:{PASSWORD}@{parts.hostname}:{parts.port}"
    db = await asyncpg.connect(parts._replace(netloc=address).geturl())
    yield db
    await db.close()


async def keep(db: asyncpg.Connection, at: datetime, days: int = 8) -> tuple[int, int]:
    """How many partitions were made and dropped."""
    row = await db.fetchrow("SELECT * FROM keep_outcomes($1, $2)", days, at)
    assert row
    return row["created"], row["dropped"]


async def add(db: asyncpg.Connection, at: datetime) -> object:
    """The partition that a change of that time went to."""
    return await db.fetchval(ADD, change_id_at(at))


async def count(db: asyncpg.Connection) -> object:
    return await db.fetchval("SELECT count(*) FROM outcomes")


async def test_days_are_made_ahead_once_and_take_the_rows_of_their_changes(owner, admin):
    assert await keep(admin, TODAY) == (3, 0)
    assert await keep(admin, TODAY) == (0, 0)
    assert await keep(admin, TODAY + DAY) == (1, 0)

    midnight = datetime(2026, 11, 25, tzinfo=UTC)
    assert await add(owner, midnight - timedelta(milliseconds=1)) == "outcomes_default"
    assert await add(owner, midnight) == "outcomes_20261125"
    assert await add(owner, midnight + DAY - timedelta(milliseconds=1)) == "outcomes_20261125"
    assert await add(owner, midnight + 3 * DAY) == "outcomes_20261128"


async def test_a_day_goes_when_all_of_it_is_older_than_what_is_kept(owner, admin):
    await keep(admin, TODAY)
    for day in range(4):
        await add(owner, TODAY + day * DAY)

    assert await keep(admin, TODAY + 9 * DAY) == (3, 0)
    assert await count(owner) == 3  # the first day's row was in the default partition
    assert await keep(admin, TODAY + 10 * DAY) == (1, 1)
    assert await count(owner) == 2
    assert await keep(admin, TODAY + 12 * DAY) == (2, 2)
    assert await count(owner) == 0


async def test_rows_of_a_clock_that_is_ahead_stay_where_they_are_and_are_found(owner, admin):
    ahead = change_id_at(TODAY + DAY)
    await owner.execute(ADD, ahead)

    assert await keep(admin, TODAY) == (2, 0)

    assert await add(owner, TODAY + DAY) == "outcomes_default"
    assert await add(owner, TODAY + 2 * DAY) == "outcomes_20261126"
    assert await owner.fetchval("SELECT count(*) FROM outcomes WHERE change_id = $1", ahead) == 1


async def test_an_outcome_is_unique_in_every_partition(owner, admin):
    await keep(admin, TODAY)
    change_id = change_id_at(TODAY + DAY)
    await owner.execute(ADD, change_id)

    with pytest.raises(asyncpg.UniqueViolationError):
        await owner.execute(ADD, change_id)


async def test_what_a_replay_of_the_log_may_need_is_never_dropped(admin):
    with pytest.raises(asyncpg.InvalidParameterValueError, match="8 days"):
        await keep(admin, TODAY, days=7)


async def test_processes_take_turns(postgres_database, admin):
    other = await asyncpg.connect(postgres_database)
    async with other.transaction():
        await keep(other, TODAY)

        assert await keep(admin, TODAY) == (0, 0)
    await other.close()


async def test_a_long_reader_is_not_waited_for(owner, admin):
    """Attaching waits for whoever reads the default partition; it gives up, and the next sweep tries again."""
    async with owner.transaction():
        await owner.execute("LOCK TABLE outcomes_default IN ACCESS SHARE MODE")

        with pytest.raises(asyncpg.LockNotAvailableError):
            await asyncio.wait_for(keep(admin, TODAY), 10)
    assert await keep(admin, TODAY) == (3, 0)


@pytest.mark.parametrize("role", [Role.GATEWAY, Role.PROVISIONER])
async def test_nobody_else_may_drop_outcomes(owner, role):
    may = "SELECT has_function_privilege($1, 'keep_outcomes(integer, timestamptz)', 'EXECUTE')"
    assert await owner.fetchval(may, role) is False
    assert await owner.fetchval(may, Role.ADMIN) is True
