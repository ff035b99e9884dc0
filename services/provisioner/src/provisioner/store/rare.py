"""What few batches write besides users and groups: an admin's wishes, holds, link requests."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from provisioner.results import Results
from provisioner.store.claims import Db

# Before the groups go with their connection: their grants stay as manual ones that say where they came from.
CLOSE_GRANTS = """
    WITH gone AS (
        DELETE FROM grants g USING groups source
        WHERE source.id = g.group_id AND source.connection_id = ANY($1::uuid[])
        RETURNING g.account_id, g.role_id, source.display_name, source.connection_id
    )
    INSERT INTO grants (account_id, role_id, group_id, created_at, label)
    SELECT DISTINCT ON (account_id, role_id) account_id, role_id, NULL::uuid, now(),
           'by the group ' || gone.display_name || ' of the deleted connection ' || c.provider_id
    FROM gone JOIN connections c ON c.id = gone.connection_id
    ORDER BY account_id, role_id, gone.display_name
    ON CONFLICT DO NOTHING
"""

CLOSE_REQUESTS = """
    WITH holds_of_closed AS (
        UPDATE holds SET resolved_at = $2::timestamptz, resolution = 'discarded', resolved_by = 'system'
        WHERE connection_id = ANY($1::uuid[]) AND resolved_at IS NULL
    )
    UPDATE link_requests SET resolved_at = $2::timestamptz, resolution = 'rejected', resolved_by = 'system'
    WHERE connection_id = ANY($1::uuid[]) AND resolved_at IS NULL
"""

REVOKE_GRANTS = """
    DELETE FROM grants g USING unnest($1::uuid[], $2::uuid[]) AS k(account_id, role_id)
    WHERE g.account_id = k.account_id AND g.role_id = k.role_id AND g.group_id IS NULL
"""

ADD_GRANTS = """
    INSERT INTO grants (account_id, role_id, created_at, change_id)
    SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::timestamptz[], $4::uuid[])
    ON CONFLICT DO NOTHING
"""

REMOVE_LINKS = """
    DELETE FROM links l USING unnest($1::uuid[], $2::uuid[]) AS k(connection_id, account_id)
    WHERE l.account_id = k.account_id AND l.connection_id = k.connection_id
"""

APPROVE_LINKS = """
    UPDATE link_requests r SET resolved_at = $4::timestamptz, resolution = $5, resolved_by = k.by
    FROM unnest($1::uuid[], $2::uuid[], $3::text[]) AS k(connection_id, account_id, by)
    WHERE r.account_id = k.account_id AND r.connection_id = k.connection_id AND r.resolved_at IS NULL
"""

ADD_LINK_REQUESTS = """
    INSERT INTO link_requests (id, organization_id, connection_id, account_id, user_name, requested_at, change_id)
    SELECT DISTINCT ON (account_id, connection_id) *, id
    FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], $5::text[], $6::timestamptz[])
        AS asked(id, organization_id, connection_id, account_id, user_name, requested_at)
    ORDER BY account_id, connection_id, requested_at
    ON CONFLICT (account_id, connection_id) WHERE resolved_at IS NULL DO NOTHING
"""

RESOLVE_HOLDS = """
    UPDATE holds h SET resolved_at = $4::timestamptz, resolution = k.resolution, resolved_by = k.by
    FROM unnest($1::uuid[], $2::text[], $3::text[]) AS k(id, resolution, by)
    WHERE h.id = k.id AND h.resolved_at IS NULL
"""

# Asked again, the newest form of the wish is what an admin decides about.
PUT_HOLDS = """
    INSERT INTO holds (id, organization_id, connection_id, user_id, account_id, change, held_at)
    SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], $5::uuid[], $6::jsonb[], $7::timestamptz[])
    ON CONFLICT (user_id) WHERE resolved_at IS NULL DO UPDATE SET change = excluded.change, held_at = excluded.held_at
"""


async def close_grants(db: Db, results: Results) -> None:
    """Before the groups of a connection go with it."""
    if results.closed_connections:
        await db.execute(CLOSE_GRANTS, results.closed_connections)


async def write(db: Db, results: Results, at: datetime) -> None:
    """One statement for each kind of thing that there is."""
    if results.closed_connections:
        await db.execute(CLOSE_REQUESTS, results.closed_connections, at)
    await _execute(db, REVOKE_GRANTS, results.revoked)
    granted = [(*key, change.received_at, change.id) for key, change in results.granted.items()]
    await _execute(db, ADD_GRANTS, granted)
    await _execute(db, REMOVE_LINKS, results.unlinked)
    await _execute(db, APPROVE_LINKS, results.approved_links, at, "approved")
    await _execute(db, APPROVE_LINKS, results.rejected_links, at, "rejected")
    requests = results.link_requests
    await _execute(
        db,
        ADD_LINK_REQUESTS,
        [(r.id, r.organization_id, r.connection_id, r.account_id, r.user_name, r.requested_at) for r in requests],
    )
    await _execute(
        db,
        PUT_HOLDS,
        [
            (
                hold.id,
                hold.organization_id,
                hold.connection_id,
                hold.user_id,
                hold.account_id,
                hold.change,
                hold.held_at,
            )
            for hold in results.holds.values()
        ],
    )
    await _execute(db, RESOLVE_HOLDS, results.resolved_holds, at)


async def _execute(db: Db, statement: str, rows: Sequence[tuple[Any, ...]], *more: object) -> None:
    if rows:
        await db.execute(statement, *map(list, zip(*rows, strict=True)), *more)
