"""Who calls: one bearer token, looked up by its keyed digest (threats T41, T44, T46, T49)."""

import asyncio
import hmac
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from ipaddress import ip_network
from uuid import UUID

import asyncpg
import structlog
from starlette.requests import Request

from contracts import SCIM_TOKEN
from scim.errors import Forbidden, TooManyRequests, Unauthorized
from scim_gateway import metrics
from scim_gateway.clients import Address, Network, client_address, is_within
from scim_gateway.rates import Buckets
from scim_gateway.served import Catalog, catalog
from scim_gateway.store import tokens
from servicekit import bearer

log = structlog.get_logger()

GATEWAY = "gateway"  # name of the running gateway in the lifespan state
CONNECTION = "scim_gateway.connection"  # scope key: whose token it is, also when it is refused what it asks for
CACHE_SECONDS = 1.0  # how long a revoked token may still read (P10 allows 2)
CACHE_SIZE = 4096
_HEADER = re.compile(r"[Bb][Ee][Aa][Rr][Ee][Rr] ([A-Za-z0-9_]{1,128})")
_ABSENT = bytes(32)


class Scope(StrEnum):
    """What a token may be used for."""

    READ = "read"
    WRITE = "write"
    PREVIEW = "preview"  # may ask what a write would do


@dataclass(frozen=True, slots=True)
class Connection:
    """The connection that a request acts for, and what its organization is served."""

    id: UUID
    organization_id: UUID
    token_id: UUID
    provider_id: str
    served: Catalog
    is_preview: bool = False  # its writes are only rehearsed


@dataclass(frozen=True, slots=True)
class _Known:
    row: tokens.TokenRow
    connection: Connection
    asked_at: float  # monotonic seconds, from before the SELECT: what it returned was true then


class Authenticator:
    """Turns tokens into connections; what the database said is believed for at most CACHE_SECONDS.

    Unknown tokens are not cached: guessing fills no memory. `guesses` bounds how many of them one client may have
    looked up, `requests` how often a connection may be used, `trusted` are the proxies in front of us.
    """

    def __init__(
        self,
        pool: asyncpg.Pool,
        pepper: bytes,
        guesses: Buckets[object] | None = None,
        requests: Buckets[UUID] | None = None,
        trusted: Sequence[Network] = (),
    ) -> None:
        self._pool = pool
        self._pepper = pepper
        self._guesses = guesses or Buckets(0, 0)
        self._requests = requests or Buckets(0, 0)
        self._trusted = trusted
        self._known: dict[bytes, _Known] = {}
        self._asking: dict[bytes, asyncio.Task[_Known | None]] = {}

    async def connection_of(self, request: Request, scope: Scope | None) -> Connection:
        """The connection whose token the request carries.

        Raises Unauthorized, the same for whatever is wrong with the token; Forbidden without the plan, from a network
        that the connection does not allow, or when the token lacks `scope`; TooManyRequests.
        """
        address = client_address(request.scope, self._trusted)
        known = await self._known_of(_token_of(request), address)
        row, connection = known.row, known.connection
        if not _is_live(row):
            raise _refused("revoked" if row.is_revoked or row.is_deleted else "expired")
        structlog.contextvars.bind_contextvars(connection_id=str(connection.id))
        request.scope[CONNECTION] = connection
        if row.plan != "enterprise":
            metrics.AUTH_FAILURES["no_plan"].inc()
            raise Forbidden("Directory sync needs the enterprise plan; ask the owner of the organization.")
        if row.allowed_networks and not _is_of_console(row) and not is_within(address, row.allowed_networks):
            metrics.AUTH_FAILURES["network"].inc()
            log.warning("scim.network.refused", address=str(address))
            raise Forbidden(
                f"This connection is not to be used from {address}; an admin of the organization says from where."
            )
        needed = Scope.PREVIEW if scope is Scope.WRITE and connection.is_preview else scope
        if needed is not None and needed not in row.scopes:
            metrics.AUTH_FAILURES["scope"].inc()
            raise Forbidden(f"This token has no {scope} scope; use one that has.")
        self._limit(connection)
        return connection

    def recognized(self, credential: bytes) -> Connection | None:
        """The connection for which the Authorization header `credential` may write, when that was asked within the last
        CACHE_SECONDS and depends on nothing else; else None, which says nothing about the token.

        Whoever is recognized all the time stays so: it is asked again before the time is over.
        """
        match = _HEADER.fullmatch(credential.decode("latin-1"))
        digest = bearer.digest(self._pepper, SCIM_TOKEN, match[1]) if match else _ABSENT
        known, now = self._known.get(digest), time.monotonic()
        if known is None or known.asked_at + CACHE_SECONDS <= now:
            return None
        if known.asked_at + CACHE_SECONDS / 2 <= now:
            self._asked(digest).add_done_callback(_overlook)
        row = known.row
        needed = Scope.PREVIEW if known.connection.is_preview else Scope.WRITE
        is_good = _is_live(row) and row.plan == "enterprise" and not row.allowed_networks and needed in row.scopes
        return known.connection if is_good else None

    async def _known_of(self, token: str, address: Address | None) -> _Known:
        digest = bearer.digest(self._pepper, SCIM_TOKEN, token)
        known = self._known.get(digest)
        if known is None and not bearer.is_well_formed(token):
            raise _refused("malformed")
        if known is None or known.asked_at + CACHE_SECONDS <= time.monotonic():
            # A token that was good a while ago is no guess, whoever else sends from the same address.
            if known is None and digest not in self._asking:
                self._refuse_guessing(address)
            known = await asyncio.shield(self._asked(digest))
        # The index found the row; comparing again costs nothing and never depends on how the index compares.
        if not hmac.compare_digest(known.row.digest if known else _ABSENT, digest) or known is None:
            self._guesses.spend(_household(address))
            raise _refused("unknown")
        return known

    def _refuse_guessing(self, address: Address | None) -> None:
        if wait := self._guesses.wait(_household(address)):
            metrics.AUTH_FAILURES["throttled"].inc()
            raise TooManyRequests("Too many unknown tokens came from this address; try again later.", retry_after=wait)

    def _limit(self, connection: Connection) -> None:
        if wait := self._requests.wait(connection.id):
            raise TooManyRequests(
                "This connection sends more requests than it may; nothing was changed, try again.", retry_after=wait
            )
        self._requests.spend(connection.id)

    def _asked(self, digest: bytes) -> asyncio.Task[_Known | None]:
        """One SELECT for all requests that wait for the same token."""
        task = self._asking.get(digest)
        if task is None:
            task = self._asking[digest] = asyncio.create_task(self._ask(digest))
            task.add_done_callback(lambda _: self._asking.pop(digest, None))
        return task

    async def _ask(self, digest: bytes) -> _Known | None:
        asked_at = time.monotonic()
        row = await tokens.find(self._pool, digest)
        self._known.pop(digest, None)
        if row is None:
            return None
        known = _Known(row, _connection(row), asked_at)
        if len(self._known) >= CACHE_SIZE:
            self._known.pop(next(iter(self._known)))
        self._known[digest] = known
        return known


