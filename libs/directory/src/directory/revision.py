"""Which revision a database has, and which one this code needs."""

from typing import Any, Protocol

import asyncpg

HEAD = "0001"
"""The newest migration, which the code beside it needs; revisions are numbers, so they sort as text."""

REVISION = "SELECT version_num FROM alembic_version"


class SchemaTooOld(Exception):
    """The database was not migrated yet to what this code needs."""


class Database(Protocol):
    """An asyncpg pool or connection."""

    async def fetchval(self, query: str, /) -> Any: ...


async def revision_of(db: Database) -> str | None:
    """The revision of the database; None when it was never migrated."""
    try:
        return await db.fetchval(REVISION)
    except asyncpg.UndefinedTableError:
        return None


async def check_revision(db: Database) -> None:
    """Raise SchemaTooOld unless the database is at HEAD or newer; for readiness checks."""
    revision = await revision_of(db)
    if revision is None or revision < HEAD:
        raise SchemaTooOld(f"the database is at revision {revision}, this service needs {HEAD}: run the migrations")
