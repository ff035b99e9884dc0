"""Which revision a database has, and which one is the newest."""

from typing import Any, Protocol

import asyncpg

HEAD = "0007"
"""The newest migration; revisions are numbers with leading zeros, so they compare as text."""

REVISION = "SELECT version_num FROM alembic_version"


class Database(Protocol):
    """An asyncpg pool or connection."""

    async def fetchval(self, query: str, /) -> Any: ...


async def revision_of(db: Database) -> str | None:
    """The revision of the database; None when it was never migrated."""
    try:
        return await db.fetchval(REVISION)
    except asyncpg.UndefinedTableError:
        return None
