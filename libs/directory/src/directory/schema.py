"""Bringing a database to the newest revision; Alembic is imported when that is wanted, which it seldom is."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, text
from sqlalchemy.pool import NullPool

from directory.engine import create_engine

if TYPE_CHECKING:
    from alembic.config import Config

MIGRATIONS = Path(__file__).parent / "migrations"

# A statement of a migration waits this long for a lock, so that it never makes the running services queue behind it.
LOCK_TIMEOUT = "5s"
STATEMENT_TIMEOUT = "15min"
# Another migration job may be at work; above what one takes.
TURN_TIMEOUT = "5min"

_one_at_a_time = threading.Lock()  # Alembic keeps its context in module globals.


def migrate(dsn: str) -> None:
    """Bring the database to HEAD, in one transaction; `dsn` is the owner's. At HEAD already: nothing happens.

    Jobs that run at the same time take turns. Blocks; it may be called from inside a running event loop.
    """
    with _one_at_a_time, ThreadPoolExecutor(1) as thread:
        thread.submit(lambda: asyncio.run(_migrate(dsn))).result()


def configuration() -> "Config":
    """Alembic's configuration, without a file."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    return config


async def _migrate(dsn: str) -> None:
    engine = create_engine(dsn, poolclass=NullPool)
    try:
        async with engine.connect() as db:
            await db.run_sync(_upgrade)
    finally:
        await engine.dispose()


def _upgrade(db: Connection) -> None:
    from alembic import command

    # The lock is the session's: it outlives the commit of the revision and ends with the connection.
    db.execute(text(f"SET lock_timeout = '{TURN_TIMEOUT}'"))
    db.execute(text("SELECT pg_advisory_lock(hashtext('directory.migrate'))"))
    db.execute(text(f"SET lock_timeout = '{LOCK_TIMEOUT}'"))
    db.execute(text(f"SET statement_timeout = '{STATEMENT_TIMEOUT}'"))
    db.commit()
    config = configuration()
    config.attributes["db"] = db
    command.upgrade(config, "head")
