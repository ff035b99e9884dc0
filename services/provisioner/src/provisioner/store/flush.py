"""Writing what a batch decided, behind the fence."""

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg
import orjson

from contracts import NO_CONNECTION
from provisioner.chain import ChainedEvent, chain
from provisioner.records import Poison
from provisioner.results import Results
from provisioner.rules.users import emails_of
from provisioner.state import Account, Group, Tombstone, User
from provisioner.store import grants, rare
from provisioner.store.claims import Claim, Db
from provisioner.store.grants import RoleChanges

# The fence: the offset is where this claim left it, so nobody else has applied anything since and what was loaded
# still holds; or this finds no row.
ADVANCE = """
    UPDATE partition_offsets SET next_offset = $4
    WHERE topic = $1 AND partition = $2 AND next_offset = $3 AND epoch = $5
    RETURNING partition
"""

# Whoever revokes a token waits for the batches that used it, and those that come later see it (T20, P10).
HOLD_TOKENS = "SELECT id FROM tokens WHERE id = ANY($1::uuid[]) AND revoked_at IS NULL FOR SHARE"

DELETE_USERS = "DELETE FROM users WHERE id = ANY($1::uuid[])"

PUT_ACCOUNTS = """
    INSERT INTO accounts (id, organization_id, email, email_key, display_name, status, epoch, break_glass,
                          created_at, updated_at)
    SELECT id, organization_id, email, email_key, display_name,
           CASE WHEN is_active THEN 'active' ELSE 'suspended' END, epoch, break_glass, created_at, updated_at
    FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::bool[], $7::int[], $8::bool[],
                $9::timestamptz[], $10::timestamptz[])
        AS put(id, organization_id, email, email_key, display_name, is_active, epoch, break_glass, created_at,
               updated_at)
    ON CONFLICT (id) DO UPDATE SET
        email = excluded.email, email_key = excluded.email_key, display_name = excluded.display_name,
        status = excluded.status, epoch = excluded.epoch, break_glass = excluded.break_glass,
        updated_at = excluded.updated_at
"""

PUT_USERS = """
    INSERT INTO users (id, connection_id, account_id, user_name, user_name_key, external_id, active, resource,
                       version, created_at, last_modified, late_fingerprint, deactivated_at, email_keys)
    SELECT id, connection_id, account_id, user_name, user_name_key, external_id, active, resource, version, created_at,
           last_modified, late_fingerprint, deactivated_at, ARRAY(SELECT jsonb_array_elements_text(email_keys::jsonb))
    FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::bool[], $8::jsonb[],
                $9::int[], $10::timestamptz[], $11::timestamptz[], $12::text[], $13::timestamptz[], $14::text[])
        AS put(id, connection_id, account_id, user_name, user_name_key, external_id, active, resource, version,
               created_at, last_modified, late_fingerprint, deactivated_at, email_keys)
    ON CONFLICT (id) DO UPDATE SET
        user_name = excluded.user_name, user_name_key = excluded.user_name_key, external_id = excluded.external_id,
        active = excluded.active, resource = excluded.resource, version = excluded.version,
        last_modified = excluded.last_modified, late_fingerprint = excluded.late_fingerprint,
        deactivated_at = excluded.deactivated_at, email_keys = excluded.email_keys
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
                        created_at, last_modified, late_fingerprint, owns_name, name_version)
    SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::jsonb[], $7::int[],
                         $8::timestamptz[], $9::timestamptz[], $10::text[], $11::bool[], $12::bigint[])
    ON CONFLICT (id) DO UPDATE SET
        display_name = excluded.display_name, display_name_key = excluded.display_name_key,
        external_id = excluded.external_id, resource = excluded.resource, version = excluded.version,
        last_modified = excluded.last_modified, late_fingerprint = excluded.late_fingerprint,
        owns_name = excluded.owns_name, name_version = excluded.name_version
"""

REMOVE_MEMBERS = """
    DELETE FROM memberships m USING unnest($1::uuid[], $2::uuid[]) AS k(group_id, member_id)
    WHERE m.group_id = k.group_id AND m.member_id = k.member_id
"""

