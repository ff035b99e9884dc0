"""Postgres pools of a service."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import asyncpg
import orjson
from asyncpg.connection import LoggedQuery
from prometheus_client import Counter, Gauge, Histogram

from servicekit.metrics import DURATIONS

STATEMENTS = Histogram(
    "postgres_statement_duration_seconds", "Time of a statement, its round trip included.", buckets=DURATIONS
)
FAILURES = Counter("postgres_statement_failures", "Statements that raised, those that a fence took back included.")
CONNECTIONS = Gauge("postgres_pool_connections", "Open connections of the pool.", ("state",))
BUSY, IDLE = CONNECTIONS.labels("busy"), CONNECTIONS.labels("idle")
LIMIT = Gauge("postgres_pool_limit", "Connections that the pool may open.")

CONNECT_TIMEOUT = 5.0  # seconds


@asynccontextmanager
async def open_pool(
    dsn: str,
    *,
    service: str,
    min_size: int = 0,
    max_size: int = 10,
    statement_timeout: int = 5_000,
    settings: Mapping[str, str] | None = None,
    resets: bool = True,
) -> AsyncIterator[asyncpg.Pool]:
    """A pool whose connections carry jsonb as Python values; it opens even while Postgres is away.

    `statement_timeout` is in milliseconds; `settings` are further run-time parameters of Postgres. Without `resets` a
    connection is returned as it is, which saves a round trip where nobody leaves anything in a session.
    """
    pool = asyncpg.create_pool(
        dsn,
        min_size=min_size,
        max_size=max_size,
        timeout=CONNECT_TIMEOUT,
        command_timeout=statement_timeout / 1000 + 5,
        init=_set_up,
        reset=None if resets else _leave,
        server_settings={
            "application_name": service,
            "statement_timeout": str(statement_timeout),
            "idle_in_transaction_session_timeout": "30000",
            "jit": "off",
            **(settings or {}),
        },
    )
    LIMIT.set(max_size)
    BUSY.set_function(lambda: pool.get_size() - pool.get_idle_size())
    IDLE.set_function(pool.get_idle_size)
    try:
        yield await pool
    finally:
        pool.terminate() if pool.is_closing() else await pool.close()


class OldSchema(Exception):
    """The database was not migrated as far as this release needs."""


async def check_revision(pool: asyncpg.Pool, needed: str) -> None:
    """Raise OldSchema, or what asyncpg raises; revisions are numbers with leading zeros, so they compare as text."""
    revision = await pool.fetchval("SELECT version_num FROM alembic_version")
    if revision is None or revision < needed:
        raise OldSchema(
            f"the schema is at revision {revision}, this release needs {needed}: run directory-sync migrate"
        )


async def _leave(_: object) -> None:
    """Reset nothing."""


async def _set_up(db: asyncpg.Connection) -> None:
    db.add_query_logger(_count)
    await db.set_type_codec("jsonb", schema="pg_catalog", format="binary", encoder=_encode_jsonb, decoder=_decode_jsonb)


def _count(statement: LoggedQuery) -> None:
    STATEMENTS.observe(statement.elapsed)
    if statement.exception is not None:
        FAILURES.inc()


def _encode_jsonb(value: object) -> bytes:
    # The binary form of jsonb is a version byte and the text.
    return b"\x01" + (value if isinstance(value, bytes) else orjson.dumps(value))


def _decode_jsonb(data: bytes) -> object:
    return orjson.loads(data[1:])
