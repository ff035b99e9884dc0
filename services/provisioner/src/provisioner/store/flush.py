"""Writing what a batch decided, behind the fence."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from operator import attrgetter
from typing import Any

import asyncpg
import orjson

from contracts import NO_CONNECTION, Change, Outcome
from provisioner.chain import ChainedEvent, chain
from provisioner.records import Poison
from provisioner.results import Results
from provisioner.rules.users import emails_of
from provisioner.state import Account, Group, Link, Tombstone, User
from provisioner.store import grants, rare
from provisioner.store.claims import Claim, Db
from provisioner.store.grants import RoleChanges
from provisioner.store.parts import Columns, Part, Statement


@dataclass(frozen=True, slots=True)
class Batch:
    """What the parts take their arguments from."""

    held: Claim
    end: int
    results: Results
    at: datetime


def _transposed(rows: Sequence[tuple[Any, ...]], width: int) -> Columns:
    """The rows as `width` columns."""
    return [*zip(*rows, strict=True)] or [()] * width


def _fields_of(kind: type) -> attrgetter:
    """A row of what has the columns of its table as fields, in their order."""
    return attrgetter(*(field.name for field in fields(kind)))


_account_row, _tombstone_row, _group_row, _link_row = map(_fields_of, (Account, Tombstone, Group, Link))
_user_fields = _fields_of(User)


def _user_row(user: User) -> tuple[Any, ...]:
    # The emails as JSON text: asyncpg would take lists in a list for a matrix.
    return (*_user_fields(user), orjson.dumps(sorted(emails_of(user.resource))).decode())


def _outcome_row(decided: tuple[Change, Outcome, bytes]) -> tuple[Any, ...]:
    change, outcome, reply = decided
    return (
        *(change.id, change.organization_id, None if change.connection_id == NO_CONNECTION else change.connection_id),
        *(change.token_id, change.actor, change.resource_type.value, change.operation.value, outcome.resource_id),
        *(outcome.status, reply, vars(change.request) if change.request else None, change.received_at),
    )


def _event_row(event: ChainedEvent) -> tuple[Any, ...]:
    row = event.row
    return (
        *(event.seq, row.id, row.organization_id, row.connection_id, row.token_id, row.actor, row.change_id, row.type),
        *(row.subject_type, row.subject_id, row.at, row.data, event.digest, event.hash),
    )


def _quarantine_row(item: Poison) -> tuple[Any, ...]:
    record, change = item.record, item.change
    return (
        *(item.id, record.topic, record.partition, record.offset, record.key, record.value),
        *((change.id, change.organization_id) if change else (None, None)),
        item.error,
    )


def _event_columns(events: Sequence[ChainedEvent]) -> Columns:
    return _transposed([_event_row(event) for event in events], 14)


def _time(batch: Batch) -> tuple[datetime]:
    return (batch.at,)


# The fence: the offset is where this claim left it, so nobody else has applied anything since and what was loaded
# still holds; or this finds no row.
ADVANCE = """
    UPDATE partition_offsets SET next_offset = $4
    WHERE topic = $1 AND partition = $2 AND next_offset = $3 AND epoch = $5
    RETURNING partition
