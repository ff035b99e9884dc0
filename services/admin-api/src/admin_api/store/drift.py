"""What can be wrong in the directory's rows, found by recomputing it from the rows that it follows from.

`CHECKS` stand in the order in which they are repaired: what others follow from comes first. Each `find` selects the
rows at fault with their organization as its first column; `:organization` bounds it, and is null for all. A `repair` is
a statement over these rows, named `found`.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row, TextClause, text
from sqlalchemy.ext.asyncio import AsyncSession

EXAMPLES = 100  # rows that are told of one kind
PAGE = 2_000  # rows of a stream that are in memory


@dataclass(frozen=True, slots=True)
class Check:
    """One kind of drift; without `repair` only a person can tell what is right, as `advice` says."""

    kind: str
    says: str
    find: str
    repair: str | None = None
    advice: str = "the operator has to look at the rows"


# Groups that a mapping names, live or not, as far as it may reach them (a protected role: only groups that own their
# name or that an admin has confirmed); from them down the nested groups, and then the accounts. `version` is the
# mappings_version at which the path was complete: that of its latest edge, or of the group's name.
GRANT_PATHS = """
    WITH RECURSIVE mapped AS (
        SELECT m.organization_id, m.role_id, m.created_version, m.deleted_version, g.id AS group_id, g.name_version
        FROM group_mappings m
        JOIN roles r ON r.id = m.role_id
        JOIN connections c ON c.organization_id = m.organization_id
            AND (m.connection_id IS NULL OR m.connection_id = c.id)
        JOIN groups g ON g.connection_id = c.id AND g.display_name = m.scim_group_name
        WHERE (NOT r.is_protected OR g.owns_name OR g.id = ANY (m.group_ids))
            AND (CAST(:organization AS uuid) IS NULL OR m.organization_id = :organization)
    ), reached AS (
        SELECT group_id AS top, group_id, name_version AS version FROM mapped
        UNION
        SELECT reached.top, m.member_id, greatest(reached.version, m.mappings_version)
        FROM reached JOIN memberships m ON m.group_id = reached.group_id AND m.member_type = 'Group'
    ), paths AS (
        SELECT DISTINCT u.account_id, reached.top AS group_id,
               greatest(reached.version, m.mappings_version) AS version
        FROM reached
        JOIN memberships m ON m.group_id = reached.group_id AND m.member_type = 'User'
        JOIN users u ON u.id = m.member_id
    )
"""

_MEMBERS = """
    SELECT c.organization_id, m.group_id, m.member_id, m.member_type, g.connection_id,
           u.connection_id AS user_connection, n.connection_id AS group_connection
    FROM memberships m
    JOIN groups g ON g.id = m.group_id
    JOIN connections c ON c.id = g.connection_id
    LEFT JOIN users u ON u.id = m.member_id
    LEFT JOIN groups n ON n.id = m.member_id
    WHERE (CAST(:organization AS uuid) IS NULL OR c.organization_id = :organization)
"""

_DELETE_MEMBERS = """
    DELETE FROM memberships m USING found WHERE m.group_id = found.group_id AND m.member_id = found.member_id
