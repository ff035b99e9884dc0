"""Connections and their tokens, in the shapes of Better Auth's SCIM plugin: `/api/auth/scim`.

Unlike there, a providerId is unique per organization only, every connection belongs to an organization, and another
organization's connection answers exactly like an unknown one.
"""

from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

import structlog
from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from admin_api import audit
from admin_api.audit import Act, Subject
from admin_api.changes import KafkaAway, delete_connection
from admin_api.connection_tokens import record_issued
from admin_api.errors import Forbidden, NotFound
from admin_api.principals import Admin, Principal
from admin_api.providers import check_provider_id, is_provider_id
from admin_api.service import Core, CoreOf
from admin_api.shapes import Shape, refusals
from admin_api.store import connections, mappings
from admin_api.tokens import issue_token, open_connection
from directory.tables import Connection, Token

log = structlog.get_logger()

router = APIRouter(
    prefix="/api/auth/scim", tags=["tokens, in Better Auth's shapes"], responses={**refusals(400, 401, 403)}
)

_UNKNOWN = "there is no such connection"


class ConnectionName(BaseModel):
    """Which connection; without `organizationId` it is the caller's organization.

    Members that it does not know are refused: a token that a client brought along is never taken (threat T45).
    """

    model_config = ConfigDict(alias_generator=to_camel, extra="forbid")

    provider_id: str
    organization_id: Annotated[str, Field(max_length=64)] | None = None


class LiveToken(Shape):
    """A token, of which the last four characters are shown (threat T44)."""

    id: UUID
    hint: Annotated[str, Field(examples=["4xYz"])]
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None


class ProviderConnection(Shape):
    """A connection with its live tokens."""

    id: UUID
    provider_id: Annotated[str, Field(examples=["okta"])]
    organization_id: UUID
    created_at: datetime
    tokens: list[LiveToken]


class ProviderConnections(Shape):
    providers: list[ProviderConnection]


class GeneratedToken(Shape):
    """With the secret, this once."""

    scim_token: Annotated[str, Field(examples=["scim_ and 49 letters and digits"])]
    connection_id: UUID
    provider_id: Annotated[str, Field(examples=["okta"])]
    organization_id: UUID
    token_id: UUID
    created_at: datetime
    expires_at: datetime | None


class Success(Shape):
    success: bool


@router.post("/generate-token", status_code=201, responses=refusals(409))
async def generate_token(body: ConnectionName, principal: Admin, service: CoreOf) -> GeneratedToken:
    """One more token for the connection, which is made when missing; the secret is in this answer and nowhere else."""
    organization_id = own_organization(principal, body.organization_id)
    check_provider_id(body.provider_id)
    async with service.transaction() as db:
        now = datetime.now(UTC)
        connection = await open_connection(db, organization_id, body.provider_id, now)
        issued = await issue_token(db, connection, service.pepper, now)
        await record_issued(db, principal, issued)
    log.info("token.issued", connection_id=str(connection.id), token_id=str(issued.token.id))
    return GeneratedToken(
        scim_token=issued.secret,
        connection_id=connection.id,
        provider_id=connection.provider_id,
        organization_id=connection.organization_id,
        token_id=issued.token.id,
        created_at=issued.token.created_at,
        expires_at=issued.token.expires_at,
    )


@router.get("/list-provider-connections")
async def list_provider_connections(principal: Admin, service: CoreOf) -> ProviderConnections:
    """The connections of the caller's organization."""
    async with service.transaction() as db:
        found = await connections.list_connections(db, principal.organization.id)
        tokens = await connections.list_live_tokens(db, [c.id for c in found], datetime.now(UTC))
    by_connection = tokens_by_connection(tokens)
    return ProviderConnections(providers=[_shape(connection, by_connection[connection.id]) for connection in found])


@router.get("/get-provider-connection", responses=refusals(404))
async def get_provider_connection(
    provider_id: Annotated[str, Query(alias="providerId")], principal: Admin, service: CoreOf
) -> ProviderConnection:
    """One connection of the caller's organization."""
    if not is_provider_id(provider_id):
        raise NotFound(_UNKNOWN)
    async with service.transaction() as db:
        connection = await connections.find_connection(db, principal.organization.id, provider_id)
        if connection is None:
            raise NotFound(_UNKNOWN)
        tokens = await connections.list_live_tokens(db, [connection.id], datetime.now(UTC))
    return _shape(connection, tokens)


@router.post("/delete-provider-connection", responses=refusals(404))
async def delete_provider_connection(body: ConnectionName, principal: Admin, service: CoreOf) -> Success:
    """End the connection and its tokens; the provisioner removes its users and groups, the accounts stay."""
    organization_id = own_organization(principal, body.organization_id)
    if not is_provider_id(body.provider_id):
        raise NotFound(_UNKNOWN)
    async with service.transaction() as db:
        connection = await connections.find_connection(db, organization_id, body.provider_id)
    if connection is None:
        raise NotFound(_UNKNOWN)
    await close_connection(service, principal, connection.id)
    return Success(success=True)


async def close_connection(service: Core, principal: Principal, connection_id: UUID) -> None:
    """End the connection; raises NotFound. Done when it is in Postgres: the provisioner hears of it now or later."""
    now = datetime.now(UTC)
    connection = await _mark_deleted(service, principal, connection_id, now)
    log.info("connection.deleted", connection_id=str(connection.id))
    try:
        await service.publisher.publish(delete_connection(connection, principal.actor, now))
    except KafkaAway as error:
        # Deleted it is; the sweep tells the provisioner.
        log.warning("connection.deletion.postponed", connection_id=str(connection.id), error=str(error))


async def _mark_deleted(service: Core, principal: Principal, connection_id: UUID, now: datetime) -> Connection:
    organization_id = principal.organization.id
    async with service.transaction() as db:
        connection = await connections.lock_open(db, organization_id, connection_id)
        if connection is None:
            raise NotFound
        await connections.mark_deleted(db, connection.id, now)
        if await mappings.has_mappings_of(db, connection.id):
            version = await mappings.raise_version(db, organization_id)
            await mappings.mark_connection_deleted(db, connection.id, version, now)
        await audit.record(
            db,
            organization_id,
            principal.actor,
            Act.CONNECTION_DELETED,
            (Subject.CONNECTION, connection.id),
            {"before": {"providerId": connection.provider_id}},
            connection_id=connection.id,
        )
    return connection


def own_organization(principal: Principal, organization_id: str | None) -> UUID:
    """The caller's organization; raises Forbidden when another one is named, whether it exists or not."""
    own = principal.organization.id
    if organization_id is not None and organization_id.lower() != str(own):
        raise Forbidden("you are not an admin of this organization")
    return own


def tokens_by_connection(tokens: Sequence[Token]) -> defaultdict[UUID, list[Token]]:
    grouped = defaultdict[UUID, list[Token]](list)
    for token in tokens:
        grouped[token.connection_id].append(token)
    return grouped


def _shape(connection: Connection, tokens: Sequence[Token]) -> ProviderConnection:
    return ProviderConnection(
        id=connection.id,
        provider_id=connection.provider_id,
        organization_id=connection.organization_id,
        created_at=connection.created_at,
        tokens=[LiveToken.model_validate(token) for token in tokens],
    )
