"""All SQL of the provisioner: each function runs a fixed number of statements, whatever the size of the batch."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache
from typing import Any
from uuid import UUID

import asyncpg
import orjson

from provisioner.batch import Poison, Results
from provisioner.rules.users import emails_of
from provisioner.state import Account, Connection, Directory, Group, Tombstone, Touched, User
from scim.schema import GROUP, USER, ResourceType, schema_from_json

type Db = asyncpg.Connection | asyncpg.pool.PoolConnectionProxy


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to apply one partition from `next_offset` on, for as long as nobody raises the epoch."""

    topic: str
    partition: int
    next_offset: int
    epoch: int


# --- claim and fence -----------------------------------------------------------------------------------------------

CLAIM = """
    INSERT INTO partition_offsets (topic, partition, next_offset, epoch, owner)
    VALUES ($1, $2, $3, 1, $4)
    ON CONFLICT (topic, partition) DO UPDATE SET epoch = partition_offsets.epoch + 1, owner = excluded.owner
    RETURNING next_offset, epoch
"""

CURRENT = "SELECT next_offset, epoch FROM partition_offsets WHERE topic = $1 AND partition = $2"


async def claim(db: Db, topic: str, partition: int, first_offset: int, owner: str) -> Claim:
    """Take the partition over: every earlier claim is void. A partition never seen starts at `first_offset`."""
    row = await db.fetchrow(CLAIM, topic, partition, first_offset, owner)
    assert row is not None
    return Claim(topic, partition, row["next_offset"], row["epoch"])


async def current(db: Db, held: Claim) -> Claim | None:
    """The partition's offset and epoch as committed."""
    row = await db.fetchrow(CURRENT, held.topic, held.partition)
    return replace(held, next_offset=row["next_offset"], epoch=row["epoch"]) if row else None


# --- load ----------------------------------------------------------------------------------------------------------

USER_COLUMNS = """u.id, u.connection_id, u.account_id, u.user_name, u.user_name_key, u.external_id, u.active,
    u.resource, u.version, u.created_at, u.last_modified, u.late_fingerprint"""
TOMBSTONE_COLUMNS = "s.id, s.connection_id, s.account_id, s.user_name_key, s.external_id, s.deleted_at"
ACCOUNT_COLUMNS = """a.id, a.organization_id, a.email, a.email_key, a.display_name, a.status = 'active' AS is_active,
    a.epoch, a.break_glass, a.created_at, a.updated_at"""
GROUP_COLUMNS = """g.id, g.connection_id, g.display_name, g.display_name_key, g.external_id, g.resource, g.version,
    g.created_at, g.last_modified, g.late_fingerprint"""

# One round trip for the whole batch, as arrays of rows. The emails of users that exist are looked up too: any of them
# may become the account's. The bounds on change ids let the planner skip the partitions of other days. How groups are
# nested is read only where a group is to become a member.
LOAD = f"""
    WITH found_users AS MATERIALIZED (
        SELECT {USER_COLUMNS}, u.email_keys FROM users u WHERE u.id = ANY($4::uuid[])
        UNION ALL
        SELECT {USER_COLUMNS}, u.email_keys FROM unnest($5::uuid[], $6::text[]) AS k(connection_id, name)
            JOIN users u ON u.connection_id = k.connection_id AND u.user_name_key = k.name
        UNION ALL
        SELECT {USER_COLUMNS}, u.email_keys FROM unnest($7::uuid[], $8::text[]) AS k(connection_id, external_id)
            JOIN users u ON u.connection_id = k.connection_id AND u.external_id = k.external_id
    ), found_tombstones AS MATERIALIZED (
        SELECT {TOMBSTONE_COLUMNS} FROM unnest($5::uuid[], $6::text[]) AS k(connection_id, name)
            JOIN user_tombstones s ON s.connection_id = k.connection_id AND s.user_name_key = k.name
        UNION
        SELECT {TOMBSTONE_COLUMNS} FROM unnest($7::uuid[], $8::text[]) AS k(connection_id, external_id)
            JOIN user_tombstones s ON s.connection_id = k.connection_id AND s.external_id = k.external_id
    ), found_accounts AS MATERIALIZED (
        SELECT {ACCOUNT_COLUMNS} FROM accounts a
            WHERE a.id = ANY(ARRAY(SELECT account_id FROM found_users UNION SELECT account_id FROM found_tombstones))
        UNION
        SELECT {ACCOUNT_COLUMNS} FROM unnest($9::uuid[], $10::text[]) AS k(organization_id, email_key)
            JOIN accounts a ON a.organization_id = k.organization_id AND a.email_key = k.email_key
        UNION
        SELECT {ACCOUNT_COLUMNS} FROM found_users f JOIN connections c ON c.id = f.connection_id
            JOIN accounts a ON a.organization_id = c.organization_id AND a.email_key = ANY(f.email_keys)
    ), found_memberships AS MATERIALIZED (
        SELECT m.group_id, m.member_id FROM memberships m WHERE m.member_id = ANY($11::uuid[])
        UNION ALL
        SELECT m.group_id, m.member_id FROM unnest($12::uuid[], $13::uuid[]) AS k(group_id, member_id)
            JOIN memberships m ON m.group_id = k.group_id AND m.member_id = k.member_id
        UNION ALL
        SELECT m.group_id, m.member_id FROM memberships m WHERE m.group_id = ANY($14::uuid[])
    ), found_groups AS (
        SELECT {GROUP_COLUMNS} FROM groups g
            WHERE g.id = ANY($15::uuid[] || ARRAY(SELECT DISTINCT group_id FROM found_memberships))
        UNION ALL
        SELECT {GROUP_COLUMNS} FROM unnest($16::uuid[], $17::text[]) AS k(connection_id, name)
            JOIN groups g ON g.connection_id = k.connection_id AND g.display_name_key = k.name
        UNION ALL
        SELECT {GROUP_COLUMNS} FROM unnest($18::uuid[], $19::text[]) AS k(connection_id, external_id)
            JOIN groups g ON g.connection_id = k.connection_id AND g.external_id = k.external_id
    )
    SELECT
        ARRAY(SELECT ROW(
            c.id, c.organization_id, c.deleted_at IS NULL, o.plan = 'enterprise', c.link_existing_accounts,
            ARRAY(SELECT t.id FROM tokens t
                  WHERE t.id = ANY($2::uuid[]) AND t.connection_id = c.id AND t.revoked_at IS NULL),
            (SELECT jsonb_agg(jsonb_build_array(e.resource_type, e.document) ORDER BY e.urn)
             FROM extension_schemas e WHERE e.organization_id = o.id)
        ) FROM connections c JOIN organizations o ON o.id = c.organization_id WHERE c.id = ANY($1::uuid[])
        ) AS connections,
        ARRAY(SELECT ROW(x.change_id, x.reply) FROM outcomes x
              WHERE x.change_id = ANY($3::uuid[]) AND x.change_id >= $20 AND x.change_id <= $21) AS replies,
        ARRAY(SELECT ROW({USER_COLUMNS}) FROM found_users u) AS users,
        ARRAY(SELECT ROW({USER_COLUMNS}) FROM users u
              WHERE u.account_id = ANY(ARRAY(SELECT id FROM found_accounts))) AS holders,
        ARRAY(SELECT ROW(s.*) FROM found_tombstones s) AS tombstones,
        ARRAY(SELECT ROW(a.*) FROM found_accounts a) AS accounts,
        ARRAY(SELECT ROW(l.connection_id, l.account_id) FROM links l
              WHERE l.account_id = ANY(ARRAY(SELECT id FROM found_accounts))) AS links,
        ARRAY(SELECT ROW(m.*) FROM found_memberships m) AS memberships,
        ARRAY(SELECT ROW(g.*) FROM found_groups g) AS groups,
        ARRAY(SELECT ROW(u.connection_id, u.id, 'User'::text) FROM users u WHERE u.id = ANY($22::uuid[])) AS user_ids,
        ARRAY(SELECT ROW(g.connection_id, g.id, 'Group'::text) FROM groups g
              WHERE g.id = ANY($22::uuid[])) AS group_ids,
        ARRAY(SELECT ROW(m.group_id, m.member_id) FROM memberships m
              WHERE m.member_type = 'Group' AND m.group_id = ANY(ARRAY(
                  SELECT g.id FROM groups g WHERE g.version > 0 AND g.connection_id = ANY($23::uuid[] || ARRAY(
                      SELECT nested.connection_id FROM groups nested WHERE nested.id = ANY($22::uuid[])))))) AS nested
"""


