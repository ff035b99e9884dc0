"""What the status of a connection is put together from."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic.alias_generators import to_camel
from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from directory.tables import ConnectionStats, Hold, LinkRequest, PartitionOffset

# The same users that `verify` lists (store/drift.py).
COUNT_DRIFT = text("""
    SELECT u.connection_id,
           count(*) FILTER (
               WHERE u.last_modified < :before AND NOT EXISTS (
                   SELECT FROM outcomes o WHERE o.resource_id = u.id AND o.received_at >= :before
               )
           ) AS stale,
           count(*) FILTER (
               WHERE u.late_fingerprint IS NOT NULL AND u.version = 1
                   AND NOT EXISTS (SELECT FROM outcomes o WHERE o.resource_id = u.id AND o.received_at > u.created_at)
                   AND NOT EXISTS (SELECT FROM memberships m WHERE m.member_id = u.id)
           ) AS orphans
    FROM connections c JOIN users u ON u.connection_id = c.id
    WHERE c.organization_id = :organization AND c.deleted_at IS NULL
    GROUP BY u.connection_id
""")


LIST_CONNECTIONS = text("""
    SELECT o.name AS organization, o.plan, c.id, c.provider_id,
           coalesce(s.users, 0) AS users, coalesce(s.active_users, 0) AS active_users, coalesce(s.groups, 0) AS groups,
           s.last_success_at, s.last_error_at, s.guard_tripped_at,
           (SELECT count(*) FROM tokens t WHERE t.connection_id = c.id AND t.revoked_at IS NULL
                AND (t.expires_at IS NULL OR t.expires_at > :now)) AS live_tokens,
           (SELECT count(*) FROM holds h WHERE h.connection_id = c.id AND h.resolved_at IS NULL) AS open_holds
    FROM connections c
    JOIN organizations o ON o.id = c.organization_id
    LEFT JOIN connection_stats s ON s.connection_id = c.id
    WHERE c.deleted_at IS NULL AND (CAST(:organization AS uuid) IS NULL OR o.id = :organization)
    ORDER BY o.name, o.id, c.provider_id
""")


@dataclass(frozen=True, slots=True)
class ConnectionLine:
    """A connection as an operator's overview shows it."""

    organization: str
    plan: str
    id: UUID
    provider_id: str
    users: int
    active_users: int
    groups: int
    last_success_at: datetime | None
    last_error_at: datetime | None
    guard_tripped_at: datetime | None
    live_tokens: int
    open_holds: int

    def document(self) -> dict[str, Any]:
        """As JSON has it."""
        return {to_camel(name): value for name, value in asdict(self).items()}


@dataclass(frozen=True, slots=True)
class DriftCount:
    """Users that the identity provider has not mentioned for long, and users that it may not know of."""

    stale: int
    orphans: int


@dataclass(frozen=True, slots=True)
class Waiting:
    """What waits for an admin, by connection."""

    holds: dict[UUID, int]
    link_requests: dict[UUID, int]


async def find_stats(db: AsyncSession, connection_ids: Sequence[UUID]) -> dict[UUID, ConnectionStats]:
    """By connection; none for one that nothing was sent through yet."""
    rows = await db.scalars(select(ConnectionStats).where(col(ConnectionStats.connection_id).in_(connection_ids)))
    return {stats.connection_id: stats for stats in rows}


async def count_waiting(db: AsyncSession, organization_id: UUID) -> Waiting:
    """Open holds and open link requests of the organization."""
    return Waiting(
        await _count(db, Hold, organization_id),
        await _count(db, LinkRequest, organization_id),
    )


async def count_drift(db: AsyncSession, organization_id: UUID, before: datetime) -> dict[UUID, DriftCount]:
    """By connection; `before`: when a user must have been mentioned since, not to be stale."""
    rows = await db.execute(COUNT_DRIFT, {"organization": organization_id, "before": before})
    return {row.connection_id: DriftCount(row.stale, row.orphans) for row in rows}


async def list_connections(db: AsyncSession, organization_id: UUID | None, now: datetime) -> list[ConnectionLine]:
    """The open connections of one organization or of all."""
    rows = await db.execute(LIST_CONNECTIONS, {"organization": organization_id, "now": now})
    return [ConnectionLine(**row) for row in rows.mappings()]


async def find_next_offset(db: AsyncSession, topic: str, partition: int) -> int | None:
    """The offset of the first record that is not applied; None before the first provisioner."""
    return await db.scalar(
        select(col(PartitionOffset.next_offset)).where(
            col(PartitionOffset.topic) == topic, col(PartitionOffset.partition) == partition
        )
    )


async def _count(db: AsyncSession, table: type[Hold] | type[LinkRequest], organization_id: UUID) -> dict[UUID, int]:
    rows = await db.execute(
        select(col(table.connection_id), func.count())
        .where(col(table.organization_id) == organization_id, col(table.resolved_at).is_(None))
        .group_by(col(table.connection_id))
    )
    return {row[0]: row[1] for row in rows}
