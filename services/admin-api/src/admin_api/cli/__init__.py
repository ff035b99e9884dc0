"""`directory-sync`: what operators do before and beside the services.

Exit codes: 0 done, 1 failed, 2 wrong arguments or settings. Results go to standard output, problems to standard error.
"""

import os
import sys

import typer

from admin_api.cli import (
    access,
    connections,
    drift,
    erasure,
    holds,
    keys,
    mappings,
    organizations,
    previews,
    quarantine,
    roles,
    schema,
    setup,
    status,
)
from admin_api.cli.frame import explain, keep_output_clean

app = typer.Typer(
    help="Operate directory sync: migrate the database, create the topics, make the first organization.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    suggest_commands=True,
)
app.add_typer(setup.app)
app.add_typer(status.app)
app.add_typer(drift.app)
app.add_typer(access.app)
app.add_typer(previews.app)
app.add_typer(erasure.app)
app.add_typer(organizations.app, name="organization")
app.add_typer(keys.app, name="key")
app.add_typer(connections.app, name="connection")
app.add_typer(connections.token_app, name="token")
app.add_typer(roles.app, name="role")
app.add_typer(mappings.app, name="mapping")
app.add_typer(schema.app, name="schema")
app.add_typer(quarantine.app, name="quarantine")
app.add_typer(holds.app, name="holds")


def main() -> None:
    """The console script: a problem is one line on standard error, never a traceback (unless LOG_LEVEL=DEBUG)."""
    keep_output_clean()
    try:
        app()
    except Exception as error:
        if os.environ.get("LOG_LEVEL", "").upper() == "DEBUG":
            raise
        failure = explain(error)
        print(f"directory-sync: {failure}", file=sys.stderr)
        sys.exit(failure.code)
