"""All SQL of the provisioner: each function runs a fixed number of statements, whatever the size of the batch."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache
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

ADVANCE = """
    UPDATE partition_offsets SET next_offset = $4
    WHERE topic = $1 AND partition = $2 AND next_offset = $3 AND epoch = $5
    RETURNING true
"""

CURRENT = "SELECT next_offset, epoch FROM partition_offsets WHERE topic = $1 AND partition = $2"


async def claim(db: Db, topic: str, partition: int, first_offset: int, owner: str) -> Claim:
    """Take the partition over: every earlier claim is void. A partition never seen starts at `first_offset`."""
    row = await db.fetchrow(CLAIM, topic, partition, first_offset, owner)
    assert row is not None
    return Claim(topic, partition, row["next_offset"], row["epoch"])


async def advance(db: Db, held: Claim, end: int) -> bool:
    """Move the offset from the claim's to `end`; False when it is not there any more or the claim is void."""
    return bool(await db.fetchval(ADVANCE, held.topic, held.partition, held.next_offset, end, held.epoch))


async def current(db: Db, held: Claim) -> Claim | None:
    """The partition's offset and epoch as committed."""
    row = await db.fetchrow(CURRENT, held.topic, held.partition)
    return replace(held, next_offset=row["next_offset"], epoch=row["epoch"]) if row else None


# --- load ----------------------------------------------------------------------------------------------------------

LOAD_CONNECTIONS = """
    SELECT c.id, c.organization_id, c.deleted_at IS NULL AS is_open, o.plan = 'enterprise' AS has_plan,
           c.link_existing_accounts,
           (SELECT jsonb_agg(jsonb_build_array(e.resource_type, e.document) ORDER BY e.urn)
            FROM extension_schemas e WHERE e.organization_id = o.id) AS extensions,
           ARRAY(SELECT t.id FROM tokens t
                 WHERE t.id = ANY($2::uuid[]) AND t.connection_id = c.id AND t.revoked_at IS NULL) AS live_tokens
    FROM connections c JOIN organizations o ON o.id = c.organization_id
    WHERE c.id = ANY($1::uuid[])
"""

# The bounds let the planner skip the partitions of other days.
LOAD_REPLIES = """
    SELECT change_id, reply FROM outcomes
    WHERE change_id = ANY($1::uuid[]) AND change_id >= $2 AND change_id <= $3
"""

USER_COLUMNS = """u.id, u.connection_id, u.account_id, u.user_name, u.user_name_key, u.external_id, u.active,
    u.resource, u.version, u.created_at, u.last_modified, u.late_fingerprint"""

LOAD_USERS = f"""
    SELECT {USER_COLUMNS} FROM users u WHERE u.id = ANY($1::uuid[])
    UNION ALL
    SELECT {USER_COLUMNS} FROM unnest($2::uuid[], $3::text[]) AS k(connection_id, name)
        JOIN users u ON u.connection_id = k.connection_id AND u.user_name_key = k.name
    UNION ALL
    SELECT {USER_COLUMNS} FROM unnest($4::uuid[], $5::text[]) AS k(connection_id, external_id)
        JOIN users u ON u.connection_id = k.connection_id AND u.external_id = k.external_id
"""

LOAD_TOMBSTONES = """
    SELECT s.id, s.connection_id, s.account_id, s.user_name_key, s.external_id, s.deleted_at
    FROM unnest($1::uuid[], $2::text[]) AS k(connection_id, name)
        JOIN user_tombstones s ON s.connection_id = k.connection_id AND s.user_name_key = k.name
    UNION
    SELECT s.id, s.connection_id, s.account_id, s.user_name_key, s.external_id, s.deleted_at
    FROM unnest($3::uuid[], $4::text[]) AS k(connection_id, external_id)
        JOIN user_tombstones s ON s.connection_id = k.connection_id AND s.external_id = k.external_id
"""

ACCOUNT_COLUMNS = """a.id, a.organization_id, a.email, a.email_key, a.display_name, a.status = 'active' AS is_active,
    a.epoch, a.break_glass, a.created_at, a.updated_at,
    ARRAY(SELECT l.connection_id FROM links l WHERE l.account_id = a.id) AS linked_to"""

LOAD_ACCOUNTS = f"""
    SELECT {ACCOUNT_COLUMNS} FROM accounts a WHERE a.id = ANY($1::uuid[])
    UNION ALL
    SELECT {ACCOUNT_COLUMNS} FROM unnest($2::uuid[], $3::text[]) AS k(organization_id, email_key)
        JOIN accounts a ON a.organization_id = k.organization_id AND a.email_key = k.email_key
"""

LOAD_MEMBERSHIPS = """
    SELECT m.group_id, m.member_id FROM memberships m WHERE m.member_id = ANY($1::uuid[])
    UNION ALL
    SELECT m.group_id, m.member_id FROM unnest($2::uuid[], $3::uuid[]) AS k(group_id, member_id)
        JOIN memberships m ON m.group_id = k.group_id AND m.member_id = k.member_id
    UNION ALL
    SELECT m.group_id, m.member_id FROM memberships m WHERE m.group_id = ANY($4::uuid[])
"""

