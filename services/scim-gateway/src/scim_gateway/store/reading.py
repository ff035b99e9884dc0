"""Borrowing a Postgres connection, and what it means when there is none."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import structlog

from scim.errors import Unavailable

log = structlog.get_logger()

ACQUIRE_TIMEOUT = 3.0  # seconds to wait for a connection; above it the pool is exhausted or Postgres is away
RETRY_AFTER = 2  # seconds

# The server is away, refuses us, is restarting, has no such database, or is not migrated yet: time cures it.
_AWAY = (
    OSError,  # TimeoutError among them
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.UndefinedTableError,
    asyncpg.UndefinedColumnError,
    asyncpg.InsufficientPrivilegeError,
)


@asynccontextmanager
async def reading(pool: asyncpg.Pool) -> AsyncIterator[asyncpg.pool.PoolConnectionProxy]:
    """A connection to read with; raises Unavailable when Postgres cannot be asked or takes too long."""
    try:
        async with pool.acquire(timeout=ACQUIRE_TIMEOUT) as db:
            yield db
    except asyncpg.QueryCanceledError as error:
        raise Unavailable("Reading took too long; narrow the filter or try again.", RETRY_AFTER) from error
    except _AWAY as error:
        log.warning("postgres.unavailable", error=type(error).__name__)
        raise Unavailable("The directory cannot be read at the moment; try again.", RETRY_AFTER) from error