"""
FENCE = Part[Batch](
    "fence",
    ADVANCE,
    lambda _: (),
    lambda batch: (batch.held.topic, batch.held.partition, batch.held.next_offset, batch.end, batch.held.epoch),
)

# Whoever revokes a token waits for the batches that used it, and those that come later see it (T20, P10).
HOLD_TOKENS = Part[Batch](
    "held_tokens",
    """
    SELECT count(*) = cardinality($1::uuid[]) AS are_live
    FROM (SELECT FROM tokens WHERE id = ANY($1::uuid[]) AND revoked_at IS NULL FOR SHARE) AS live
    """,
    lambda batch: (batch.results.live_tokens,),
)

DELETE_USERS = Part[Batch](
    "deleted_users",
    "DELETE FROM users WHERE id = ANY($1::uuid[])",
    lambda batch: ([stone.id for stone in batch.results.tombstones],),
)

PUT_ACCOUNTS = Part[Batch](
    "put_accounts",
    """
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
    """,
    lambda batch: _transposed([_account_row(account) for account in batch.results.accounts], 10),
)

PUT_USERS = Part[Batch](
    "put_users",
    """
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
    """,
    lambda batch: _transposed([_user_row(user) for user in batch.results.users], 14),
)

ADD_TOMBSTONES = Part[Batch](
    "added_tombstones",
    """
    INSERT INTO user_tombstones (id, connection_id, account_id, user_name_key, external_id, deleted_at)
    SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::timestamptz[])
    """,
    lambda batch: _transposed([_tombstone_row(stone) for stone in batch.results.tombstones], 6),
)

# Memberships go with their groups.
DELETE_GROUPS = Part[Batch](
    "deleted_groups", "DELETE FROM groups WHERE id = ANY($1::uuid[])", lambda batch: (batch.results.removed_groups,)
)

PUT_GROUPS = Part[Batch](
    "put_groups",
    """
    INSERT INTO groups (id, connection_id, display_name, display_name_key, external_id, resource, version,
                        created_at, last_modified, late_fingerprint, owns_name, name_version)
    SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::jsonb[], $7::int[],
                         $8::timestamptz[], $9::timestamptz[], $10::text[], $11::bool[], $12::bigint[])
    ON CONFLICT (id) DO UPDATE SET
        display_name = excluded.display_name, display_name_key = excluded.display_name_key,
        external_id = excluded.external_id, resource = excluded.resource, version = excluded.version,
        last_modified = excluded.last_modified, late_fingerprint = excluded.late_fingerprint,
        owns_name = excluded.owns_name, name_version = excluded.name_version
    """,
    lambda batch: _transposed([_group_row(group) for group in batch.results.groups], 12),
)

REMOVE_MEMBERS = Part[Batch](
    "removed_members",
    """
    DELETE FROM memberships m USING unnest($1::uuid[], $2::uuid[]) AS k(group_id, member_id)
    WHERE m.group_id = k.group_id AND m.member_id = k.member_id
    """,
    lambda batch: _transposed([membership[:2] for membership in batch.results.left], 2),
)

ADD_MEMBERS = Part[Batch](
    "added_members",
    """
    INSERT INTO memberships (group_id, member_id, member_type, mappings_version)
    SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::bigint[])
    ON CONFLICT DO NOTHING
    """,
    lambda batch: _transposed(batch.results.versioned_joined(), 4),
)

# The deletion of a connection stands alone in its batch, so nothing else touches these rows.
CLOSE_USERS = Part[Batch](
    "closed_users",
    """
    DELETE FROM users WHERE connection_id = ANY($1::uuid[]) AND version > 0
    RETURNING id, connection_id, account_id, user_name_key, external_id
    """,
    lambda batch: (batch.results.closed_connections,),
)

ADD_CLOSED = Part[Batch](
    "added_closed",
    """
    INSERT INTO user_tombstones (id, connection_id, account_id, user_name_key, external_id, deleted_at)
    SELECT id, connection_id, account_id, user_name_key, external_id, $1::timestamptz FROM closed_users
    """,
    lambda _: (),
    _time,
)

CLOSE_GROUPS = Part[Batch](
    "closed_groups",
    "DELETE FROM groups WHERE connection_id = ANY($1::uuid[]) AND version > 0",
    lambda batch: (batch.results.closed_connections,),
)

ADD_LINKS = Part[Batch](
    "added_links",
    """
    INSERT INTO links (connection_id, account_id, origin, created_at)
    SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::timestamptz[])
    ON CONFLICT DO NOTHING
    """,
    lambda batch: _transposed([_link_row(link) for link in batch.results.links], 4),
)

REVOKE_SESSIONS = Part[Batch](
    "revoked_sessions",
    """
    UPDATE sessions SET revoked_at = $3::timestamptz
    FROM unnest($1::uuid[], $2::int[]) AS account(id, epoch)
    WHERE sessions.account_id = account.id AND sessions.epoch < account.epoch AND sessions.revoked_at IS NULL
    """,
    lambda batch: _transposed([(account.id, account.epoch) for account in batch.results.known_accounts], 2),
    _time,
)

COUNT = Part[Batch](
    "counted",
    """
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
    """,
    lambda batch: (*_transposed(batch.results.counts(batch.at), 7), batch.results.closed_connections),
)

# A minute's precision is enough for people, and spares a row version with each batch.
TOUCH_TOKENS = Part[Batch](
    "touched_tokens",
    """
    UPDATE tokens SET last_used_at = $2::timestamptz
    WHERE id = ANY($1::uuid[]) AND (last_used_at IS NULL OR last_used_at < $2::timestamptz - interval '1 minute')
    """,
    lambda batch: (batch.results.rested_tokens,),
    _time,
)

ADD_OUTCOMES = Part[Batch](
    "added_outcomes",
    """
    INSERT INTO outcomes (change_id, organization_id, connection_id, token_id, actor, resource_type, operation,
                          resource_id, status, reply, request, received_at, applied_at)
    SELECT *, $13::timestamptz
    FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], $5::text[], $6::text[], $7::text[], $8::uuid[],
                $9::smallint[], $10::bytea[], $11::jsonb[], $12::timestamptz[])
    """,
    lambda batch: _transposed([_outcome_row(decided) for decided in batch.results.decided], 12),
    _time,
)

COUNT_DEACTIVATIONS = Part[Batch](
    "counted_deactivations",
    """
    INSERT INTO deactivations (connection_id, minute, users)
    SELECT * FROM unnest($1::uuid[], $2::timestamptz[], $3::int[])
    ON CONFLICT (connection_id, minute) DO UPDATE SET users = deactivations.users + excluded.users
    """,
    lambda batch: _transposed([(*key, count) for key, count in batch.results.deactivations.items()], 3),
)

FORGET_DEACTIVATIONS = Part[Batch](
    "forgotten_deactivations",
    """
    DELETE FROM deactivations WHERE connection_id = ANY($1::uuid[]) AND minute < $2::timestamptz - interval '1 day'
    """,
    lambda batch: ([connection_id for connection_id, _ in batch.results.deactivations],),
    _time,
)

ADD_NAMES = Part[Batch](
    "added_names",
    """
    INSERT INTO group_names (connection_id, display_name) SELECT * FROM unnest($1::uuid[], $2::text[])
    ON CONFLICT DO NOTHING
    """,
    lambda batch: _transposed(list(batch.results.borne_names), 2),
)

ADD_EVENTS = """
    INSERT INTO events (seq, id, organization_id, connection_id, token_id, actor, change_id, type, subject_type,
                        subject_id, at, data, digest, hash, chain)
    SELECT *, $15::smallint
    FROM unnest($1::bigint[], $2::uuid[], $3::uuid[], $4::uuid[], $5::uuid[], $6::text[], $7::uuid[], $8::text[],
                $9::text[], $10::uuid[], $11::timestamptz[], $12::jsonb[], $13::bytea[], $14::bytea[])
