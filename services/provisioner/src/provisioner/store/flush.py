"""Writing what a batch decided, behind the fence."""

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import asyncpg
import orjson

from provisioner.batch import Poison, Results
from provisioner.rules.users import emails_of
from provisioner.state import Account, Group, Tombstone, User
from provisioner.store.claims import Claim, Db

# The fence: the offset is where this claim left it, so nobody else has applied anything since and what was loaded
# still holds; or this finds no row.
ADVANCE = """
    UPDATE partition_offsets SET next_offset = $4
    WHERE topic = $1 AND partition = $2 AND next_offset = $3 AND epoch = $5
    RETURNING partition
"""

DELETE_USERS = "DELETE FROM users WHERE id = ANY($1::uuid[])"

PUT_ACCOUNTS = """
    INSERT INTO accounts (id, organization_id, email, email_key, display_name, status, epoch, break_glass,
                          created_at, updated_at)
    SELECT id, organization_id, email, email_key, display_name,
           CASE WHEN is_active THEN 'active' ELSE 'suspended' END, epoch, false, created_at, updated_at
    FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::bool[], $7::int[],
                $8::timestamptz[], $9::timestamptz[])
        AS put(id, organization_id, email, email_key, display_name, is_active, epoch, created_at, updated_at)
    ON CONFLICT (id) DO UPDATE SET
        email = excluded.email, email_key = excluded.email_key, display_name = excluded.display_name,
        status = excluded.status, epoch = excluded.epoch, updated_at = excluded.updated_at
"""

PUT_USERS = """
    INSERT INTO users (id, connection_id, account_id, user_name, user_name_key, external_id, active, resource,
                       version, created_at, last_modified, late_fingerprint, email_keys)
    SELECT id, connection_id, account_id, user_name, user_name_key, external_id, active, resource, version, created_at,
           last_modified, late_fingerprint, ARRAY(SELECT jsonb_array_elements_text(email_keys::jsonb))
    FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::bool[], $8::jsonb[],
                $9::int[], $10::timestamptz[], $11::timestamptz[], $12::text[], $13::text[])
        AS put(id, connection_id, account_id, user_name, user_name_key, external_id, active, resource, version,
               created_at, last_modified, late_fingerprint, email_keys)
    ON CONFLICT (id) DO UPDATE SET
        user_name = excluded.user_name, user_name_key = excluded.user_name_key, external_id = excluded.external_id,
        active = excluded.active, resource = excluded.resource, version = excluded.version,
        last_modified = excluded.last_modified, late_fingerprint = excluded.late_fingerprint,
        email_keys = excluded.email_keys
"""

ADD_TOMBSTONES = """
    INSERT INTO user_tombstones (id, connection_id, account_id, user_name_key, external_id, deleted_at)
    SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::timestamptz[])
    UNION ALL
    SELECT id, connection_id, account_id, user_name_key, external_id, $7::timestamptz FROM closed_users
"""

# Memberships go with their groups.
DELETE_GROUPS = "DELETE FROM groups WHERE id = ANY($1::uuid[])"

PUT_GROUPS = """
    INSERT INTO groups (id, connection_id, display_name, display_name_key, external_id, resource, version,
                        created_at, last_modified, late_fingerprint)
    SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::jsonb[], $7::int[],
                         $8::timestamptz[], $9::timestamptz[], $10::text[])
    ON CONFLICT (id) DO UPDATE SET
        display_name = excluded.display_name, display_name_key = excluded.display_name_key,
        external_id = excluded.external_id, resource = excluded.resource, version = excluded.version,
        last_modified = excluded.last_modified, late_fingerprint = excluded.late_fingerprint
"""

REMOVE_MEMBERS = """
    DELETE FROM memberships m USING unnest($1::uuid[], $2::uuid[]) AS k(group_id, member_id)
    WHERE m.group_id = k.group_id AND m.member_id = k.member_id
"""

ADD_MEMBERS = """
    INSERT INTO memberships (group_id, member_id, member_type)
    SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::text[])
    ON CONFLICT DO NOTHING
"""

# The deletion of a connection stands alone in its batch, so nothing else touches these rows.
CLOSE_USERS = """
    DELETE FROM users WHERE connection_id = ANY($1::uuid[]) AND version > 0
    RETURNING id, connection_id, account_id, user_name_key, external_id
"""

CLOSE_GROUPS = "DELETE FROM groups WHERE connection_id = ANY($1::uuid[]) AND version > 0"

