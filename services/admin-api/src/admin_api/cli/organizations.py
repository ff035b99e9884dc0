"""The commands for organizations and their plans."""

from datetime import UTC, datetime
from typing import Annotated, Literal
from uuid import UUID

import typer
from rich.markup import escape

from admin_api import organizations
from admin_api.api_keys import BY_OPERATOR
from admin_api.cli.frame import AsJson, console, in_database, new_app, print_json, print_table
from admin_api.store import organizations as store
from directory.tables import Organization

app = new_app("Organizations and their plans.")

_ALL = 1000


@app.command("list")
def list_organizations(as_json: AsJson = False) -> None:
    """Print the organizations, the first 1,000. Settings: DATABASE_URL (the owner's)."""
    found = in_database(lambda db: store.list_organizations(db, None, _ALL))
    if as_json:
        print_json([_document(organization) for organization in found])
        return
    rows = [(organization.id, organization.name, organization.plan, organization.created_at) for organization in found]
    print_table(["id", "name", "plan", "made"], rows, nothing="There are no organizations.")


@app.command("plan")
def set_plan(
    id: Annotated[UUID, typer.Argument(help="Id of the organization.")],
    plan: Annotated[Literal["free", "enterprise"], typer.Argument(help="The plan.")],
    as_json: AsJson = False,
) -> None:
    """Change the plan of an organization; what it has stays. Settings: DATABASE_URL (the owner's)."""
    changed = in_database(lambda db: organizations.change(db, BY_OPERATOR, id, None, plan))
    if as_json:
        print_json(_document(changed))
    else:
        console.print(f"[bold]{escape(changed.name)}[/bold] has the plan {changed.plan}.")


@app.command("create")
def create(
    name: Annotated[str, typer.Argument(help="Name of the organization.")],
    plan: Annotated[Literal["free", "enterprise"], typer.Option(help="The plan.")] = "enterprise",
    as_json: AsJson = False,
) -> None:
    """Make an organization without an admin; `bootstrap` with its name gives it one. Settings: DATABASE_URL."""
    made = in_database(lambda db: organizations.create(db, BY_OPERATOR, name, plan, datetime.now(UTC)))
    if as_json:
        print_json(_document(made))
    else:
        console.print(f"[bold]{escape(made.name)}[/bold] is {made.id}.", soft_wrap=True)


def _document(organization: Organization) -> dict[str, object]:
    return {
        "id": organization.id,
        "name": organization.name,
        "plan": organization.plan,
        "createdAt": organization.created_at,
    }