ADD_MEMBERS = """
    INSERT INTO memberships (group_id, member_id, member_type, mappings_version)
    SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::bigint[])
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
    INSERT INTO connection_stats (connection_id, users, active_users, groups, last_success_at, last_error_at,
                                  guard_tripped_at)
    SELECT counted.* FROM unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::bigint[], $5::timestamptz[],
                                 $6::timestamptz[], $7::timestamptz[])
        AS counted(connection_id, users, active_users, groups, last_success_at, last_error_at, guard_tripped_at)
        JOIN connections c ON c.id = counted.connection_id  -- a record may name one that never was
    ON CONFLICT (connection_id) DO UPDATE SET
        users = CASE WHEN connection_stats.connection_id = ANY($8::uuid[]) THEN 0
                     ELSE connection_stats.users + excluded.users END,
        active_users = CASE WHEN connection_stats.connection_id = ANY($8::uuid[]) THEN 0
                            ELSE connection_stats.active_users + excluded.active_users END,
        groups = CASE WHEN connection_stats.connection_id = ANY($8::uuid[]) THEN 0
                      ELSE connection_stats.groups + excluded.groups END,
        last_success_at = coalesce(excluded.last_success_at, connection_stats.last_success_at),
        last_error_at = coalesce(excluded.last_error_at, connection_stats.last_error_at),
        guard_tripped_at = coalesce(excluded.guard_tripped_at, connection_stats.guard_tripped_at)
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

COUNT_DEACTIVATIONS = """
    INSERT INTO deactivations (connection_id, minute, users)
    SELECT * FROM unnest($1::uuid[], $2::timestamptz[], $3::int[])
    ON CONFLICT (connection_id, minute) DO UPDATE SET users = deactivations.users + excluded.users
"""

FORGET_DEACTIVATIONS = """
    DELETE FROM deactivations WHERE connection_id = ANY($1::uuid[]) AND minute < $2::timestamptz - interval '1 day'
"""

ADD_NAMES = """
    INSERT INTO group_names (connection_id, display_name) SELECT * FROM unnest($1::uuid[], $2::text[])
    ON CONFLICT DO NOTHING
"""

ADD_EVENTS = """
    INSERT INTO events (seq, id, organization_id, connection_id, token_id, actor, change_id, type, subject_type,
                        subject_id, at, data, digest, hash, chain)
    SELECT *, $15::smallint
    FROM unnest($1::bigint[], $2::uuid[], $3::uuid[], $4::uuid[], $5::uuid[], $6::text[], $7::uuid[], $8::text[],
                $9::text[], $10::uuid[], $11::timestamptz[], $12::jsonb[], $13::bytea[], $14::bytea[])
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
    # Nothing is written unless the fence found its row, and every token is still live: the division by zero takes all
    # of it back.
    return f"""
        WITH {", ".join(combined)}
        SELECT 1 / (count(*) * (${shift + 1} = (SELECT count(*) FROM held_tokens))::int) FROM fence
    """


FLUSH = _combine(
    {
        "fence": ADVANCE,
        "held_tokens": HOLD_TOKENS,
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
        "counted_deactivations": COUNT_DEACTIVATIONS,
        "forgotten_deactivations": FORGET_DEACTIVATIONS,
        "added_names": ADD_NAMES,
        "added_events": ADD_EVENTS,
        "added_quarantine": ADD_QUARANTINE,
    }
)


class FenceFailed(Exception):
    """The partition's offset or epoch is not the claim's any more, or a token was revoked; nothing was written."""


async def flush(
    db: Db, held: Claim, end: int, results: Results, last_event: tuple[int, bytes], applied_at: datetime
) -> None:
    """Advance the claim's offset to `end` and write what the batch decided, all or, with FenceFailed, nothing.

    `last_event` is the end of the partition's chain; afterwards `results.events` holds the rows behind it.
    """
    if results.is_plain:
        await _flush(db, held, end, results, last_event, applied_at)
        return
    async with db.transaction():
        await write(db, held, end, results, last_event, applied_at)


