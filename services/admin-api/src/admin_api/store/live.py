"""What the console's open pages ask again and again: cheap questions, whatever the size of the organization."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

# Changes with whatever a page shows live: counters and times of the connections, and the newest entry of the log.
FIND_STATE = text("""
    SELECT (SELECT change_id FROM outcomes WHERE organization_id = :organization ORDER BY change_id DESC LIMIT 1),
           (SELECT md5(string_agg(concat_ws(' ', c.id, s.users, s.active_users, s.groups, s.last_success_at,
                                            s.last_error_at, s.guard_tripped_at), ',' ORDER BY c.id))
            FROM connections c LEFT JOIN connection_stats s ON s.connection_id = c.id
            WHERE c.organization_id = :organization AND c.deleted_at IS NULL)
""")

COUNT_BY_HOUR = text("""
    SELECT date_bin('1 hour', received_at, 'epoch') AS hour,
           count(*) FILTER (WHERE status < 400) AS applied, count(*) FILTER (WHERE status >= 400) AS refused
    FROM outcomes
    WHERE organization_id = :organization AND change_id >= :first
    GROUP BY 1
""")

FIND_NAMES = text("""
    SELECT n.id, n.name
    FROM (SELECT id, connection_id, user_name AS name FROM users WHERE id = ANY(:ids)
          UNION ALL SELECT id, connection_id, display_name FROM groups WHERE id = ANY(:ids)
          UNION ALL SELECT id, connection_id, user_name_key FROM user_tombstones WHERE id = ANY(:ids)) n
    JOIN connections c ON c.id = n.connection_id
    WHERE c.organization_id = :organization
    UNION ALL SELECT id, name FROM roles WHERE id = ANY(:ids) AND organization_id = :organization
""")


class Hour(NamedTuple):
    """What identity providers sent in an hour, which begins at `hour`."""

    hour: datetime
    applied: int = 0
    refused: int = 0


async def find_state(db: AsyncSession, organization_id: UUID) -> tuple[object, ...]:
    """A value that differs when something happened to the organization's directory."""
    return tuple((await db.execute(FIND_STATE, {"organization": organization_id})).one())


async def count_by_hour(db: AsyncSession, organization_id: UUID, first: UUID) -> list[Hour]:
    """By hours that had any, from the change `first` on."""
    rows = await db.execute(COUNT_BY_HOUR, {"organization": organization_id, "first": first})
    return [Hour(row.hour, row.applied, row.refused) for row in rows]


async def find_names(db: AsyncSession, organization_id: UUID, ids: Sequence[UUID]) -> dict[UUID, str]:
    """What users, groups and roles of the organization are called, by their id; users that were deleted too."""
    if not ids:
        return {}
    rows = await db.execute(FIND_NAMES, {"organization": organization_id, "ids": list(ids)})
    return {row.id: row.name for row in rows}
