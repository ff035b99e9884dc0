"""SQLAlchemy engines over asyncpg."""

from collections.abc import Mapping
from typing import Any

import asyncpg
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

CONNECT_TIMEOUT = 5  # seconds


def create_engine(dsn: str, *, settings: Mapping[str, str] | None = None, **options: Any) -> AsyncEngine:
    """An engine for a plain DSN; `settings` are run-time parameters of Postgres, `options` go to SQLAlchemy.

    asyncpg reads the DSN itself, so that sslmode and its kin mean here what they mean in the services' own pools.
    Bound values stay out of exceptions: they are personal data.
    """

    async def connect() -> asyncpg.Connection:
        return await asyncpg.connect(dsn, timeout=CONNECT_TIMEOUT, server_settings=dict(settings or {}))

    return create_async_engine("postgresql+asyncpg://", async_creator=connect, hide_parameters=True, **options)