async def rehearse(
    db: Db, held: Claim, end: int, results: Results, last_event: tuple[int, bytes], applied_at: datetime
) -> RoleChanges:
    """Write everything and take it back; the roles that it moved."""
    transaction = db.transaction()
    await transaction.start()
    try:
        moved = await write(db, held, end, results, last_event, applied_at)
        await db.execute("SET CONSTRAINTS ALL IMMEDIATE")
    finally:
        await transaction.rollback()
    return moved


async def write(
    db: Db, held: Claim, end: int, results: Results, last_event: tuple[int, bytes], applied_at: datetime
) -> RoleChanges:
    """Within the caller's transaction: the rows, what is rare, and the roles that follow from them."""
    await rare.close_grants(db, results)
    await _flush(db, held, end, results, last_event, applied_at)
    await rare.write(db, results, applied_at)
    moved = await grants.move(db, results.roles, results.joined, results.left, applied_at)
    facts = moved.facts(results.roles, results.decided[-1][0]) if results.roles else []
    if facts:
        before = results.events
        after = chain((before[-1].seq, before[-1].hash) if before else last_event, facts)
        await db.execute(ADD_EVENTS, *_event_columns(after), held.partition)
        results.events = [*before, *after]
    return moved


async def _flush(
    db: Db, held: Claim, end: int, results: Results, last_event: tuple[int, bytes], applied_at: datetime
) -> None:
    """The arguments are those of the parts of FLUSH, in their order."""
    accounts, closed = results.accounts, results.closed_connections
    results.events = chain(last_event, results.facts)
    arguments = (
        *(held.topic, held.partition, held.next_offset, end, held.epoch),
        results.live_tokens,
        [tombstone.id for tombstone in results.tombstones],
        closed,
        *_account_columns(accounts),
        *_user_columns(results.users),
        *_tombstone_columns(results.tombstones),
        applied_at,
        results.removed_groups,
        closed,
        *_group_columns(results.groups),
        *_transposed([(group_id, member_id) for group_id, member_id, _ in results.left], 2),
        *_transposed(results.versioned_joined(), 4),
        *_transposed(
            [(link.connection_id, link.account_id, link.origin, link.created_at) for link in results.links], 4
        ),
        [account.id for account in accounts],
        [account.epoch for account in accounts],
        applied_at,
        *_transposed(results.counts(applied_at), 7),
        closed,
        results.tokens,
        applied_at,
        *_outcome_columns(results),
        applied_at,
        *_transposed([(*key, count) for key, count in results.deactivations.items()], 3),
        [connection_id for connection_id, _ in results.deactivations],
        applied_at,
        *_transposed(list(results.borne_names), 2),
        *_event_columns(results.events),
        held.partition,
        *_quarantine_columns(results.poison),
        applied_at,
        len(results.live_tokens),
    )
    try:
        await db.execute(FLUSH, *arguments)
    except asyncpg.DivisionByZeroError as error:
        raise FenceFailed from error


def _event_columns(events: Sequence[ChainedEvent]) -> list[list[Any]]:
    rows = [
        (
            *(event.seq, event.row.id, event.row.organization_id, event.row.connection_id, event.row.token_id),
            *(event.row.actor, event.row.change_id, event.row.type, event.row.subject_type, event.row.subject_id),
            *(event.row.at, event.row.data, event.digest, event.hash),
        )
        for event in events
    ]
    return _transposed(rows, 14)


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
        [account.break_glass for account in accounts],
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
        [user.deactivated_at for user in users],
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
        [group.owns_name for group in groups],
        [group.name_version for group in groups],
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
        [_no_nil(change.connection_id) for change, _, _ in decided],
        [change.token_id for change, _, _ in decided],
        [change.actor for change, _, _ in decided],
        [change.resource_type.value for change, _, _ in decided],
        [change.operation.value for change, _, _ in decided],
        [outcome.resource_id for _, outcome, _ in decided],
        [outcome.status for _, outcome, _ in decided],
        [reply for _, _, reply in decided],
        [vars(change.request) if change.request else None for change, _, _ in decided],
        [change.received_at for change, _, _ in decided],
    )


def _no_nil(connection_id: UUID) -> UUID | None:
    return None if connection_id == NO_CONNECTION else connection_id


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