GROUP_COLUMNS = """g.id, g.connection_id, g.display_name, g.display_name_key, g.external_id, g.resource, g.version,
    g.created_at, g.last_modified, g.late_fingerprint"""

LOAD_GROUPS = f"""
    SELECT {GROUP_COLUMNS} FROM groups g WHERE g.id = ANY($1::uuid[])
    UNION ALL
    SELECT {GROUP_COLUMNS} FROM unnest($2::uuid[], $3::text[]) AS k(connection_id, name)
        JOIN groups g ON g.connection_id = k.connection_id AND g.display_name_key = k.name
    UNION ALL
    SELECT {GROUP_COLUMNS} FROM unnest($4::uuid[], $5::text[]) AS k(connection_id, external_id)
        JOIN groups g ON g.connection_id = k.connection_id AND g.external_id = k.external_id
"""

LOAD_MEMBER_TYPES = """
    SELECT u.connection_id, u.id, 'User' AS member_type FROM users u WHERE u.id = ANY($1::uuid[])
    UNION ALL
    SELECT g.connection_id, g.id, 'Group' FROM groups g WHERE g.id = ANY($1::uuid[])
"""

LOAD_NESTED = """
    SELECT m.group_id, m.member_id FROM memberships m JOIN groups g ON g.id = m.group_id
    WHERE m.member_type = 'Group' AND g.connection_id = ANY($1::uuid[])
"""

LOAD_USERS_OF_ACCOUNTS = f"SELECT {USER_COLUMNS} FROM users u WHERE u.account_id = ANY($1::uuid[])"


async def load(db: Db, touched: Touched) -> Directory:
    """Everything that deciding the batch can ask for: ten statements."""
    connections = await db.fetch(LOAD_CONNECTIONS, list(touched.connections), list(touched.tokens))
    replies = await db.fetch(LOAD_REPLIES, list(touched.changes), *_bounds(touched.changes))
    names, external_ids = _columns(touched.user_names), _columns(touched.external_ids)
    users = await db.fetch(LOAD_USERS, list(touched.users), *names, *external_ids)
    tombstones = await db.fetch(LOAD_TOMBSTONES, *names, *external_ids)
    organizations = {row["id"]: row["organization_id"] for row in connections}
    emails = touched.emails | {
        (organizations[user["connection_id"]], key)
        for user in users
        if user["connection_id"] in organizations
        for key in emails_of(user["resource"])
    }
    account_ids = {row["account_id"] for row in (*users, *tombstones)}
    accounts = await db.fetch(LOAD_ACCOUNTS, list(account_ids), *_columns(emails))
    holders = await db.fetch(LOAD_USERS_OF_ACCOUNTS, [row["id"] for row in accounts])
    spoken_of = _columns(touched.memberships)
    memberships = await db.fetch(LOAD_MEMBERSHIPS, list(touched.leaving), *spoken_of, list(touched.whole_groups))
    group_ids = touched.groups | {row["group_id"] for row in memberships}
    group_names, group_external_ids = _columns(touched.group_names), _columns(touched.group_external_ids)
    groups = await db.fetch(LOAD_GROUPS, list(group_ids), *group_names, *group_external_ids)
    member_types = await db.fetch(LOAD_MEMBER_TYPES, list(touched.members))
    nested = await db.fetch(LOAD_NESTED, list(touched.nesting))
    return Directory(
        connections=[_connection(row) for row in connections],
        live_tokens=[token for row in connections for token in row["live_tokens"]],
        replies={row["change_id"]: row["reply"] for row in replies},
        users=[User(**row) for row in (*users, *holders)],
        accounts=[_account(row) for row in accounts],
        tombstones=[Tombstone(**row) for row in tombstones],
        links=[(connection_id, row["id"]) for row in accounts for connection_id in row["linked_to"]],
        groups=[Group(**row) for row in groups],
        memberships=[(row["group_id"], row["member_id"]) for row in memberships],
        member_types={(row["connection_id"], row["id"]): row["member_type"] for row in member_types},
        nested=[(row["group_id"], row["member_id"]) for row in nested],
    )


def _connection(row: asyncpg.Record) -> Connection:
    extensions = [(resource_type, orjson.dumps(document)) for resource_type, document in row["extensions"] or ()]
    return Connection(
        row["id"],
        row["organization_id"],
        row["is_open"],
        row["has_plan"],
        row["link_existing_accounts"],
        _extended(USER, tuple(document for name, document in extensions if name == USER.name)),
        _extended(GROUP, tuple(document for name, document in extensions if name == GROUP.name)),
    )


@lru_cache(maxsize=1024)
def _extended(resource_type: ResourceType, documents: tuple[bytes, ...]) -> ResourceType:
    """The type with an organization's own schemas; reading them costs more than a batch, so they are kept."""
    return resource_type.with_extensions(*(schema_from_json(orjson.loads(document)) for document in documents))


