"""How directory sync is doing, and the settings of each connection: `/api/v1/admin/scim`."""

from datetime import UTC, datetime
from ipaddress import IPv4Network, IPv6Network
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import Response
from pydantic import AfterValidator, Field
from sqlalchemy.ext.asyncio import AsyncSession

from admin_api import audit
from admin_api.audit import Act, Subject
from admin_api.connection_tokens import TokenShape, token_shape
from admin_api.connections import close_connection, tokens_by_connection
from admin_api.errors import NotFound
from admin_api.notices import Notice, of_connection
from admin_api.principals import Admin
from admin_api.service import Service, ServiceOf
from admin_api.shapes import Body, Shape, new_router, refusals
from admin_api.store import connections, sync_status
from contracts import CHANGES
from directory.tables import Connection, ConnectionStats, Token
from servicekit.kafka import partition_of

router = new_router("/scim", "connections")

Network = IPv4Network | IPv6Network


class Guard(Shape):
    """The guard watches deactivations: a burst raises the alarm, and is held for an admin when `holds`.

    A burst is more than `users` and more than `percent` of the active ones within an hour. `releasedUntil`: until then
    everything passes.
    """

    users: int
    percent: int
    holds: bool
    tripped_at: datetime | None
    released_until: datetime | None
    open_holds: int


class ConnectionView(Shape):
    """A connection: how it is set, how it is doing.

    `lag`: changes of the organization's part of the log that are not applied yet; null while Kafka cannot be asked.
    `staleUsers`: not mentioned by the identity provider for 90 days. `orphanUsers`: made after the identity provider
    had given up waiting, and never mentioned since.
    """

    id: UUID
    provider_id: Annotated[str, Field(examples=["okta"])]
    organization_id: UUID
    created_at: datetime
    group_patch_answer: Literal["resource", "none"]
    link_existing_accounts: bool
    allowed_networks: Annotated[list[str], Field(examples=[["203.0.113.0/24"]])]
    append_only: bool
    guard: Guard
    last_success_at: datetime | None
    last_error_at: datetime | None
    lag: int | None
    users: int
    active_users: int
    groups: int
    stale_users: int
    orphan_users: int
    link_requests: int
    tokens: list[TokenShape]
    warnings: list[Notice]


class Status(Shape):
    """Of the organization."""

    active_connections: int
    provisioned_users: int
    active_users: int
    last_sync_at: Annotated[datetime | None, Field(description="When a change of any connection last succeeded.")]
    lag: int | None
    connections: list[ConnectionView]


class GuardPatch(Body):
    users: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    percent: Annotated[int, Field(ge=0, le=100)] | None = None
    holds: bool | None = None


def _distinct(networks: list[Network]) -> list[Network]:
    return list(dict.fromkeys(networks))


class ConnectionPatch(Body):
    """What is missing stays as it is.

    `groupPatchAnswer`: `resource` (200 with the group) or `none` (204). `linkExistingAccounts`: whether users take over
    accounts of the organization that have their email. `allowedNetworks`: where clients may call from; none means
    everywhere. `appendOnly`: nothing is ever suspended, what would have been is logged.
    """

    group_patch_answer: Literal["resource", "none"] | None = None
    link_existing_accounts: bool | None = None
    allowed_networks: (
        Annotated[list[Network], Field(max_length=100, examples=[["203.0.113.0/24"]]), AfterValidator(_distinct)] | None
    ) = None
    append_only: bool | None = None
    guard: GuardPatch | None = None


@router.get("/", include_in_schema=False)
@router.get("")
async def get_status(principal: Admin, service: ServiceOf) -> Status:
    """Directory sync of the organization, with all its connections."""
    organization_id = principal.organization.id
    ends = await service.log_ends.get()
    async with service.transaction() as db:
        found = await connections.list_connections(db, organization_id)
        lag = await _lag(db, ends, organization_id)
        views = await _views(db, service, organization_id, found, lag)
    synced = [view.last_success_at for view in views if view.last_success_at]
    return Status(
        active_connections=len(views),
        provisioned_users=sum(view.users for view in views),
        active_users=sum(view.active_users for view in views),
        last_sync_at=max(synced, default=None),
        lag=lag,
        connections=views,
    )


@router.get("/connections/{id}", responses=refusals(404))
async def get_connection(id: UUID, principal: Admin, service: ServiceOf) -> ConnectionView:
    """One connection."""
    ends = await service.log_ends.get()
    async with service.transaction() as db:
        connection = await connections.find_open(db, principal.organization.id, id)
        if connection is None:
            raise NotFound
        lag = await _lag(db, ends, principal.organization.id)
        [view] = await _views(db, service, principal.organization.id, [connection], lag)
    return view


