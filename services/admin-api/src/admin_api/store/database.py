"""Sessions with Postgres, and what it means when there is none."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import asyncpg
import structlog
from sqlalchemy import Row
from sqlalchemy.exc import DBAPIError, InterfaceError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession

import directory
from admin_api.errors import Unavailable

log = structlog.get_logger()

STATEMENT_TIMEOUT = 5_000  # milliseconds
ACQUIRE_TIMEOUT = 3.0  # seconds to wait for a free connection of the pool
RETRY_AFTER = 2  # seconds

# The server is away, refuses us, is restarting, has no such database, or is not migrated yet: time cures it.
AWAY = (
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

type AnyRow = Row[*tuple[Any, ...]]
"""A row whose columns its statement names."""

Transaction = Callable[[], AbstractAsyncContextManager[AsyncSession]]


@asynccontextmanager
async def open_engine(dsn: str, *, pool_size: int) -> AsyncIterator[AsyncEngine]:
    """An engine for the service; it opens even while Postgres is away."""
    engine = directory.create_engine(
        dsn,
        settings={
            "application_name": "admin-api",
            "statement_timeout": str(STATEMENT_TIMEOUT),
            "idle_in_transaction_session_timeout": "30000",
        },
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=ACQUIRE_TIMEOUT,
        pool_pre_ping=True,
    )
    try:
        yield engine
    finally:
        await engine.dispose()


def transactions(engine: AsyncEngine) -> Transaction:
    """`async with transaction() as db`: committed at the end, rolled back when the block raises.

    Raises Unavailable when Postgres cannot be asked.
    """

    @asynccontextmanager
    async def transaction() -> AsyncIterator[AsyncSession]:
        try:
            async with AsyncSession(engine, expire_on_commit=False) as db, db.begin():
                yield db
        except (DBAPIError, PoolTimeout, *AWAY) as error:
            if not is_away(error):
                raise
            log.warning("postgres.unavailable", error=type(root_of(error)).__name__)
            raise Unavailable(
                "the directory cannot be reached at the moment; try again", retry_after=RETRY_AFTER
            ) from error

    return transaction


def is_away(error: BaseException) -> bool:
    """Whether trying again later may help; a violated constraint or a wrong statement does not count."""
    if isinstance(error, DBAPIError) and (error.connection_invalidated or isinstance(error, InterfaceError)):
        return True
    return isinstance(root_of(error), (PoolTimeout, *AWAY))


def root_of(error: BaseException) -> BaseException:
    """The driver's exception, which SQLAlchemy wraps twice."""
    if isinstance(error, DBAPIError) and error.orig is not None:
        return error.orig.__cause__ or error.orig
    return error


def constraint_of(error: BaseException) -> str | None:
    """The name of the constraint that a statement violated."""
    return getattr(root_of(error), "constraint_name", None)


async def driver_connection(db: AsyncConnection) -> asyncpg.Connection:
    """The driver's own connection under SQLAlchemy's, for what others wrote against the driver."""
    driver = (await db.get_raw_connection()).driver_connection
    assert driver is not None
    return driver