def _account(row: asyncpg.Record) -> Account:
    return Account(*tuple(row)[:10])


def _columns[T](keys: Iterable[tuple[UUID, T]]) -> tuple[list[UUID], list[T]]:
    pairs = list(keys)
    return [pair[0] for pair in pairs], [pair[1] for pair in pairs]


def _bounds(ids: set[UUID]) -> tuple[UUID, UUID]:
    return (min(ids), max(ids)) if ids else (UUID(int=0), UUID(int=0))


# --- flush ---------------------------------------------------------------------------------------------------------

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
                       version, created_at, last_modified, late_fingerprint)
    SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::bool[],
                         $8::jsonb[], $9::int[], $10::timestamptz[], $11::timestamptz[], $12::text[])
    ON CONFLICT (id) DO UPDATE SET
        user_name = excluded.user_name, user_name_key = excluded.user_name_key, external_id = excluded.external_id,
        active = excluded.active, resource = excluded.resource, version = excluded.version,
        last_modified = excluded.last_modified, late_fingerprint = excluded.late_fingerprint
"""

ADD_TOMBSTONES = """
    INSERT INTO user_tombstones (id, connection_id, account_id, user_name_key, external_id, deleted_at)
    SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::timestamptz[])
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

CLOSE_CONNECTIONS = """
    WITH gone AS (DELETE FROM users WHERE connection_id = ANY($1::uuid[]) RETURNING *),
         groups_gone AS (DELETE FROM groups WHERE connection_id = ANY($1::uuid[])),
         counted AS (UPDATE connection_stats SET users = 0, groups = 0 WHERE connection_id = ANY($1::uuid[]))
    INSERT INTO user_tombstones (id, connection_id, account_id, user_name_key, external_id, deleted_at)
    SELECT id, connection_id, account_id, user_name_key, external_id, $2 FROM gone
"""

ADD_LINKS = """
    INSERT INTO links (connection_id, account_id, origin, created_at)
    SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::timestamptz[])
    ON CONFLICT DO NOTHING
"""

REVOKE_SESSIONS = """
    UPDATE sessions SET revoked_at = $3
    FROM unnest($1::uuid[], $2::int[]) AS account(id, epoch)
    WHERE sessions.account_id = account.id AND sessions.epoch < account.epoch AND sessions.revoked_at IS NULL
"""

COUNT = """
    INSERT INTO connection_stats (connection_id, users, groups, last_success_at, last_error_at)
    SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::timestamptz[], $5::timestamptz[])
    ON CONFLICT (connection_id) DO UPDATE SET
        users = connection_stats.users + excluded.users,
        groups = connection_stats.groups + excluded.groups,
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
    SELECT *, $13 FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], $5::text[], $6::text[], $7::text[],
                              $8::uuid[], $9::smallint[], $10::bytea[], $11::jsonb[], $12::timestamptz[])
"""

ADD_QUARANTINE = """
    INSERT INTO quarantine (id, topic, partition, record_offset, key, value, change_id, organization_id, error,
                            created_at)
    SELECT *, $10 FROM unnest($1::uuid[], $2::text[], $3::int[], $4::bigint[], $5::bytea[], $6::bytea[], $7::uuid[],
                              $8::uuid[], $9::text[])
    ON CONFLICT (topic, partition, record_offset) DO NOTHING
"""


async def flush(db: Db, results: Results, applied_at: datetime) -> None:
    """Write what the batch decided: fifteen statements, each over all of its rows."""
    await db.execute(DELETE_USERS, [tombstone.id for tombstone in results.tombstones])
    await db.execute(PUT_ACCOUNTS, *_account_columns(results.accounts))
    await db.execute(PUT_USERS, *_user_columns(results.users))
    await db.execute(ADD_TOMBSTONES, *_tombstone_columns(results.tombstones))
    await db.execute(DELETE_GROUPS, results.removed_groups)
    await db.execute(PUT_GROUPS, *_group_columns(results.groups))
    await db.execute(REMOVE_MEMBERS, *_columns(results.left))
    joined = results.joined
    await db.execute(ADD_MEMBERS, *([membership[column] for membership in joined] for column in range(3)))
    await db.execute(CLOSE_CONNECTIONS, results.closed_connections, applied_at)
    links = results.links
    await db.execute(
        ADD_LINKS,
        [link.connection_id for link in links],
        [link.account_id for link in links],
        [link.origin for link in links],
        [link.created_at for link in links],
    )
    accounts = results.accounts
    await db.execute(REVOKE_SESSIONS, [a.id for a in accounts], [a.epoch for a in accounts], applied_at)
    counts = results.counts(applied_at)
    await db.execute(COUNT, *([row[column] for row in counts] for column in range(5)))
    await db.execute(TOUCH_TOKENS, results.tokens, applied_at)
    await db.execute(ADD_OUTCOMES, *_outcome_columns(results), applied_at)
    await db.execute(ADD_QUARANTINE, *_quarantine_columns(results.poison), applied_at)


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
