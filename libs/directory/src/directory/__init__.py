"""The Postgres schema of the directory: tables, migrations, database roles.

Every DSN here is a plain `postgresql://user:password@host:port/database`, read by asyncpg.
"""

from directory.engine import create_engine
from directory.revision import HEAD, revision_of
from directory.roles import ROLES, Role, set_role_passwords
from directory.schema import migrate

__all__ = [
    "HEAD",
    "ROLES",
    "Role",
    "create_engine",
    "migrate",
    "revision_of",
    "set_role_passwords",
]