"""

CHECKS = (
    Check(
        "user_columns",
        "users whose columns are not what their resource says",
        """
        SELECT c.organization_id, u.connection_id, u.id AS user_id
        FROM users u JOIN connections c ON c.id = u.connection_id
        WHERE (CAST(:organization AS uuid) IS NULL OR c.organization_id = :organization)
            AND (u.user_name IS DISTINCT FROM u.resource ->> 'userName'
                OR u.external_id IS DISTINCT FROM u.resource ->> 'externalId'
                OR u.active <> coalesce((u.resource ->> 'active')::boolean, u.active))
        """,
        """
        UPDATE users SET user_name = resource ->> 'userName', external_id = resource ->> 'externalId',
                         active = coalesce((resource ->> 'active')::boolean, active)
        FROM found WHERE users.id = found.user_id
        """,
    ),
    Check(
        "group_columns",
        "groups whose columns are not what their resource says",
        """
        SELECT c.organization_id, g.connection_id, g.id AS group_id
        FROM groups g JOIN connections c ON c.id = g.connection_id
        WHERE (CAST(:organization AS uuid) IS NULL OR c.organization_id = :organization)
            AND (g.display_name IS DISTINCT FROM g.resource ->> 'displayName'
                OR g.external_id IS DISTINCT FROM g.resource ->> 'externalId')
        """,
        """
        UPDATE groups SET display_name = resource ->> 'displayName', external_id = resource ->> 'externalId'
        FROM found WHERE groups.id = found.group_id
        """,
    ),
    Check(
        "group_names",
        "groups whose name is not among the names that were ever borne",
        """
        SELECT c.organization_id, g.connection_id, g.id AS group_id, g.display_name
        FROM groups g JOIN connections c ON c.id = g.connection_id
        WHERE (CAST(:organization AS uuid) IS NULL OR c.organization_id = :organization)
            AND NOT EXISTS (SELECT FROM group_names n
                            WHERE n.connection_id = g.connection_id AND n.display_name = g.display_name)
        """,
        "INSERT INTO group_names (connection_id, display_name) SELECT connection_id, display_name FROM found",
    ),
    Check(
        "foreign_users",
        "users whose account is another organization's",
        """
        SELECT c.organization_id, u.connection_id, u.id AS user_id, u.account_id
        FROM users u JOIN connections c ON c.id = u.connection_id JOIN accounts a ON a.id = u.account_id
        WHERE (CAST(:organization AS uuid) IS NULL OR c.organization_id = :organization)
            AND a.organization_id <> c.organization_id
        """,
        advice="which account the person has here cannot be told from the rows; delete the user in the identity"
        " provider and create it again",
    ),
    Check(
        "tombstones",
        "users that are there and have a tombstone too",
        """
        SELECT c.organization_id, u.connection_id, u.id AS user_id
        FROM users u JOIN user_tombstones t ON t.id = u.id JOIN connections c ON c.id = u.connection_id
        WHERE (CAST(:organization AS uuid) IS NULL OR c.organization_id = :organization)
        """,
        "DELETE FROM user_tombstones t USING found WHERE t.id = found.user_id",
    ),
    Check(
        "missing_members",
        "memberships of members that are not there",
        f"SELECT * FROM ({_MEMBERS}) m WHERE user_connection IS NULL AND group_connection IS NULL",
        _DELETE_MEMBERS,
    ),
    Check(
        "foreign_members",
        "memberships of another connection's users or groups",
        f"SELECT * FROM ({_MEMBERS}) m WHERE coalesce(user_connection, group_connection) <> connection_id",
        _DELETE_MEMBERS,
    ),
    Check(
        "member_types",
        "memberships that take a user for a group or a group for a user",
        f"""
        SELECT * FROM ({_MEMBERS}) m
        WHERE (user_connection IS NOT NULL AND member_type <> 'User')
            OR (group_connection IS NOT NULL AND member_type <> 'Group')
        """,
        """
        UPDATE memberships m SET member_type = CASE WHEN found.user_connection IS NULL THEN 'Group' ELSE 'User' END
        FROM found WHERE m.group_id = found.group_id AND m.member_id = found.member_id
        """,
    ),
    Check(
        "group_cycles",
        "groups that are members of themselves through other groups",
        """
        WITH RECURSIVE nested AS (
            SELECT m.group_id AS top, m.member_id FROM memberships m WHERE m.member_type = 'Group'
            UNION
            SELECT nested.top, m.member_id
            FROM nested JOIN memberships m ON m.group_id = nested.member_id AND m.member_type = 'Group'
        )
        SELECT c.organization_id, g.connection_id, g.id AS group_id
        FROM nested JOIN groups g ON g.id = nested.top JOIN connections c ON c.id = g.connection_id
        WHERE nested.member_id = nested.top
            AND (CAST(:organization AS uuid) IS NULL OR c.organization_id = :organization)
        """,
        advice="which membership is wrong cannot be told from the rows; remove one of them in the identity provider",
    ),
    Check(
        "foreign_links",
        "links of a connection to another organization's account",
        """
        SELECT c.organization_id, l.connection_id, l.account_id
        FROM links l JOIN connections c ON c.id = l.connection_id JOIN accounts a ON a.id = l.account_id
        WHERE (CAST(:organization AS uuid) IS NULL OR c.organization_id = :organization)
            AND a.organization_id <> c.organization_id
            AND NOT EXISTS (SELECT FROM users u
                            WHERE u.connection_id = l.connection_id AND u.account_id = l.account_id)
        """,
        """
        DELETE FROM links l USING found
        WHERE l.connection_id = found.connection_id AND l.account_id = found.account_id
        """,
    ),
    Check(
        "missing_links",
        "users whose connection is not linked to their account",
        """
        SELECT c.organization_id, u.connection_id, u.id AS user_id, u.account_id, u.created_at
        FROM users u JOIN connections c ON c.id = u.connection_id
        WHERE (CAST(:organization AS uuid) IS NULL OR c.organization_id = :organization)
            AND NOT EXISTS (SELECT FROM links l
                            WHERE l.connection_id = u.connection_id AND l.account_id = u.account_id)
        """,
        """
        INSERT INTO links (connection_id, account_id, origin, created_at)
        SELECT connection_id, account_id, 'created', created_at FROM found
        """,
    ),
    Check(
        "sessions",
        "sessions that a suspended account can still use",
        """
        SELECT a.organization_id, a.id AS account_id, s.id AS session_id
        FROM sessions s JOIN accounts a ON a.id = s.account_id
        WHERE (CAST(:organization AS uuid) IS NULL OR a.organization_id = :organization)
            AND a.status = 'suspended' AND s.revoked_at IS NULL AND s.epoch >= a.epoch
        """,
        "UPDATE sessions SET revoked_at = now() FROM found WHERE sessions.id = found.session_id",
    ),
    Check(
        "tokens",
        "live tokens of deleted connections",
        """
        SELECT c.organization_id, c.id AS connection_id, t.id AS token_id
        FROM tokens t JOIN connections c ON c.id = t.connection_id
        WHERE (CAST(:organization AS uuid) IS NULL OR c.organization_id = :organization)
            AND c.deleted_at IS NOT NULL AND t.revoked_at IS NULL
        """,
        "UPDATE tokens SET revoked_at = now() FROM found WHERE tokens.id = found.token_id",
    ),
    Check(
        "holds",
        "held deactivations of users that are not there",
        """
        SELECT h.organization_id, h.connection_id, h.id AS hold_id, h.user_id
        FROM holds h
        WHERE (CAST(:organization AS uuid) IS NULL OR h.organization_id = :organization)
            AND h.resolved_at IS NULL AND NOT EXISTS (SELECT FROM users u WHERE u.id = h.user_id)
        """,
        """
        UPDATE holds SET resolved_at = now(), resolution = 'cancelled', resolved_by = 'verify'
        FROM found WHERE holds.id = found.hold_id
        """,
    ),
    Check(
        "foreign_grants",
        "roles that another organization's account holds",
        """
        SELECT a.organization_id, g.account_id, g.role_id, g.group_id
        FROM grants g JOIN accounts a ON a.id = g.account_id JOIN roles r ON r.id = g.role_id
        WHERE (CAST(:organization AS uuid) IS NULL OR a.organization_id = :organization)
            AND r.organization_id <> a.organization_id
        """,
        """
        DELETE FROM grants g USING found
        WHERE g.account_id = found.account_id AND g.role_id = found.role_id
            AND g.group_id IS NOT DISTINCT FROM found.group_id
        """,
    ),
    Check(
        "orphan_grants",
        "roles by a group that no membership and no mapping, present or past, gives",
        GRANT_PATHS
        + """
        SELECT a.organization_id, g.account_id, g.role_id, g.group_id
        FROM grants g JOIN accounts a ON a.id = g.account_id JOIN roles r ON r.id = g.role_id
        WHERE (CAST(:organization AS uuid) IS NULL OR a.organization_id = :organization)
            AND g.group_id IS NOT NULL AND r.organization_id = a.organization_id
            AND NOT EXISTS (SELECT FROM paths p JOIN mapped m ON m.group_id = p.group_id
                            WHERE p.account_id = g.account_id AND p.group_id = g.group_id AND m.role_id = g.role_id)
        """,
        """
        DELETE FROM grants g USING found
        WHERE g.account_id = found.account_id AND g.role_id = found.role_id AND g.group_id = found.group_id
        """,
    ),
    Check(
        "missing_grants",
        "roles that members of mapped groups should hold and do not",
        GRANT_PATHS
        + """
        SELECT DISTINCT a.organization_id, p.account_id, m.role_id, p.group_id
        FROM paths p
        JOIN mapped m ON m.group_id = p.group_id AND m.created_version <= p.version
            AND (m.deleted_version IS NULL OR p.version < m.deleted_version)
        JOIN accounts a ON a.id = p.account_id AND a.organization_id = m.organization_id
        WHERE NOT EXISTS (SELECT FROM grants g
                          WHERE g.account_id = p.account_id AND g.role_id = m.role_id AND g.group_id = p.group_id)
        """,
        """
        INSERT INTO grants (account_id, role_id, group_id, created_at)
        SELECT account_id, role_id, group_id, now() FROM found
        """,
    ),
    Check(
        "counters",
        "connections whose counters are not the numbers of their users and groups",
        """
        SELECT c.organization_id, c.id AS connection_id, counted.users, counted.active_users, counted.groups,
               coalesce(s.users, 0) AS counter_users, coalesce(s.active_users, 0) AS counter_active_users,
               coalesce(s.groups, 0) AS counter_groups
        FROM connections c
        LEFT JOIN connection_stats s ON s.connection_id = c.id
        CROSS JOIN LATERAL (
            SELECT (SELECT count(*) FROM users u WHERE u.connection_id = c.id) AS users,
                   (SELECT count(*) FROM users u WHERE u.connection_id = c.id AND u.active) AS active_users,
                   (SELECT count(*) FROM groups g WHERE g.connection_id = c.id) AS groups
        ) counted
        WHERE (CAST(:organization AS uuid) IS NULL OR c.organization_id = :organization)
            AND (counted.users, counted.active_users, counted.groups)
                <> (coalesce(s.users, 0), coalesce(s.active_users, 0), coalesce(s.groups, 0))
        """,
        """
        INSERT INTO connection_stats (connection_id, users, active_users, groups)
        SELECT connection_id, users, active_users, groups FROM found
        ON CONFLICT (connection_id) DO UPDATE SET
            users = excluded.users, active_users = excluded.active_users, groups = excluded.groups
        """,
    ),
)

# The provisioner's flush advances one of these rows, so it waits for whoever has them all.
LOCK_PARTITIONS = text("SELECT topic, partition FROM partition_offsets ORDER BY topic, partition FOR UPDATE")

SET_TIMEOUT = text("SELECT set_config('statement_timeout', :timeout, true)")

USERS = text("""
    SELECT c.organization_id, u.connection_id, u.id, u.user_name, u.user_name_key, u.email_keys, u.resource
    FROM users u JOIN connections c ON c.id = u.connection_id
    WHERE (CAST(:organization AS uuid) IS NULL OR c.organization_id = :organization)
