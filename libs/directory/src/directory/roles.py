"""The database roles of the services; the migrations create them and say what each may do."""

from collections.abc import Mapping
from enum import StrEnum

import asyncpg

from directory.engine import CONNECT_TIMEOUT

# ALTER ROLE takes no bound values, so Postgres itself quotes them.
ALTER_ROLE = "SELECT format('ALTER ROLE %I PASSWORD %L', $1::text, $2::text)"


class Role(StrEnum):
    """One database role for each service."""

    GATEWAY = "scim_gateway"
    PROVISIONER = "scim_provisioner"
    ADMIN = "scim_admin"


ROLES = tuple(Role)


async def set_role_passwords(dsn: str, passwords: Mapping[Role, str]) -> None:
    """Give the roles their passwords, all or none; `dsn` is the owner's."""
    db = await asyncpg.connect(dsn, timeout=CONNECT_TIMEOUT)
    try:
        async with db.transaction():
            # Roles belong to the cluster and two jobs may meet; the lock makes the second one wait.
            await db.execute("SELECT pg_advisory_xact_lock(hashtext('directory.roles'))")
            for role, password in passwords.items():
                await db.execute(await db.fetchval(ALTER_ROLE, role, password))
    finally:
        await db.close()
