"""What each database role may do: exactly this, and nothing else (design section 6, "Tables")."""

from collections.abc import AsyncIterator
from urllib.parse import quote, urlsplit

import asyncpg
import pytest

import directory
from directory import Role

TABLE_PRIVILEGES = ("SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER")
READ, WRITE = {"SELECT"}, {"SELECT", "INSERT", "UPDATE"}

MAY = {
    Role.GATEWAY: {
        "alembic_version": READ,
        "organizations": READ,
        "connections": READ,
        "tokens": READ,
        "users": READ,
        "groups": READ,
        "memberships": READ,
        "extension_schemas": READ,
        "connection_stats": READ,
        "outcomes": READ,
    },
    Role.PROVISIONER: {
        "alembic_version": READ,
        "organizations": READ,
        "connections": READ,
        "tokens": READ,
        "roles": READ,
        "sessions": READ,
        "accounts": WRITE,
        "links": WRITE | {"DELETE"},
        "connection_stats": WRITE,
        "partition_offsets": WRITE,
        "quarantine": WRITE,
        "users": WRITE | {"DELETE"},
        "groups": WRITE | {"DELETE"},
        "memberships": WRITE | {"DELETE"},
        "extension_schemas": READ,
        "grants": {"SELECT", "INSERT", "DELETE"},
        "user_tombstones": {"SELECT", "INSERT"},
        "outcomes": {"SELECT", "INSERT"},
        "group_mappings": READ,
        "group_names": {"SELECT", "INSERT"},
        "events": {"SELECT", "INSERT"},
        "holds": WRITE,
        "link_requests": WRITE,
        "deactivations": WRITE | {"DELETE"},
    },
    Role.ADMIN: {
        "alembic_version": READ,
        "accounts": READ,
        "grants": READ,
        "users": READ,
        "groups": READ,
        "memberships": READ,
        "extension_schemas": WRITE | {"DELETE"},
        "links": READ,
        "connection_stats": READ,
        "outcomes": READ,
        "quarantine": READ,
        "partition_offsets": READ,
        "organizations": WRITE,
        "connections": WRITE,
        "tokens": WRITE,
        "credentials": WRITE,
        "sessions": WRITE | {"DELETE"},
        "roles": WRITE | {"DELETE"},
        "group_mappings": WRITE | {"DELETE"},
        "api_keys": WRITE,
        "identities": {"SELECT", "INSERT", "DELETE"},
        "events": {"SELECT", "INSERT"},
        "group_names": READ,
        "holds": READ,
        "link_requests": READ,
        "deactivations": READ,
        "user_tombstones": READ,
    },
}
# Single columns, where the table as a whole may not be updated.
MAY_UPDATE = {
    Role.PROVISIONER: {("tokens", "last_used_at"), ("sessions", "revoked_at"), ("grants", "label")},
    Role.ADMIN: {("quarantine", column) for column in ("resolved_at", "resolution", "resolved_by")},
}

PASSWORD = "it's a \\ password %s"


@pytest.fixture(scope="module")
async def as_role(postgres_module_database: str) -> AsyncIterator[dict[Role, asyncpg.Connection]]:
    """A connection for each role, with the password that was set for it."""
    await directory.set_role_passwords(postgres_module_database, dict.fromkeys(Role, PASSWORD))
    parts = urlsplit(postgres_module_database)
    connections = {}
    for role in Role:
        address = f"{role}:{quote(PASSWORD, safe='')}@{parts.hostname}:{parts.port}"
        connections[role] = await asyncpg.connect(parts._replace(netloc=address).geturl())
    yield connections
    for db in connections.values():
        await db.close()


@pytest.fixture(scope="module")
async def owner(postgres_module_database: str) -> AsyncIterator[asyncpg.Connection]:
    db = await asyncpg.connect(postgres_module_database)
    yield db
    await db.close()


