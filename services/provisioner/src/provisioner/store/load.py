"""Reading everything that deciding a batch can ask for."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any
from uuid import UUID

import orjson

from contracts import FIRST_HASH
from provisioner.rules.guard import WINDOW
from provisioner.state import Account, Connection, Directory, Group, Guard, Role, Tombstone, Touched, User
from provisioner.store.claims import Db
from provisioner.store.parts import Part, Statement
from scim.schema import GROUP, USER, ResourceType, schema_from_json

USER_COLUMNS = """u.id, u.connection_id, u.account_id, u.user_name, u.user_name_key, u.external_id, u.active,
    u.resource, u.version, u.created_at, u.last_modified, u.late_fingerprint, u.deactivated_at"""
TOMBSTONE_COLUMNS = "s.id, s.connection_id, s.account_id, s.user_name_key, s.external_id, s.deleted_at"
ACCOUNT_COLUMNS = """a.id, a.organization_id, a.email, a.email_key, a.display_name, a.status = 'active' AS is_active,
    a.epoch, a.break_glass, a.created_at, a.updated_at"""
GROUP_COLUMNS = """g.id, g.connection_id, g.display_name, g.display_name_key, g.external_id, g.resource, g.version,
    g.created_at, g.last_modified, g.late_fingerprint, g.owns_name, g.name_version"""

# More admins than a batch can have changes: whoever is left out is not the last one.
MANY_ADMINS = 2000

# The bounds on change ids let the planner skip the partitions of other days.
ALWAYS = Part[Touched](
    "always",
    """
    SELECT
        ARRAY(SELECT ROW(
            c.id, c.organization_id, c.deleted_at IS NULL, o.plan = 'enterprise', c.link_existing_accounts,
            ARRAY(SELECT ROW(t.id, coalesce(t.last_used_at < now() - interval '1 minute', true)) FROM tokens t
                  WHERE t.id = ANY($2::uuid[]) AND t.connection_id = c.id AND t.revoked_at IS NULL),
            (SELECT jsonb_agg(jsonb_build_array(e.resource_type, e.document) ORDER BY e.urn)
             FROM extension_schemas e WHERE e.organization_id = o.id),
            c.append_only, c.guard_users, c.guard_percent, c.guard_holds, c.guard_released_until, s.guard_tripped_at,
            coalesce(s.active_users, 0), o.mappings_version
        ) FROM connections c JOIN organizations o ON o.id = c.organization_id
            LEFT JOIN connection_stats s ON s.connection_id = c.id
            WHERE c.id = ANY($1::uuid[])
        ) AS connections,
        ARRAY(SELECT ROW(x.change_id, x.reply) FROM outcomes x
              WHERE x.change_id = ANY($3::uuid[]) AND x.change_id >= $4 AND x.change_id <= $5) AS replies,
        (SELECT ROW(e.seq, e.hash) FROM events e WHERE e.chain = $6 ORDER BY e.seq DESC LIMIT 1) AS last_event
    """,
    lambda touched: (touched.connections, touched.tokens, touched.changes),
    lambda touched: (*_bounds(touched.changes), touched.chain),
)

# The emails of users that exist are looked up too: any of them may become the account's.
PEOPLE = Part[Touched](
    "people",
    f"""
    WITH found_users AS MATERIALIZED (
        SELECT {USER_COLUMNS}, u.email_keys FROM users u WHERE u.id = ANY($1::uuid[])
        UNION ALL
        SELECT {USER_COLUMNS}, u.email_keys FROM unnest($2::uuid[], $3::text[]) AS k(connection_id, name)
            JOIN users u ON u.connection_id = k.connection_id AND u.user_name_key = k.name
        UNION ALL
        SELECT {USER_COLUMNS}, u.email_keys FROM unnest($4::uuid[], $5::text[]) AS k(connection_id, external_id)
            JOIN users u ON u.connection_id = k.connection_id AND u.external_id = k.external_id
    ), found_tombstones AS MATERIALIZED (
        SELECT {TOMBSTONE_COLUMNS} FROM unnest($2::uuid[], $3::text[]) AS k(connection_id, name)
            JOIN user_tombstones s ON s.connection_id = k.connection_id AND s.user_name_key = k.name
        UNION
        SELECT {TOMBSTONE_COLUMNS} FROM unnest($4::uuid[], $5::text[]) AS k(connection_id, external_id)
            JOIN user_tombstones s ON s.connection_id = k.connection_id AND s.external_id = k.external_id
    ), found_accounts AS MATERIALIZED (
        SELECT {ACCOUNT_COLUMNS} FROM accounts a
            WHERE a.id = ANY($8::uuid[]
                             || ARRAY(SELECT account_id FROM found_users UNION SELECT account_id FROM found_tombstones))
        UNION
        SELECT {ACCOUNT_COLUMNS} FROM unnest($6::uuid[], $7::text[]) AS k(organization_id, email_key)
            JOIN accounts a ON a.organization_id = k.organization_id AND a.email_key = k.email_key
        UNION
        SELECT {ACCOUNT_COLUMNS} FROM found_users f JOIN connections c ON c.id = f.connection_id
            CROSS JOIN unnest(f.email_keys) AS k(email_key)
            CROSS JOIN LATERAL (SELECT * FROM accounts WHERE organization_id = c.organization_id
                                AND email_key = k.email_key OFFSET 0) AS a  -- looked up by both, never read through
    )
    SELECT
        ARRAY(SELECT ROW({USER_COLUMNS}) FROM found_users u) AS users,
        ARRAY(SELECT ROW({USER_COLUMNS}) FROM users u
              WHERE u.account_id = ANY(ARRAY(SELECT id FROM found_accounts))) AS holders,
        ARRAY(SELECT ROW(s.*) FROM found_tombstones s) AS tombstones,
        ARRAY(SELECT ROW(a.*) FROM found_accounts a) AS accounts,
        ARRAY(SELECT ROW(l.connection_id, l.account_id) FROM links l
              WHERE l.account_id = ANY(ARRAY(SELECT id FROM found_accounts))) AS links,
        ARRAY(SELECT ROW(h.user_id, h.id) FROM holds h
              WHERE h.user_id = ANY($1::uuid[]) AND h.resolved_at IS NULL) AS holds
    """,
    lambda touched: (
        touched.users,
        *_columns(touched.user_names),
        *_columns(touched.external_ids),
        *_columns(touched.emails),
        touched.accounts,
    ),
)

# How groups are nested is read only where a group is to become a member.
GROUPS = Part[Touched](
    "group_rows",
    f"""
    WITH found_memberships AS MATERIALIZED (
        SELECT m.group_id, m.member_id, m.member_type FROM memberships m WHERE m.member_id = ANY($1::uuid[])
        UNION ALL
        SELECT m.group_id, m.member_id, m.member_type FROM unnest($2::uuid[], $3::uuid[]) AS k(group_id, member_id)
            JOIN memberships m ON m.group_id = k.group_id AND m.member_id = k.member_id
        UNION ALL
        SELECT m.group_id, m.member_id, m.member_type FROM memberships m WHERE m.group_id = ANY($4::uuid[])
    ), found_groups AS (
        SELECT {GROUP_COLUMNS} FROM groups g
            WHERE g.id = ANY($5::uuid[] || ARRAY(SELECT DISTINCT group_id FROM found_memberships))
        UNION ALL
        SELECT {GROUP_COLUMNS} FROM unnest($6::uuid[], $7::text[]) AS k(connection_id, name)
            JOIN groups g ON g.connection_id = k.connection_id AND g.display_name_key = k.name
        UNION ALL
        SELECT {GROUP_COLUMNS} FROM unnest($8::uuid[], $9::text[]) AS k(connection_id, external_id)
            JOIN groups g ON g.connection_id = k.connection_id AND g.external_id = k.external_id
    )
    SELECT
        ARRAY(SELECT ROW(m.*) FROM found_memberships m) AS memberships,
        ARRAY(SELECT ROW(g.*) FROM found_groups g) AS groups,
        ARRAY(SELECT ROW(u.connection_id, u.id, 'User'::text) FROM users u WHERE u.id = ANY($10::uuid[])) AS user_ids,
        ARRAY(SELECT ROW(g.connection_id, g.id, 'Group'::text) FROM groups g
              WHERE g.id = ANY($10::uuid[])) AS group_ids,
        ARRAY(SELECT ROW(m.group_id, m.member_id) FROM memberships m
              WHERE m.member_type = 'Group' AND m.group_id = ANY(ARRAY(
                  SELECT g.id FROM groups g WHERE g.version > 0 AND g.connection_id = ANY($11::uuid[] || ARRAY(
                      SELECT nested.connection_id FROM groups nested WHERE nested.id = ANY($10::uuid[])))))) AS nested,
        ARRAY(SELECT ROW(n.connection_id, n.display_name)
              FROM unnest($12::uuid[], $13::text[]) AS k(connection_id, name)
              JOIN group_names n ON n.connection_id = k.connection_id
                  AND n.display_name = k.name COLLATE "C") AS names
    """,
    lambda touched: (
        touched.leaving,
        *_columns(touched.memberships),
        touched.whole_groups,
        touched.groups,
        *_columns(touched.group_names),
        *_columns(touched.group_external_ids),
        touched.members.keys(),
        touched.nesting(),
        *_columns(touched.display_names),
    ),
)

ROLES = Part[Touched](
    "role_rows",
    """
    SELECT
        ARRAY(SELECT ROW(r.id, r.organization_id, r.is_protected) FROM roles r WHERE r.id = ANY($1::uuid[])) AS roles,
        ARRAY(SELECT ROW(g.account_id, g.role_id) FROM grants g
              WHERE g.account_id = ANY($2::uuid[]) AND g.group_id IS NULL) AS grants
    """,
    lambda touched: (touched.roles, touched.accounts),
)

SUSPENSIONS = Part[Touched](
    "suspensions",
    f"""
    SELECT
        ARRAY(SELECT ROW(k.organization_id, admin.*) FROM unnest($1::uuid[]) AS k(organization_id) CROSS JOIN LATERAL (
                  SELECT a.id, a.status = 'active' FROM roles r
                  JOIN grants g ON g.role_id = r.id JOIN accounts a ON a.id = g.account_id
                  WHERE r.organization_id = k.organization_id AND r.is_protected LIMIT {MANY_ADMINS}
              ) AS admin) AS admins,
        ARRAY(SELECT ROW(d.connection_id, d.minute, d.users) FROM unnest($2::uuid[], $3::timestamptz[])
              AS k(connection_id, since) JOIN deactivations d
              ON d.connection_id = k.connection_id AND d.minute > k.since) AS deactivations
    """,
    lambda touched: (
        touched.suspending,
        touched.guarded.keys(),
        [since - WINDOW for since in touched.guarded.values()],
    ),
)

# One round trip for the whole batch: one row, whose columns are arrays of rows.
LOAD = Statement[Touched](
    [ALWAYS],
    [[PEOPLE], [GROUPS], [ROLES, SUSPENSIONS]],
    lambda names: f"SELECT * FROM {' CROSS JOIN '.join(names)}",
)


async def load(db: Db, touched: Touched, chain: int) -> Directory:
    """Everything that deciding the batch can ask for; its events go to the end of `chain`."""
    statement, arguments = LOAD.of(replace(touched, chain=chain))
    row = await db.fetchrow(statement, *arguments)
    assert row is not None
    tokens = [token for connection in row["connections"] for token in connection[5]]
    return Directory(
        connections=[_connection(connection) for connection in row["connections"]],
        live_tokens=[token_id for token_id, _ in tokens],
        rested_tokens=[token_id for token_id, has_rested in tokens if has_rested],
        replies=dict(row["replies"]),
        last_event=row["last_event"] or (0, FIRST_HASH),
        users=[User(*user) for user in (*row.get("users", ()), *row.get("holders", ()))],
        accounts=[Account(*account) for account in row.get("accounts", ())],
        tombstones=[Tombstone(*tombstone) for tombstone in row.get("tombstones", ())],
        links=row.get("links", ()),
        holds=row.get("holds", ()),
        groups=[Group(*group) for group in row.get("groups", ())],
        memberships=row.get("memberships", ()),
        member_types={
            (member[0], member[1]): member[2] for member in (*row.get("user_ids", ()), *row.get("group_ids", ()))
        },
        nested=row.get("nested", ()),
        borne_names=row.get("names", ()),
        roles=[Role(*role) for role in row.get("roles", ())],
        grants=row.get("grants", ()),
        admins=row.get("admins", ()),
        deactivations=row.get("deactivations", ()),
    )


def _connection(row: Sequence[Any]) -> Connection:
    connection_id, organization_id, is_open, has_plan, link_existing_accounts, _, extensions, *settings = row
    append_only, users, percent, holds, released_until, tripped_at, active_users, mappings_version = settings
    documents = [(resource_type, orjson.dumps(document)) for resource_type, document in extensions or ()]
    return Connection(
        connection_id,
        organization_id,
        is_open,
        has_plan,
        link_existing_accounts,
        append_only,
        Guard(users, percent, holds, released_until, tripped_at, active_users),
        mappings_version,
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