ADD_LINKS = """
    INSERT INTO links (connection_id, account_id, origin, created_at)
    SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::timestamptz[])
    ON CONFLICT DO NOTHING
"""

REVOKE_SESSIONS = """
    UPDATE sessions SET revoked_at = $3::timestamptz
    FROM unnest($1::uuid[], $2::int[]) AS account(id, epoch)
    WHERE sessions.account_id = account.id AND sessions.epoch < account.epoch AND sessions.revoked_at IS NULL
"""

COUNT = """
    INSERT INTO connection_stats (connection_id, users, groups, last_success_at, last_error_at)
    SELECT counted.* FROM unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::timestamptz[], $5::timestamptz[])
        AS counted(connection_id, users, groups, last_success_at, last_error_at)
        JOIN connections c ON c.id = counted.connection_id  -- a record may name one that never was
    ON CONFLICT (connection_id) DO UPDATE SET
        users = CASE WHEN connection_stats.connection_id = ANY($6::uuid[]) THEN 0
                     ELSE connection_stats.users + excluded.users END,
        groups = CASE WHEN connection_stats.connection_id = ANY($6::uuid[]) THEN 0
                      ELSE connection_stats.groups + excluded.groups END,
        last_success_at = coalesce(excluded.last_success_at, connection_stats.last_success_at),
        last_error_at = coalesce(excluded.last_error_at, connection_stats.last_error_at)
"""

# A minute's precision is enough for people, and spares a row version with each batch.
TOUCH_TOKENS = """
    UPDATE tokens SET last_used_at = $2::timestamptz
    WHERE id = ANY($1::uuid[]) AND (last_used_at IS NULL OR last_used_at < $2::timestamptz - interval '1 minute')
"""

ADD_OUTCOMES = """
    INSERT INTO outcomes (change_id, organization_id, connection_id, token_id, actor, resource_type, operation,
                          resource_id, status, reply, request, received_at, applied_at)
    SELECT *, $13::timestamptz
    FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], $5::text[], $6::text[], $7::text[], $8::uuid[],
                $9::smallint[], $10::bytea[], $11::jsonb[], $12::timestamptz[])
"""

ADD_QUARANTINE = """
    INSERT INTO quarantine (id, topic, partition, record_offset, key, value, change_id, organization_id, error,
                            created_at)
    SELECT *, $10::timestamptz
    FROM unnest($1::uuid[], $2::text[], $3::int[], $4::bigint[], $5::bytea[], $6::bytea[], $7::uuid[], $8::uuid[],
                $9::text[])
    ON CONFLICT (topic, partition, record_offset) DO NOTHING
"""


def _combine(parts: dict[str, str]) -> str:
    """One statement, and so one transaction, that runs all `parts`, each with its own parameters from $1 on.

    All of them see the state before the statement, and no two of them write the same row; constraints are checked at
    its end or, where deferred, at COMMIT.
    """
    combined, shift = [], 0
    for name, part in parts.items():
        count = max((int(number) for number in re.findall(r"\$(\d+)", part)), default=0)
        shifted = re.sub(r"\$(\d+)", lambda match, by=shift: f"${int(match[1]) + by}", part)
        combined.append(f"{name} AS ({shifted})")
        shift += count
    # Nothing is written unless the fence found its row: the division by zero takes all of it back.
    return f"WITH {', '.join(combined)} SELECT 1 / count(*) FROM fence"


FLUSH = _combine(
    {
        "fence": ADVANCE,
        "deleted_users": DELETE_USERS,
        "closed_users": CLOSE_USERS,
        "put_accounts": PUT_ACCOUNTS,
        "put_users": PUT_USERS,
        "added_tombstones": ADD_TOMBSTONES,
        "deleted_groups": DELETE_GROUPS,
        "closed_groups": CLOSE_GROUPS,
        "put_groups": PUT_GROUPS,
        "removed_members": REMOVE_MEMBERS,
        "added_members": ADD_MEMBERS,
        "added_links": ADD_LINKS,
        "revoked_sessions": REVOKE_SESSIONS,
        "counted": COUNT,
        "touched_tokens": TOUCH_TOKENS,
        "added_outcomes": ADD_OUTCOMES,
        "added_quarantine": ADD_QUARANTINE,
    }
)


class FenceFailed(Exception):
    """The partition's offset or epoch is not the claim's any more; nothing was written."""


