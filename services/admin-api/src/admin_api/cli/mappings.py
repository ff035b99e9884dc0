"""The commands for group mappings."""

from typing import Annotated
from uuid import UUID

import typer
from rich.markup import escape

from admin_api import mappings
from admin_api.cli.desk import as_admin, parsed, whole
from admin_api.cli.frame import AsJson, Failure, OrganizationId, console, new_app, print_json, print_table

app = new_app("Group mappings: which role the members of a group get.")

MappingId = Annotated[UUID, typer.Argument(help="Id of the mapping.")]
Connection = Annotated[UUID | None, typer.Option("--connection", help="Only for this connection's groups.")]


@app.command("list")
def list_mappings(organization: OrganizationId, as_json: AsJson = False) -> None:
    """Print the mappings, the oldest first. Settings: DATABASE_URL, KAFKA_BOOTSTRAP, TOKEN_PEPPER."""
    pages = as_admin(
        organization,
        lambda principal, core: whole(lambda paging: mappings.list_mappings(principal, core, paging)),
    )
    found = [mapping for page in pages for mapping in page.group_mappings]
    if as_json:
        print_json([mapping.model_dump(mode="json", by_alias=True) for mapping in found])
        return
    print_table(
        ["id", "group", "role", "connection", "matching groups", "unconfirmed"],
        [
            (each.id, each.scim_group_name, each.role_name, each.connection_id, each.matching_groups,
             each.unconfirmed_groups)
            for each in found
        ],
    )  # fmt: skip


@app.command("create")
def create(
    organization: OrganizationId,
    group: Annotated[str, typer.Argument(help="The group's displayName, exactly.")],
    role: Annotated[str, typer.Argument(help="Name of the role.")],
    connection: Connection = None,
    confirm: Annotated[bool, typer.Option("--confirm", help="Map to a protected role, such as admin.")] = False,
    as_json: AsJson = False,
) -> None:
    """Map a group to a role, for changes from now on; `mapping apply` gives it to the members that there are.

    Settings: DATABASE_URL, KAFKA_BOOTSTRAP, TOKEN_PEPPER.
    """
    body = parsed(mappings.NewMapping, scim_group_name=group, role_name=role, connection_id=connection, confirm=confirm)
    made = as_admin(organization, lambda principal, core: mappings.create_mapping(body, principal, core))
    if as_json:
        print_json(made.model_dump(mode="json", by_alias=True))
        return
    console.print(
        f"[bold]{escape(group)}[/bold] -> [bold]{escape(role)}[/bold]: {made.id}; "
        f"{made.matching_groups} groups bear the name now.",
        soft_wrap=True,
    )


@app.command("delete")
def delete(organization: OrganizationId, mapping_id: MappingId) -> None:
    """End a mapping; members keep the role until they leave or `mapping apply`.

    Settings: DATABASE_URL, KAFKA_BOOTSTRAP, TOKEN_PEPPER.
    """
    as_admin(organization, lambda principal, core: mappings.delete_mapping(mapping_id, principal, core))
    console.print("The mapping is deleted.")


@app.command("preview")
def preview(
    organization: OrganizationId,
    group: Annotated[str | None, typer.Argument(help="What if this group were mapped …")] = None,
    role: Annotated[str | None, typer.Argument(help="… to this role.")] = None,
    connection: Connection = None,
    without: Annotated[UUID | None, typer.Option("--without", help="What if this mapping were not.")] = None,
    as_json: AsJson = False,
) -> None:
    """Print who would gain and lose what. Without a group: what `mapping apply` would do now. Nothing is changed.

    Settings: DATABASE_URL, KAFKA_BOOTSTRAP, TOKEN_PEPPER.
    """
    if (group is None) != (role is None):
        raise Failure("name a group and its role, or neither", 2)
    rule = {"scim_group_name": group, "role_name": role, "connection_id": connection} if group else None
    body = parsed(mappings.Preview, mapping=rule, without=without)
    shown = as_admin(organization, lambda principal, core: mappings.preview_mappings(body, principal, core))
    _print(shown, as_json)


@app.command("apply")
def apply(
    organization: OrganizationId,
    group: Annotated[str | None, typer.Option(help="Only the mappings of this group name.")] = None,
    as_json: AsJson = False,
) -> None:
    """Give the present members what the mappings say, and take what no mapping says any more.

    Settings: DATABASE_URL, KAFKA_BOOTSTRAP, TOKEN_PEPPER.
    """
    body = parsed(mappings.Applying, scim_group_name=group)
    done = as_admin(organization, lambda principal, core: mappings.apply_mappings(body, principal, core, dry_run=False))
    _print(done, as_json)


def _print(effect: mappings.EffectShape, as_json: bool) -> None:
    if as_json:
        print_json(effect.model_dump(mode="json", by_alias=True))
        return
    print_table(
        ["", "role", "account", "group"],
        [
            ("gains" if each.gained else "loses", each.role_name, each.email or each.display_name, each.group_name)
            for each in effect.grants
        ],
        "No role is gained or lost.",
    )
    would = "would be " if effect.dry_run else ""
    console.print(f"{effect.gained} {would}gained, {effect.lost} {would}lost.")
