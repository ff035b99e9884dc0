"""What migrations are written with."""

from alembic import op


def run_script(sql: str) -> None:
    """Run several statements in the migration's transaction; asyncpg would prepare them, and prepares one at a time."""
    db = op.get_bind().connection.dbapi_connection
    assert db is not None
    db.run_async(lambda driver: driver.execute(sql))  # type: ignore[attr-defined]
