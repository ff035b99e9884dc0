"""The state of the whole directory in numbers, for the metrics."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, cast

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

# A connection fails when changes were refused in the last quarter of an hour and none had succeeded in the one before:
# one refused change among good ones is an identity provider's everyday life.
STATE = text("""
    WITH open AS (
        SELECT c.id, c.created_at, s.last_success_at, s.last_error_at, s.guard_tripped_at, count(t.id) AS tokens,
               max(coalesce(t.expires_at, 'infinity')) AS expires_at
        FROM connections c
        LEFT JOIN connection_stats s ON s.connection_id = c.id
        LEFT JOIN tokens t ON t.connection_id = c.id AND t.revoked_at IS NULL
                          AND (t.expires_at IS NULL OR t.expires_at > :now)
        WHERE c.deleted_at IS NULL
        GROUP BY c.id, s.connection_id
    )
    SELECT count(*) AS connections,
           count(*) FILTER (
               WHERE last_error_at > :now - interval '15 minutes'
                 AND last_error_at > coalesce(last_success_at, created_at) + interval '15 minutes'
           ) AS connections_failing,
           count(*) FILTER (WHERE tokens = 0) AS connections_without_token,
           count(*) FILTER (WHERE tokens > 0 AND expires_at <= :now + interval '7 days') AS tokens_expire_in_7_days,
           count(*) FILTER (WHERE tokens > 0 AND expires_at <= :now + interval '1 day') AS tokens_expire_in_1_day,
           count(*) FILTER (WHERE guard_tripped_at > :now - interval '1 hour') AS guards_tripped,
           (SELECT count(*) FROM holds WHERE resolved_at IS NULL) AS held_changes,
           (SELECT count(*) FROM quarantine WHERE resolved_at IS NULL) AS quarantined
    FROM open
""")


async def count_state(db: AsyncSession, now: datetime) -> Mapping[str, int]:
    """Counts by the names of `metrics.STATE`; one statement over connections, live tokens and what is unresolved."""
    row = (await db.execute(STATE, {"now": now})).mappings().one()
    return cast(Mapping[str, Any], row)
