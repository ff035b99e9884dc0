"""The numbers about the directory that the metrics show."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest
from sqlalchemy.ext.asyncio import AsyncSession

import directory
from admin_api import metrics
from admin_api.store.state import count_state

NOW = datetime.now(UTC)
MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)


@pytest.fixture
async def db(postgres_database: str) -> AsyncIterator[asyncpg.Connection]:
    db = await asyncpg.connect(postgres_database)
    await db.execute(
        "INSERT INTO organizations (id, name, plan) VALUES ($1, 'an organization', 'enterprise')", UUID(int=1)
    )
    yield db
    await db.close()


async def connect(db: asyncpg.Connection, *tokens: timedelta | None, **stats: timedelta) -> UUID:
    """A connection a week old with tokens that expire in a while or never; `stats` are ages."""
    connection_id = uuid4()
    await db.execute(
        "INSERT INTO connections (id, organization_id, provider_id, link_existing_accounts, created_at) "
        "VALUES ($1, $2, $3, false, $4)",
        *(connection_id, UUID(int=1), str(connection_id), NOW - 7 * DAY),
    )
    for expires_in in tokens:
        await db.execute(
            "INSERT INTO tokens (id, connection_id, digest, hint, created_at, expires_at) "
            "VALUES ($1, $2, $3, '', $4, $5)",
            *(uuid4(), connection_id, uuid4().bytes, NOW - 7 * DAY, NOW + expires_in if expires_in else None),
        )
    await db.execute("INSERT INTO connection_stats (connection_id) VALUES ($1)", connection_id)
    for column, age in stats.items():
        await db.execute(
            f"UPDATE connection_stats SET {column} = $2 WHERE connection_id = $1", connection_id, NOW - age
        )
    return connection_id


async def state(dsn: str) -> dict[str, Any]:
    engine = directory.create_engine(dsn)
    try:
        async with AsyncSession(engine) as db:
            return dict(await count_state(db, NOW))
    finally:
        await engine.dispose()


async def test_an_empty_directory_counts_nothing_under_every_name(postgres_database: str):
    assert await state(postgres_database) == dict.fromkeys(metrics.STATE, 0)


async def test_a_connection_fails_when_nothing_has_succeeded_for_a_quarter_of_an_hour(
    postgres_database: str, db: asyncpg.Connection
):
    await connect(db, None, last_error_at=MINUTE, last_success_at=20 * MINUTE)
    await connect(db, None, last_error_at=MINUTE)
    await connect(db, None, last_error_at=MINUTE, last_success_at=2 * MINUTE)
    await connect(db, None, last_error_at=40 * MINUTE, last_success_at=90 * MINUTE)
    await connect(db, None)

    found = await state(postgres_database)

    assert (found["connections"], found["connections_failing"]) == (5, 2)


async def test_only_a_connections_last_live_token_is_a_worry(postgres_database: str, db: asyncpg.Connection):
    await connect(db, DAY / 2, 30 * DAY)
    await connect(db, DAY / 2, None)
    await connect(db, 3 * DAY)
    await connect(db, DAY / 2, -DAY)
    await connect(db, -DAY)
    revoked = await connect(db, None)
    await db.execute("UPDATE tokens SET revoked_at = now() WHERE connection_id = $1", revoked)

    found = await state(postgres_database)

    assert found["connections_without_token"] == 2
    assert (found["tokens_expire_in_7_days"], found["tokens_expire_in_1_day"]) == (2, 1)


async def test_a_guard_counts_for_an_hour_and_a_deleted_connection_not_at_all(
    postgres_database: str, db: asyncpg.Connection
):
    await connect(db, None, guard_tripped_at=10 * MINUTE)
    await connect(db, None, guard_tripped_at=DAY)
    gone = await connect(db, guard_tripped_at=10 * MINUTE)
    await db.execute("UPDATE connections SET deleted_at = now() WHERE id = $1", gone)

    found = await state(postgres_database)

    assert (found["connections"], found["guards_tripped"], found["connections_without_token"]) == (2, 1, 0)
