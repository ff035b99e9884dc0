"""How directory sync is doing, over all organizations."""

from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

import typer

from admin_api.cli.frame import AsJson, in_database, print_json, print_table
from admin_api.store import sync_status

app = typer.Typer()

_COLUMNS = (
    *("organization", "plan", "connection", "users", "active", "groups"),
    *("last success", "last error", "tokens", "held"),
)


@app.command("status")
def status(
    organization: Annotated[UUID | None, typer.Option("--organization", help="Only of this organization.")] = None,
    as_json: AsJson = False,
) -> None:
    """Print the connections: users, last success and error, live tokens, held deactivations.

    Settings: DATABASE_URL (the owner's).
    """
    rows = in_database(lambda db: sync_status.list_connections(db, organization, datetime.now(UTC)))
    if as_json:
        print_json([row.document() for row in rows])
        return
    print_table(
        [
            "organization",
            "plan",
            "connection",
            "users",
            "active",
            "groups",
            "last success",
            "last error",
            "tokens",
            "held",
        ],
        [
            (
                *(row.organization, row.plan, row.provider_id, row.users, row.active_users, row.groups),
                *(row.last_success_at, row.last_error_at, row.live_tokens, row.open_holds),
            )
            for row in rows
        ],
        nothing="There are no connections.",
    )