""")

GROUPS = text("""
    SELECT c.organization_id, g.connection_id, g.id, g.display_name, g.display_name_key
    FROM groups g JOIN connections c ON c.id = g.connection_id
    WHERE (CAST(:organization AS uuid) IS NULL OR c.organization_id = :organization)
""")

ACCOUNTS = text("""
    SELECT organization_id, id, email, email_key FROM accounts
    WHERE (CAST(:organization AS uuid) IS NULL OR organization_id = :organization)
        AND (email IS NOT NULL OR email_key IS NOT NULL)
""")

SET_USER_KEYS = text("UPDATE users SET user_name_key = :key, email_keys = CAST(:emails AS text[]) WHERE id = :id")
SET_GROUP_KEY = text("UPDATE groups SET display_name_key = :key WHERE id = :id")
SET_ACCOUNT_KEY = text("UPDATE accounts SET email_key = :key WHERE id = :id")
# Deferred constraints are checked at once, so that a key that is taken fails here and not at COMMIT.
CHECK_NOW = text("SET CONSTRAINTS ALL IMMEDIATE")
CHECK_LATER = text("SET CONSTRAINTS ALL DEFERRED")

STALE = text("""
    SELECT c.organization_id, u.connection_id, u.id AS user_id, u.account_id, u.user_name, u.active,
           greatest(u.last_modified, last.received_at) AS mentioned_at
    FROM users u
    JOIN connections c ON c.id = u.connection_id AND c.deleted_at IS NULL
    LEFT JOIN LATERAL (
        SELECT o.received_at FROM outcomes o WHERE o.resource_id = u.id ORDER BY o.change_id DESC LIMIT 1
    ) last ON true
    WHERE (CAST(:organization AS uuid) IS NULL OR c.organization_id = :organization)
        AND u.last_modified < :before AND (last.received_at IS NULL OR last.received_at < :before)
    ORDER BY mentioned_at, u.id
    LIMIT :limit
