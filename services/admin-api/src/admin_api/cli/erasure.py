"""`directory-sync erase`."""

from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

import typer

from admin_api import erasure
from admin_api.cli.frame import AsJson, OrganizationId, console, in_database, new_app, print_json, print_table
from admin_api.cli.quarantine import actor

app = new_app("Erasing a person.")

# What the database cannot reach, and until when it is there (docs/admin-guide.md).
REMAINS = (
    "Kafka holds what was sent: changes for 7 days, dead letters for 30. Backups and log files are yours to expire."
)


@app.command()
def erase(
    organization: OrganizationId,
    account: Annotated[UUID, typer.Argument(help="Id of the account.")],
    is_sure: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Erase a person: the account is emptied, log and audit trail lose what says who it was. It cannot be undone.

    Settings: DATABASE_URL (the owner's).
    """
    if not is_sure:
        typer.confirm(f"Erase the person behind account {account}, for good?", abort=True)
    done = in_database(lambda db: erasure.erase(db, organization, account, actor(), datetime.now(UTC)))
    if as_json:
        print_json({"accountId": done.account_id, "rows": done.rows, "remains": REMAINS})
        return
    print_table(["table", "rows"], [(table, count) for table, count in done.rows.items() if count])
    console.print(REMAINS, soft_wrap=True)