@router.patch("/connections/{id}", responses=refusals(404))
async def change_connection(id: UUID, body: ConnectionPatch, principal: Admin, service: ServiceOf) -> ConnectionView:
    """Change settings; clients notice within a second."""
    ends = await service.log_ends.get()
    async with service.transaction() as db:
        connection = await connections.lock_open(db, principal.organization.id, id)
        if connection is None:
            raise NotFound
        before = _facts(connection)
        for name, value in _columns(body).items():
            setattr(connection, name, value)
        await db.flush()
        lag = await _lag(db, ends, principal.organization.id)
        [view] = await _views(db, service, principal.organization.id, [connection], lag)
        if _facts(connection) != before:
            await audit.record(
                db,
                principal.organization.id,
                principal.actor,
                Act.CONNECTION_CHANGED,
                (Subject.CONNECTION, id),
                {"before": before, "after": _facts(connection)},
                connection_id=id,
            )
    return view


@router.delete("/connections/{id}", status_code=204, responses=refusals(404))
async def delete_connection(id: UUID, principal: Admin, service: ServiceOf) -> Response:
    """End the connection and its tokens at once; its users and groups go, the accounts stay with their roles."""
    await close_connection(service, principal, id)
    return Response(status_code=204)


async def _views(
    db: AsyncSession, service: Service, organization_id: UUID, found: list[Connection], lag: int | None
) -> list[ConnectionView]:
    now = datetime.now(UTC)
    ids = [connection.id for connection in found]
    stats = await sync_status.find_stats(db, ids)
    tokens = tokens_by_connection(await connections.list_live_tokens(db, ids, now))
    waiting = await sync_status.count_waiting(db, organization_id)
    counts = await service.drift_counts.of(db, organization_id, now)
    return [
        _view(connection, stats.get(connection.id), tokens[connection.id], waiting, counts, lag, now)
        for connection in found
    ]


def _view(
    connection: Connection,
    stats: ConnectionStats | None,
    tokens: list[Token],
    waiting: sync_status.Waiting,
    counts: dict[UUID, sync_status.DriftCount],
    lag: int | None,
    now: datetime,
) -> ConnectionView:
    stats = stats or ConnectionStats(connection_id=connection.id)
    drift = counts.get(connection.id, sync_status.DriftCount(0, 0))
    open_holds = waiting.holds.get(connection.id, 0)
    requests = waiting.link_requests.get(connection.id, 0)
    return ConnectionView(
        id=connection.id,
        provider_id=connection.provider_id,
        organization_id=connection.organization_id,
        created_at=connection.created_at,
        group_patch_answer="none" if connection.group_patch_answer == "none" else "resource",
        link_existing_accounts=connection.link_existing_accounts,
        allowed_networks=[str(network) for network in connection.allowed_networks],
        append_only=connection.append_only,
        guard=Guard(
            users=connection.guard_users,
            percent=connection.guard_percent,
            holds=connection.guard_holds,
            tripped_at=stats.guard_tripped_at,
            released_until=connection.guard_released_until,
            open_holds=open_holds,
        ),
        last_success_at=stats.last_success_at,
        last_error_at=stats.last_error_at,
        lag=lag,
        users=stats.users,
        active_users=stats.active_users,
        groups=stats.groups,
        stale_users=drift.stale,
        orphan_users=drift.orphans,
        link_requests=requests,
        tokens=[token_shape(token, now) for token in tokens],
        warnings=of_connection(stats, tokens, open_holds, requests, now),
    )


async def _lag(db: AsyncSession, ends: dict[int, int], organization_id: UUID) -> int | None:
    """Changes between what is applied and the end of the log, in the partition that holds the organization's."""
    partition = partition_of(str(organization_id).encode(), CHANGES.partitions)
    if partition not in ends:
        return None
    next_offset = await sync_status.find_next_offset(db, CHANGES.name, partition)
    return max(0, ends[partition] - (next_offset or 0))


def _columns(body: ConnectionPatch) -> dict[str, Any]:
    """The columns that the request sets."""
    guard = body.guard or GuardPatch()
    wanted = {
        "group_patch_answer": body.group_patch_answer,
        "link_existing_accounts": body.link_existing_accounts,
        "allowed_networks": body.allowed_networks,
        "append_only": body.append_only,
        "guard_users": guard.users,
        "guard_percent": guard.percent,
        "guard_holds": guard.holds,
    }
    return {name: value for name, value in wanted.items() if value is not None}


def _facts(connection: Connection) -> dict[str, Any]:
    return {
        "groupPatchAnswer": connection.group_patch_answer,
        "linkExistingAccounts": connection.link_existing_accounts,
        "allowedNetworks": [str(network) for network in connection.allowed_networks],
        "appendOnly": connection.append_only,
        "guardUsers": connection.guard_users,
        "guardPercent": connection.guard_percent,
        "guardHolds": connection.guard_holds,
    }