"""

CHAIN_EVENTS = Part[Batch](
    "added_events",
    ADD_EVENTS,
    lambda batch: _event_columns(batch.results.events),
    lambda batch: (batch.held.partition,),
)

ADD_QUARANTINE = Part[Batch](
    "added_quarantine",
    """
    INSERT INTO quarantine (id, topic, partition, record_offset, key, value, change_id, organization_id, error,
                            created_at)
    SELECT *, $10::timestamptz
    FROM unnest($1::uuid[], $2::text[], $3::int[], $4::bigint[], $5::bytea[], $6::bytea[], $7::uuid[], $8::uuid[],
                $9::text[])
    ON CONFLICT (topic, partition, record_offset) DO NOTHING
    """,
    lambda batch: _transposed([_quarantine_row(item) for item in batch.results.poison], 9),
    _time,
)


# Nothing is written unless the fence found its row, and every token is still live: the division by zero takes all of it
# back. No two parts write the same row; constraints are checked at the end or, where deferred, at COMMIT.
FLUSH = Statement[Batch](
    [FENCE, HOLD_TOKENS, COUNT, ADD_OUTCOMES, CHAIN_EVENTS],
    [
        # What few batches do is one bundle, so that there are fewer texts to plan.
        [
            *(DELETE_USERS, CLOSE_USERS, ADD_TOMBSTONES, ADD_CLOSED, DELETE_GROUPS, CLOSE_GROUPS),
            *(TOUCH_TOKENS, ADD_QUARANTINE),
        ],
        [PUT_ACCOUNTS, PUT_USERS, ADD_LINKS],
        [REVOKE_SESSIONS, COUNT_DEACTIVATIONS, FORGET_DEACTIVATIONS],
        [PUT_GROUPS, REMOVE_MEMBERS, ADD_MEMBERS, ADD_NAMES],
    ],
    lambda _: "SELECT 1 / (count(*) * (SELECT are_live FROM held_tokens)::int) FROM fence",
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
    results.events = chain(last_event, results.facts)
    statement, arguments = FLUSH.of(Batch(held, end, results, applied_at))
    try:
        await db.execute(statement, *arguments)
    except asyncpg.DivisionByZeroError as error:
        raise FenceFailed from error
