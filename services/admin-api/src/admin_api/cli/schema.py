"""The commands for an organization's own schemas."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.markup import escape

from admin_api import schemas
from admin_api.cli.frame import AsJson, OrganizationId, console, in_database, new_app, print_json, read_json

app = new_app("An organization's own schemas, for attributes that SCIM does not have.")


@app.command("add")
def schema_add(
    file: Annotated[Path, typer.Argument(help="JSON file with one Schema resource (RFC 7643 section 7).")],
    organization: OrganizationId,
    resource_type: Annotated[Literal["User", "Group"], typer.Option(help="What it extends.")] = "User",
) -> None:
    """Add a schema to an organization, or attributes to a schema that is there.

    Clients see it within a second, in /Schemas too. Settings: DATABASE_URL (the owner's).
    """
    document = read_json(file)
    added = in_database(lambda db: schemas.add(db, organization, resource_type, document, datetime.now(UTC)))
    console.print(f"{resource_type}s have [bold]{escape(added.id)}[/bold] with {len(added.attributes)} attributes.")


@app.command("list")
def schema_list(organization: OrganizationId, as_json: AsJson = False) -> None:
    """Print the schemas of an organization. Settings: DATABASE_URL (the owner's)."""
    rows = in_database(lambda db: schemas.listed(db, organization))
    if as_json:
        print_json([{"resourceType": row.resource_type, "schema": row.document} for row in rows])
        return
    for row in rows:
        names = ", ".join(attribute["name"] for attribute in row.document["attributes"])
        console.print(f"{row.resource_type:<6} [bold]{escape(row.urn)}[/bold]: {escape(names)}", soft_wrap=True)


@app.command("remove")
def schema_remove(
    urn: Annotated[str, typer.Argument(help="URN of the schema.")],
    organization: OrganizationId,
) -> None:
    """Remove a schema that no user and no group has values of. Settings: DATABASE_URL (the owner's)."""
    in_database(lambda db: schemas.remove(db, organization, urn))
    console.print(f"[bold]{escape(urn)}[/bold] is removed.")