async def flush(db: Db, held: Claim, end: int, results: Results, applied_at: datetime) -> None:
    """Advance the claim's offset to `end` and write what the batch decided, all or, with FenceFailed, nothing.

    The arguments are those of the parts of FLUSH, in their order.
    """
    accounts, closed = results.accounts, results.closed_connections
    arguments = (
        *(held.topic, held.partition, held.next_offset, end, held.epoch),
        [tombstone.id for tombstone in results.tombstones],
        closed,
        *_account_columns(accounts),
        *_user_columns(results.users),
        *_tombstone_columns(results.tombstones),
        applied_at,
        results.removed_groups,
        closed,
        *_group_columns(results.groups),
        *_transposed(results.left, 2),
        *_transposed(results.joined, 3),
        *_transposed(
            [(link.connection_id, link.account_id, link.origin, link.created_at) for link in results.links], 4
        ),
        [account.id for account in accounts],
        [account.epoch for account in accounts],
        applied_at,
        *_transposed(results.counts(applied_at), 5),
        closed,
        results.tokens,
        applied_at,
        *_outcome_columns(results),
        applied_at,
        *_quarantine_columns(results.poison),
        applied_at,
    )
    try:
        await db.execute(FLUSH, *arguments)
    except asyncpg.DivisionByZeroError as error:
        raise FenceFailed from error


def _transposed(rows: Sequence[tuple[Any, ...]], width: int) -> list[list[Any]]:
    return [[row[column] for row in rows] for column in range(width)]


def _account_columns(accounts: Sequence[Account]) -> tuple[list, ...]:
    return (
        [account.id for account in accounts],
        [account.organization_id for account in accounts],
        [account.email for account in accounts],
        [account.email_key for account in accounts],
        [account.display_name for account in accounts],
        [account.is_active for account in accounts],
        [account.epoch for account in accounts],
        [account.created_at for account in accounts],
        [account.updated_at for account in accounts],
    )


def _user_columns(users: Sequence[User]) -> tuple[list, ...]:
    return (
        [user.id for user in users],
        [user.connection_id for user in users],
        [user.account_id for user in users],
        [user.user_name for user in users],
        [user.user_name_key for user in users],
        [user.external_id for user in users],
        [user.active for user in users],
        [user.resource for user in users],
        [user.version for user in users],
        [user.created_at for user in users],
        [user.last_modified for user in users],
        [user.late_fingerprint for user in users],
        # As JSON text: asyncpg would take lists in a list for a matrix.
        [orjson.dumps(sorted(emails_of(user.resource))).decode() for user in users],
    )


def _group_columns(groups: Sequence[Group]) -> tuple[list, ...]:
    return (
        [group.id for group in groups],
        [group.connection_id for group in groups],
        [group.display_name for group in groups],
        [group.display_name_key for group in groups],
        [group.external_id for group in groups],
        [group.resource for group in groups],
        [group.version for group in groups],
        [group.created_at for group in groups],
        [group.last_modified for group in groups],
        [group.late_fingerprint for group in groups],
    )


def _tombstone_columns(tombstones: Sequence[Tombstone]) -> tuple[list, ...]:
    return (
        [stone.id for stone in tombstones],
        [stone.connection_id for stone in tombstones],
        [stone.account_id for stone in tombstones],
        [stone.user_name_key for stone in tombstones],
        [stone.external_id for stone in tombstones],
        [stone.deleted_at for stone in tombstones],
    )


def _outcome_columns(results: Results) -> tuple[list, ...]:
    decided = results.decided
    return (
        [change.id for change, _, _ in decided],
        [change.organization_id for change, _, _ in decided],
        [change.connection_id for change, _, _ in decided],
        [change.token_id for change, _, _ in decided],
        [change.actor for change, _, _ in decided],
        [change.resource_type.value for change, _, _ in decided],
        [change.operation.value for change, _, _ in decided],
        [outcome.resource_id for _, outcome, _ in decided],
        [outcome.status for _, outcome, _ in decided],
        [reply for _, _, reply in decided],
        [change.request.model_dump(mode="json") if change.request else None for change, _, _ in decided],
        [change.received_at for change, _, _ in decided],
    )


def _quarantine_columns(poison: Sequence[Poison]) -> tuple[list, ...]:
    return (
        [item.id for item in poison],
        [item.record.topic for item in poison],
        [item.record.partition for item in poison],
        [item.record.offset for item in poison],
        [item.record.key for item in poison],
        [item.record.value for item in poison],
        [item.change.id if item.change else None for item in poison],
        [item.change.organization_id if item.change else None for item in poison],
        [item.error for item in poison],
    )