@pytest.mark.parametrize("role", Role)
async def test_a_role_has_its_privileges_on_tables_and_no_others(owner: asyncpg.Connection, role: Role) -> None:
    rows = await owner.fetch(
        """
        SELECT relname AS table, privilege
        FROM pg_class CROSS JOIN unnest($2::text[]) AS privilege
        WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v', 'm', 'f')
            AND pg_get_userbyid(relowner) = current_user
            AND has_table_privilege($1, pg_class.oid, privilege)
        """,
        role,
        TABLE_PRIVILEGES,
    )
    held: dict[str, set[str]] = {}
    for row in rows:
        held.setdefault(row["table"], set()).add(row["privilege"])

    assert held == MAY[role]


@pytest.mark.parametrize("role", Role)
async def test_a_role_may_update_single_columns_only_where_it_must(owner: asyncpg.Connection, role: Role) -> None:
    rows = await owner.fetch(
        """
        SELECT relname, attname FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid AND attnum > 0
        WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') AND NOT attisdropped
            AND has_column_privilege($1, pg_class.oid, attnum, 'UPDATE')
            AND NOT has_table_privilege($1, pg_class.oid, 'UPDATE')
        """,
        role,
    )

    assert {tuple(row) for row in rows} == MAY_UPDATE.get(role, set())


@pytest.mark.parametrize("role", Role)
async def test_a_role_is_no_more_than_a_role(owner: asyncpg.Connection, role: Role) -> None:
    row = await owner.fetchrow(
        "SELECT rolsuper, rolcreaterole, rolcreatedb, rolbypassrls, rolreplication FROM pg_roles WHERE rolname = $1",
        role,
    )

    assert row is not None
    assert not any(row)
    assert not await owner.fetchval("SELECT has_schema_privilege($1, 'public', 'CREATE')", role)


@pytest.mark.parametrize(
    ("role", "statement"),
    [
        (Role.GATEWAY, "INSERT INTO organizations (id, name, plan) VALUES (gen_random_uuid(), 'x', 'free')"),
        (Role.GATEWAY, "UPDATE tokens SET last_used_at = now()"),
        (Role.GATEWAY, "DELETE FROM users"),
        (Role.GATEWAY, "SELECT FROM credentials"),
        (Role.GATEWAY, "SELECT FROM sessions"),
        (Role.PROVISIONER, "UPDATE tokens SET revoked_at = NULL"),
        (Role.PROVISIONER, "UPDATE tokens SET digest = ''"),
        (Role.PROVISIONER, "DELETE FROM tokens"),
        (Role.PROVISIONER, "SELECT FROM credentials"),
        (Role.PROVISIONER, "UPDATE sessions SET epoch = 7"),
        (Role.ADMIN, "UPDATE accounts SET status = 'active'"),
        (Role.ADMIN, "DELETE FROM users"),
        (Role.ADMIN, "INSERT INTO grants SELECT * FROM grants"),
        *[
            (role, statement)
            for role in Role
            for statement in ("UPDATE outcomes SET status = 200", "DELETE FROM outcomes", "TRUNCATE outcomes")
        ],
        *[(role, "UPDATE outcomes_default SET status = 200") for role in Role],
    ],
)
async def test_a_role_is_refused_what_is_not_its_work(
    as_role: dict[Role, asyncpg.Connection], role: Role, statement: str
) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await as_role[role].execute(statement)


async def test_a_role_can_do_its_work(as_role: dict[Role, asyncpg.Connection]) -> None:
    await as_role[Role.GATEWAY].execute("SELECT FROM users, tokens, outcomes")
    await as_role[Role.PROVISIONER].execute("UPDATE tokens SET last_used_at = now()")
    await as_role[Role.PROVISIONER].execute("UPDATE sessions SET revoked_at = now()")
    await as_role[Role.ADMIN].execute("UPDATE tokens SET revoked_at = now()")


async def test_a_role_without_its_password_is_kept_out(
    as_role: dict[Role, asyncpg.Connection], postgres_module_database: str
) -> None:
    parts = urlsplit(postgres_module_database)
    wrong = parts._replace(netloc=f"{Role.GATEWAY}:wrong@{parts.hostname}:{parts.port}").geturl()

    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(wrong)
