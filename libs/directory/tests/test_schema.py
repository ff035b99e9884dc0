"""Migrating a database, and the table classes beside the migrations."""

import asyncio
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from uuid import uuid4

import asyncpg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

import directory
from devstack.pytest_plugin import new_database
from directory import schema
from directory.tables import metadata


@pytest.fixture
async def empty_database(postgres_server: str) -> AsyncIterator[str]:
    async with new_database(postgres_server) as dsn:
        yield dsn


async def query(dsn: str, statement: str, *values: object) -> list[asyncpg.Record]:
    db = await asyncpg.connect(dsn)
    try:
        return await db.fetch(statement, *values)
    finally:
        await db.close()


async def revision_of(dsn: str) -> str | None:
    db = await asyncpg.connect(dsn)
    try:
        return await directory.revision_of(db)
    finally:
        await db.close()


def test_head_is_the_newest_migration() -> None:
    assert ScriptDirectory.from_config(schema.configuration()).get_current_head() == directory.HEAD


async def test_an_empty_database_has_no_revision_and_a_migrated_one_is_at_head(empty_database: str) -> None:
    assert await revision_of(empty_database) is None

    directory.migrate(empty_database)  # inside this test's running loop

    assert await revision_of(empty_database) == directory.HEAD


async def test_migrating_again_changes_nothing(postgres_database: str) -> None:
    await query(postgres_database, "INSERT INTO organizations (id, name, plan) VALUES (gen_random_uuid(), 'x', 'free')")

    directory.migrate(postgres_database)

    assert await revision_of(postgres_database) == directory.HEAD
    assert len(await query(postgres_database, "SELECT FROM organizations")) == 1


async def test_jobs_that_migrate_at_the_same_time_take_turns(empty_database: str) -> None:
    script = "import sys, directory; directory.migrate(sys.argv[1])"
    jobs = [await asyncio.create_subprocess_exec(sys.executable, "-c", script, empty_database) for _ in range(3)]

    assert [await job.wait() for job in jobs] == [0, 0, 0]
    assert await revision_of(empty_database) == directory.HEAD


async def test_a_migration_that_fails_leaves_nothing_behind(empty_database: str) -> None:
    await query(empty_database, "CREATE TABLE partition_offsets (in_the_way text)")

    with pytest.raises(asyncpg.DuplicateTableError):
        directory.migrate(empty_database)

    tables = await query(empty_database, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    assert {row["tablename"] for row in tables} <= {"partition_offsets", "alembic_version"}
    assert await revision_of(empty_database) is None


async def test_a_migration_does_not_wait_long_for_a_lock(empty_database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # A job that holds the turn: ours gives up instead of queueing for ever.
    monkeypatch.setattr(schema, "TURN_TIMEOUT", "200ms")
    db = await asyncpg.connect(empty_database)
    await db.execute("SELECT pg_advisory_lock(hashtext('directory.migrate'))")

    with pytest.raises(Exception, match="lock timeout"):
        await asyncio.to_thread(directory.migrate, empty_database)

    await db.close()


async def test_the_table_classes_are_what_the_migrations_make(postgres_database: str) -> None:
    engine = directory.create_engine(postgres_database)
    async with engine.connect() as db:
        differences = await db.run_sync(_differences)
    await engine.dispose()

    assert differences == []


def _differences(db: Connection) -> list[object]:
    # Partitions come and go with time; they have no class. Indexes on expressions have none either: Postgres rewrites
    # the text by which they would be compared.
    def is_ours(_: object, name: str | None, kind: str, __: bool, ___: object) -> bool:
        is_partition = kind == "table" and (name or "").startswith("outcomes_")
        return not is_partition and name != "users_employee_number_idx"

    options = {"compare_type": True, "include_object": is_ours}
    return compare_metadata(MigrationContext.configure(db, opts=options), metadata)


async def test_bound_values_stay_out_of_exceptions(postgres_database: str) -> None:
    engine = directory.create_engine(postgres_database)
    values = {"id": uuid4(), "name": "canary", "plan": "gratis", "created_at": datetime.now(UTC)}
    async with engine.connect() as db:
        with pytest.raises(IntegrityError, match="organizations_plan_check") as caught:
            await db.execute(metadata.tables["organizations"].insert(), [values])
    await engine.dispose()

    assert "[parameters" not in str(caught.value)  # Postgres's own DETAIL names the row; logs show the class only
    assert "SQL parameters hidden" in str(caught.value)
