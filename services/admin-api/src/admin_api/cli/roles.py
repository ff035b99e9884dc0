"""The commands for roles."""

from typing import Annotated
from uuid import UUID

import typer
from rich.markup import escape

from admin_api import roles
from admin_api.cli.desk import as_admin, parsed, whole
from admin_api.cli.frame import AsJson, OrganizationId, console, new_app, print_json, print_table

app = new_app("Roles of an organization.")

RoleId = Annotated[UUID, typer.Argument(help="Id of the role.")]
Permissions = Annotated[list[str] | None, typer.Option("--permission", help="May be given several times.")]


@app.command("list")
def list_roles(organization: OrganizationId, as_json: AsJson = False) -> None:
    """Print the roles: what they permit, who holds them. Settings: DATABASE_URL, KAFKA_BOOTSTRAP, TOKEN_PEPPER."""
    pages = as_admin(
        organization, lambda principal, core: whole(lambda paging: roles.list_roles(principal, core, paging))
    )
    found = [role for page in pages for role in page.roles]
    if as_json:
        print_json([role.model_dump(mode="json", by_alias=True) for role in found])
        return
    print_table(
        ["id", "name", "permissions", "built in", "protected", "accounts", "mappings"],
        [
            (each.id, each.name, each.permissions, each.built_in, each.is_protected, each.accounts, each.group_mappings)
            for each in found
        ],
    )


@app.command("create")
def create(
    organization: OrganizationId,
    name: Annotated[str, typer.Argument(help="Name of the role.")],
    permissions: Permissions = None,
    as_json: AsJson = False,
) -> None:
    """Make a role that nobody holds yet. Settings: DATABASE_URL, KAFKA_BOOTSTRAP, TOKEN_PEPPER."""
    body = parsed(roles.NewRole, name=name, permissions=permissions or [])
    made = as_admin(organization, lambda principal, core: roles.create_role(body, principal, core))
    _print(made, "made", as_json)


@app.command("change")
def change(
    organization: OrganizationId,
    role_id: RoleId,
    name: Annotated[str | None, typer.Option(help="Its new name.")] = None,
    permissions: Permissions = None,
    as_json: AsJson = False,
) -> None:
    """Rename a role, or give it these permissions instead of its own; who holds it keeps it.

    Settings: DATABASE_URL, KAFKA_BOOTSTRAP, TOKEN_PEPPER.
    """
    body = parsed(roles.RolePatch, name=name, permissions=permissions)
    changed = as_admin(organization, lambda principal, core: roles.change_role(role_id, body, principal, core))
    _print(changed, "changed", as_json)


@app.command("delete")
def delete(organization: OrganizationId, role_id: RoleId) -> None:
    """Remove a role that nobody holds and no group is mapped to.

    Settings: DATABASE_URL, KAFKA_BOOTSTRAP, TOKEN_PEPPER.
    """
    as_admin(organization, lambda principal, core: roles.delete_role(role_id, principal, core))
    console.print("The role is deleted.")


def _print(role: roles.RoleShape, done: str, as_json: bool) -> None:
    if as_json:
        print_json(role.model_dump(mode="json", by_alias=True))
        return
    console.print(f"The role [bold]{escape(role.name)}[/bold] is {done}: {role.id}", soft_wrap=True)
