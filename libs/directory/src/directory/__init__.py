"""The Postgres schema of the directory: tables, migrations, database roles."""
