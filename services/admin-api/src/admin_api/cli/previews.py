"""`directory-sync preview`."""

from pathlib import Path
from typing import Annotated
from uuid import UUID

import typer
from pydantic import ValidationError
from rich.markup import escape

from admin_api import preview as previews
from admin_api.cli.frame import (
    AsJson,
    Failure,
    OrganizationId,
    console,
    in_transactions,
    new_app,
    print_json,
    print_table,
    read_json,
)
from admin_api.cli.quarantine import actor
from admin_api.preview import Asker, Preview, ScimRequest
from admin_api.settings import PreviewSettings
from admin_api.store.database import Transaction
from servicekit.settings import load

app = new_app("What a SCIM request would do.")


@app.command()
def preview(
    organization: OrganizationId,
    connection: Annotated[UUID, typer.Option("--connection", help="Id of the connection.")],
    method: Annotated[str, typer.Argument(help="POST, PUT, PATCH or DELETE.")],
    path: Annotated[str, typer.Argument(help="Below the SCIM base URL, such as /Users.")],
    body: Annotated[Path | None, typer.Option(help="JSON file with the request's body.")] = None,
    as_json: AsJson = False,
) -> None:
    """Print what a SCIM request would do: outcome, accounts, roles gained and lost. Nothing is changed.

    Settings: DATABASE_URL (the owner's), TOKEN_PEPPER, GATEWAY_URL.
    """
    settings = load(PreviewSettings)
    asked = _asked(method, path, body)

    async def work(transaction: Transaction) -> Preview:
        gateway = previews.open_gateway(settings.gateway_url)
        assert gateway is not None
        async with gateway:
            asker = Asker(organization, actor(), transaction, gateway, settings.pepper())
            return await previews.rehearse(asker, connection, asked)

    shown = in_transactions(work)
    print_json(shown.model_dump(mode="json", by_alias=True)) if as_json else _print(shown)


def _asked(method: str, path: str, body: Path | None) -> ScimRequest:
    try:
        return ScimRequest.model_validate({"method": method, "path": path, "body": read_json(body) if body else None})
    except ValidationError as error:
        raise Failure(f"no SCIM request: {', '.join(str(each['loc'][0]) for each in error.errors())}", 2) from error


def _print(shown: Preview) -> None:
    console.print(f"[bold]{shown.status}[/bold] {escape(shown.detail or '')}", soft_wrap=True)
    for account in shown.accounts:
        change = f"account {account.account_id}: {account.before} -> {account.after}"
        console.print(change, markup=False, soft_wrap=True)
    print_table(
        ["", "role", "account", "group"],
        [
            ("gains" if grant.gained else "loses", grant.role_name, grant.email or grant.display_name, grant.group_name)
            for grant in shown.grants
        ],
        "No role is gained or lost.",
    )