""")

ORPHANS = text("""
    SELECT c.organization_id, u.connection_id, u.id AS user_id, u.account_id, u.user_name, u.created_at
    FROM users u
    JOIN connections c ON c.id = u.connection_id AND c.deleted_at IS NULL
    WHERE (CAST(:organization AS uuid) IS NULL OR c.organization_id = :organization)
        AND u.late_fingerprint IS NOT NULL AND u.version = 1
        AND NOT EXISTS (SELECT FROM outcomes o WHERE o.resource_id = u.id AND o.received_at > u.created_at)
        AND NOT EXISTS (SELECT FROM memberships m WHERE m.member_id = u.id)
    ORDER BY u.created_at, u.id
    LIMIT :limit
""")


@dataclass(frozen=True, slots=True)
class Found:
    """How many rows are at fault, and the first EXAMPLES of them."""

    count: int
    examples: Sequence[dict[str, Any]]


async def set_timeout(db: AsyncSession, seconds: int) -> None:
    """For the rest of the transaction; a whole directory takes longer to read than a request may."""
    await db.execute(SET_TIMEOUT, {"timeout": f"{seconds}s"})


async def lock_partitions(db: AsyncSession) -> None:
    """Until the transaction ends the provisioner writes nothing."""
    await db.execute(LOCK_PARTITIONS)


async def find(db: AsyncSession, check: Check, organization_id: UUID | None) -> Found:
    """The rows that `check` is about, of one organization or of all."""
    statement = text(f"SELECT *, count(*) OVER () AS found FROM ({check.find}) AS faults LIMIT {EXAMPLES}")
    rows = (await db.execute(statement, {"organization": organization_id})).mappings().all()
    examples = [{name: value for name, value in row.items() if name != "found"} for row in rows]
    return Found(rows[0]["found"] if rows else 0, examples)


async def repair(db: AsyncSession, check: Check, organization_id: UUID | None) -> None:
    """Put right what `find` would find now; raises IntegrityError when a constraint is against it."""
    statement = text(f"WITH found AS ({check.find}) {check.repair}")
    await _execute_whole(db, statement, {"organization": organization_id})


async def stream(db: AsyncSession, statement: TextClause, organization_id: UUID | None) -> AsyncIterator[Row[Any]]:
    """All rows of a long statement, a page at a time."""
    result = await db.stream(statement, {"organization": organization_id}, execution_options={"yield_per": PAGE})
    async for row in result:
        yield row


async def put_keys(db: AsyncSession, statement: TextClause, values: dict[str, Any]) -> None:
    """Write recomputed keys; raises IntegrityError when another row has one of them."""
    await _execute_whole(db, statement, values)


async def _execute_whole(db: AsyncSession, statement: TextClause, values: dict[str, Any]) -> None:
    """Execute with all constraints checked at once; what fails has changed nothing, and the transaction goes on."""
    async with db.begin_nested():
        await db.execute(CHECK_NOW)
        await db.execute(statement, values)
        await db.execute(CHECK_LATER)


async def list_stale(
    db: AsyncSession, organization_id: UUID | None, before: datetime, limit: int
) -> Sequence[dict[str, Any]]:
    """Users that their identity provider has not mentioned since then, the longest forgotten first."""
    rows = await db.execute(STALE, {"organization": organization_id, "before": before, "limit": limit})
    return [dict(row) for row in rows.mappings()]


async def list_orphans(db: AsyncSession, organization_id: UUID | None, limit: int) -> Sequence[dict[str, Any]]:
    """Users whose create was applied after the client had given up, and that nobody has referred to since."""
    rows = await db.execute(ORPHANS, {"organization": organization_id, "limit": limit})
    return [dict(row) for row in rows.mappings()]