async def load(db: Db, touched: Touched) -> Directory:
    """Everything that deciding the batch can ask for."""
    row = await db.fetchrow(
        LOAD,
        list(touched.connections),
        list(touched.tokens),
        list(touched.changes),
        list(touched.users),
        *_columns(touched.user_names),
        *_columns(touched.external_ids),
        *_columns(touched.emails),
        list(touched.leaving),
        *_columns(touched.memberships),
        list(touched.whole_groups),
        list(touched.groups),
        *_columns(touched.group_names),
        *_columns(touched.group_external_ids),
        *_bounds(touched.changes),
        list(touched.members),
        list(touched.nesting()),
    )
    assert row is not None
    return Directory(
        connections=[_connection(connection) for connection in row["connections"]],
        live_tokens=[token for connection in row["connections"] for token in connection[5]],
        replies=dict(row["replies"]),
        users=[User(*user) for user in (*row["users"], *row["holders"])],
        accounts=[Account(*account) for account in row["accounts"]],
        tombstones=[Tombstone(*tombstone) for tombstone in row["tombstones"]],
        links=row["links"],
        groups=[Group(*group) for group in row["groups"]],
        memberships=row["memberships"],
        member_types={(member[0], member[1]): member[2] for member in (*row["user_ids"], *row["group_ids"])},
        nested=row["nested"],
    )


def _connection(row: Sequence[Any]) -> Connection:
    connection_id, organization_id, is_open, has_plan, link_existing_accounts, _, extensions = row
    documents = [(resource_type, orjson.dumps(document)) for resource_type, document in extensions or ()]
    return Connection(
        connection_id,
        organization_id,
        is_open,
        has_plan,
        link_existing_accounts,
        _extended(USER, tuple(document for name, document in documents if name == USER.name)),
        _extended(GROUP, tuple(document for name, document in documents if name == GROUP.name)),
    )


@lru_cache(maxsize=1024)
def _extended(resource_type: ResourceType, documents: tuple[bytes, ...]) -> ResourceType:
    """The type with an organization's own schemas; reading them costs more than a batch, so they are kept."""
    return resource_type.with_extensions(*(schema_from_json(orjson.loads(document)) for document in documents))


def _columns[T](keys: Iterable[tuple[UUID, T]]) -> tuple[list[UUID], list[T]]:
    pairs = list(keys)
    return [pair[0] for pair in pairs], [pair[1] for pair in pairs]


def _bounds(ids: set[UUID]) -> tuple[UUID, UUID]:
    return (min(ids), max(ids)) if ids else (UUID(int=0), UUID(int=0))


# --- flush ---------------------------------------------------------------------------------------------------------

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
        *_columns(results.left),
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
