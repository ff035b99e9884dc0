"""Issuing a connection's tokens: minted here, kept as digests, at most two live at a time (threats T44, T45, T48)."""

from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID, uuid4

from sqlalchemy.ext.asyncio import AsyncSession

from admin_api.errors import Conflict
from admin_api.store import connections
from contracts import SCIM_TOKEN
from directory.tables import Connection, Token
from servicekit import bearer

MAX_LIVE_TOKENS = 2


@dataclass(frozen=True, slots=True)
class Terms:
    """What a token is to be; without `expires_at` it lives until it is revoked."""

    label: str = ""
    scopes: list[str] = field(default_factory=lambda: ["read", "write"])
    expires_at: datetime | None = None

    @property
    def previews(self) -> bool:
        return self.scopes == ["preview"]


@dataclass(frozen=True, slots=True)
class Issued:
    """A new token: `secret` is shown once and known to nobody afterwards."""

    secret: str
    token: Token
    connection: Connection


async def open_connection(db: AsyncSession, organization_id: UUID, provider_id: str, now: datetime) -> Connection:
    """The organization's connection of this name, made when missing, locked until the transaction ends."""
    connection = await connections.lock_connection(db, organization_id, provider_id)
    while connection is None:  # again when it was deleted between the two statements
        await connections.insert_connection(db, organization_id, provider_id, now)
        connection = await connections.lock_connection(db, organization_id, provider_id)
    return connection


async def issue_token(
    db: AsyncSession, connection: Connection, pepper: bytes, now: datetime, terms: Terms | None = None
) -> Issued:
    """One more token for the locked connection; raises Conflict when it has two of the kind, previewing or not."""
    terms = terms or Terms()
    tokens = await connections.list_live_tokens(db, [connection.id], now)
    live = [token for token in tokens if (token.scopes == ["preview"]) == terms.previews]
    if len(live) >= MAX_LIVE_TOKENS:
        raise Conflict(
            f"connection {connection.provider_id!r} has {MAX_LIVE_TOKENS} live tokens, ending in "
            f"{' and '.join(token.hint for token in live)}; end one of them first, or delete the connection"
        )
    secret = bearer.mint(SCIM_TOKEN)
    token = Token(
        id=uuid4(),
        connection_id=connection.id,
        digest=bearer.digest(pepper, SCIM_TOKEN, secret),
        hint=bearer.hint(secret),
        created_at=now,
        expires_at=terms.expires_at,
        label=terms.label,
        scopes=terms.scopes,
    )
    await connections.insert_token(db, token)
    return Issued(secret, token, connection)
