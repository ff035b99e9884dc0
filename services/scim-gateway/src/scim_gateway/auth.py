"""Who calls: one bearer token, looked up by its keyed digest (threats T41, T44, T46, T49)."""

import asyncio
import hmac
import re
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

import asyncpg
import structlog
from starlette.requests import Request

from contracts import SCIM_TOKEN
from scim.errors import Forbidden, Unauthorized
from scim_gateway import metrics
from scim_gateway.served import Catalog, catalog
from scim_gateway.store import tokens
from servicekit import bearer

CACHE_SECONDS = 1.0  # how long a revoked token may still read (P10 allows 2)
CACHE_SIZE = 4096
_HEADER = re.compile(r"[Bb][Ee][Aa][Rr][Ee][Rr] ([A-Za-z0-9_]{1,128})")
_ABSENT = bytes(32)


@dataclass(frozen=True, slots=True)
class Connection:
    """The connection that a request acts for, and what its organization is served."""

    id: UUID
    organization_id: UUID
    token_id: UUID
    provider_id: str
    served: Catalog


@dataclass(frozen=True, slots=True)
class _Known:
    row: tokens.TokenRow
    asked_at: float  # monotonic seconds, from before the SELECT: what it returned was true then


class Authenticator:
    """Turns tokens into connections; what the database said is believed for at most CACHE_SECONDS.

    Unknown tokens are not cached: guessing fills no memory, and the pool bounds what it costs the database.
    """

    def __init__(self, pool: asyncpg.Pool, pepper: bytes) -> None:
        self._pool = pool
        self._pepper = pepper
        self._known: dict[bytes, _Known] = {}
        self._asking: dict[bytes, asyncio.Task[_Known | None]] = {}

    async def connection_of(self, token: str) -> Connection:
        """Raises Unauthorized, the same for whatever is wrong with the token, or Forbidden without the plan."""
        if not bearer.is_well_formed(token):
            raise _refused("malformed")
        row = await self._row_of(bearer.digest(self._pepper, SCIM_TOKEN, token))
        if row is None:
            raise _refused("unknown")
        if not _is_live(row):
            raise _refused("revoked" if row.is_revoked or row.is_deleted else "expired")
        if row.plan != "enterprise":
            metrics.AUTH_FAILURES["no_plan"].inc()
            raise Forbidden("Directory sync needs the enterprise plan; ask the owner of the organization.")
        return Connection(
            row.connection_id, row.organization_id, row.token_id, row.provider_id, catalog(row.extensions)
        )

    async def _row_of(self, digest: bytes) -> tokens.TokenRow | None:
        known = self._known.get(digest)
        if known is None or known.asked_at + CACHE_SECONDS <= time.monotonic():
            known = await self._ask_once(digest)
        # The index found the row; comparing again costs nothing and never depends on how the index compares.
        if not hmac.compare_digest(known.row.digest if known else _ABSENT, digest):
            return None
        return known.row if known else None

    async def _ask_once(self, digest: bytes) -> _Known | None:
        """One SELECT for all requests that wait for the same token."""
        task = self._asking.get(digest)
        if task is None:
            task = self._asking[digest] = asyncio.create_task(self._ask(digest))
            task.add_done_callback(lambda _: self._asking.pop(digest, None))
        return await asyncio.shield(task)

    async def _ask(self, digest: bytes) -> _Known | None:
        asked_at = time.monotonic()
        self._known.pop(digest, None)
        row = await tokens.find(self._pool, digest)
        if row is None:
            return None
        known = _Known(row, asked_at)
        if len(self._known) >= CACHE_SIZE:
            self._known.pop(next(iter(self._known)))
        self._known[digest] = known
        return known


async def authenticate(request: Request) -> Connection:
    """The connection of the request's one `Authorization: Bearer` header; cookies and URLs carry no credential."""
    header = request.headers.get("authorization")
    match = _HEADER.fullmatch(header) if header is not None else None
    if match is None:
        raise _refused("malformed")
    connection = await request.app.state.gateway.authenticator.connection_of(match[1])
    structlog.contextvars.bind_contextvars(connection_id=str(connection.id))
    return connection


def _is_live(row: tokens.TokenRow) -> bool:
    expired = row.expires_at is not None and row.expires_at <= datetime.now(UTC)
    return not (expired or row.is_revoked or row.is_deleted)


def _refused(reason: str) -> Unauthorized:
    """The same answer for every reason, which only the metrics tell apart."""
    metrics.AUTH_FAILURES[reason].inc()
    return Unauthorized("The bearer token is missing, malformed, unknown, expired or revoked.")