def _overlook(task: asyncio.Task[_Known | None]) -> None:
    """Whoever waits for the answer is told why there is none; the request that caused it has gone on."""
    if not task.cancelled():
        task.exception()


async def authenticate(request: Request, scope: Scope | None = None) -> Connection:
    """The connection that the request's token belongs to; `scope` is what the token must be good for."""
    return await request.scope["state"][GATEWAY].authenticator.connection_of(request, scope)


def _token_of(request: Request) -> str:
    """From the one `Authorization: Bearer` header; cookies and URLs carry no credential."""
    header = request.headers.get("authorization")
    match = _HEADER.fullmatch(header) if header is not None else None
    if match is None:
        raise _refused("malformed")
    return match[1]


def _connection(row: tokens.TokenRow) -> Connection:
    served = catalog(row.extensions, answers_group_patch=row.group_patch_answer == "resource")
    is_preview = Scope.PREVIEW in row.scopes
    return Connection(row.connection_id, row.organization_id, row.token_id, row.provider_id, served, is_preview)


def _household(address: Address | None) -> object:
    """What counts as one client: an IPv4 address, or the network of 64 bits that one IPv6 site has."""
    if address is None or address.version == 4:
        return address
    return ip_network((address, 64), strict=False)


def _is_live(row: tokens.TokenRow) -> bool:
    expired = row.expires_at is not None and row.expires_at <= datetime.now(UTC)
    return not (expired or row.is_revoked or row.is_deleted)


def _is_of_console(row: tokens.TokenRow) -> bool:
    """Whether an admin asks through admin-api, which is in none of the identity provider's networks: its own tokens
    live for less than a minute."""
    soon = datetime.now(UTC) + timedelta(minutes=1)
    return Scope.PREVIEW in row.scopes and row.expires_at is not None and row.expires_at < soon


def _refused(reason: str) -> Unauthorized:
    """The same answer for every reason, which only the metrics tell apart."""
    metrics.AUTH_FAILURES[reason].inc()
    return Unauthorized("The bearer token is missing, malformed, unknown, expired or revoked.")
