"""A release that runs goes on while the next one's migration is made: migrations add, and take nothing away."""

from collections.abc import AsyncIterator

import asyncpg
import pytest
from alembic import command
from alembic.script import ScriptDirectory
from sqlalchemy import Connection
from sqlalchemy.pool import NullPool

from devstack.pytest_plugin import new_database
from directory import schema
from directory.engine import create_engine

COLUMNS = """
    SELECT table_name, column_name, data_type, is_nullable, column_default, is_generated
    FROM information_schema.columns WHERE table_schema = 'public' AND table_name <> 'alembic_version'
"""
PRIVILEGES = """
    SELECT grantee, table_name, column_name, privilege_type FROM information_schema.column_privileges
    WHERE table_schema = 'public' AND grantee LIKE 'scim\\_%'
"""
REVISIONS = [
    script.revision for script in reversed(list(ScriptDirectory.from_config(schema.configuration()).walk_revisions()))
]


@pytest.fixture
async def database(postgres_server: str) -> AsyncIterator[str]:
    async with new_database(postgres_server) as dsn:
        yield dsn


async def upgrade(dsn: str, revision: str) -> None:
    def run(db: Connection) -> None:
        config = schema.configuration()
        config.attributes["db"] = db
        command.upgrade(config, revision)

    engine = create_engine(dsn, poolclass=NullPool)
    async with engine.connect() as db:
        await db.run_sync(run)
    await engine.dispose()


async def test_every_migration_leaves_what_the_release_before_it_reads_and_writes(database: str) -> None:
    before: dict[tuple[str, str], asyncpg.Record] = {}
    rights: set[asyncpg.Record] = set()
    for revision in REVISIONS:
        await upgrade(database, revision)
        owner = await asyncpg.connect(database)
        columns = {(row["table_name"], row["column_name"]): row for row in await owner.fetch(COLUMNS)}
        now = set(await owner.fetch(PRIVILEGES))
        await owner.close()
        tables = {table for table, _ in before}

        assert before.keys() - columns.keys() == set(), f"{revision} takes columns away"
        assert [
            name
            for name, row in before.items()
            if (columns[name]["data_type"], columns[name]["is_nullable"] == "YES" or row["is_nullable"] == "NO")
            != (row["data_type"], True)
        ] == [], f"{revision} changes types, or refuses the nulls that are written"
        assert [
            name for name in columns.keys() - before.keys() if name[0] in tables and not may_be_left_out(columns[name])
        ] == [], f"{revision} adds columns that the release before does not fill"
        assert rights - now == set(), f"{revision} takes rights away"
        before, rights = columns, now


def may_be_left_out(column: asyncpg.Record) -> bool:
    """Whether an INSERT that does not name the column passes."""
    return column["is_nullable"] == "YES" or column["column_default"] is not None or column["is_generated"] == "ALWAYS"
