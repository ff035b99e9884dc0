"""Tokens, with what deciding about a request needs to know."""

from dataclasses import dataclass
from datetime import datetime
from ipaddress import IPv4Network, IPv6Network
from uuid import UUID

import asyncpg

from scim_gateway.store.reading import reading

BY_DIGEST = """
    SELECT tokens.id AS token_id, tokens.digest, tokens.expires_at, tokens.revoked_at IS NOT NULL AS is_revoked,
           tokens.scopes, connections.id AS connection_id, connections.provider_id,
           connections.deleted_at IS NOT NULL AS is_deleted, connections.allowed_networks,
           connections.group_patch_answer,
           organizations.id AS organization_id, organizations.plan,
           ARRAY(SELECT ROW(schemas.resource_type, schemas.document::text) FROM extension_schemas AS schemas
                 WHERE schemas.organization_id = organizations.id ORDER BY schemas.urn) AS extensions
    FROM tokens
    JOIN connections ON connections.id = tokens.connection_id
    JOIN organizations ON organizations.id = connections.organization_id
    WHERE tokens.digest = $1
"""


@dataclass(frozen=True, slots=True)
class TokenRow:
    """A token with its connection and organization.

    `allowed_networks`: none means everywhere. `group_patch_answer` is "resource" or "none". `extensions` are pairs of
    resource type and schema document.
    """

    token_id: UUID
    digest: bytes
    expires_at: datetime | None
    is_revoked: bool
    scopes: tuple[str, ...]
    connection_id: UUID
    provider_id: str
    is_deleted: bool
    allowed_networks: tuple[IPv4Network | IPv6Network, ...]
    group_patch_answer: str
    organization_id: UUID
    plan: str
    extensions: tuple[tuple[str, str], ...]


async def find(pool: asyncpg.Pool, digest: bytes) -> TokenRow | None:
    """The token with this digest, by the unique index on it."""
    async with reading(pool) as db:
        row = await db.fetchrow(BY_DIGEST, digest)
    if row is None:
        return None
    lists = {name: tuple(row[name]) for name in ("scopes", "allowed_networks")}
    return TokenRow(**{**row, **lists, "extensions": tuple(map(tuple, row["extensions"]))})
