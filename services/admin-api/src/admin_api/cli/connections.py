"""The commands for connections and their tokens."""

from datetime import UTC, datetime, timedelta
from typing import Annotated
from uuid import UUID

import typer
from rich.markup import escape

from admin_api import connection_tokens as tokens
from admin_api import connections
from admin_api.cli.desk import as_admin, parsed, whole
from admin_api.cli.frame import AsJson, OrganizationId, console, new_app, print_json, print_table

app = new_app("Connections: one for each application of an identity provider.")
token_app = new_app("The tokens of a connection.")

ConnectionArgument = Annotated[UUID, typer.Argument(help="Id of the connection.")]
ConnectionId = Annotated[UUID, typer.Option("--connection", help="Id of the connection.")]
TokenId = Annotated[UUID, typer.Argument(help="Id of the token.")]
Days = Annotated[int | None, typer.Option(min=1, max=3650, help="Days until it expires; without, never.")]


@app.command("create")
def create(
    organization: OrganizationId,
    provider_id: Annotated[str, typer.Argument(help="A label, such as okta; unique in the organization.")],
    as_json: AsJson = False,
) -> None:
    """Make a connection with a token, which is printed once; of one that exists, a second token.

    Settings: DATABASE_URL, KAFKA_BOOTSTRAP, TOKEN_PEPPER.
    """
    body = connections.ConnectionName.model_validate({"providerId": provider_id})
    made = as_admin(organization, lambda principal, core: connections.generate_token(body, principal, core))
    if as_json:
        print_json(made.model_dump(mode="json", by_alias=True))
        return
    console.print(f"The connection [bold]{escape(provider_id)}[/bold]: {made.connection_id}", soft_wrap=True)
    _print_secret(made.scim_token)


@app.command("delete")
def delete(organization: OrganizationId, connection: ConnectionArgument) -> None:
    """End a connection and its tokens: its users and groups go, the accounts stay.

    Settings: DATABASE_URL, KAFKA_BOOTSTRAP, TOKEN_PEPPER.
    """
    as_admin(organization, lambda principal, core: connections.close_connection(core, principal, connection))
    console.print("The connection is deleted.")


@token_app.command("list")
def list_tokens(organization: OrganizationId, connection: ConnectionId, as_json: AsJson = False) -> None:
    """Print a connection's tokens, the newest first. Settings: DATABASE_URL, KAFKA_BOOTSTRAP, TOKEN_PEPPER."""
    pages = as_admin(
        organization,
        lambda principal, core: whole(lambda paging: tokens.list_tokens(connection, principal, core, paging)),
    )
    found = [token for page in pages for token in page.tokens]
    if as_json:
        print_json([token.model_dump(mode="json", by_alias=True) for token in found])
        return
    print_table(
        ["id", "ends in", "label", "scopes", "state", "made", "expires", "last used"],
        [
            (each.id, each.hint, each.label, each.scopes, each.state, each.created_at, each.expires_at,
             each.last_used_at)
            for each in found
        ],
        nothing="There are no tokens.",
    )  # fmt: skip


@token_app.command("create")
def create_token(
    organization: OrganizationId,
    connection: ConnectionId,
    label: Annotated[str, typer.Option(help="What it is for.")] = "",
    scopes: Annotated[list[str] | None, typer.Option("--scope", help="read, write; or preview alone.")] = None,
    days: Days = None,
    as_json: AsJson = False,
) -> None:
    """Make one more token, which is printed once. Settings: DATABASE_URL, KAFKA_BOOTSTRAP, TOKEN_PEPPER."""
    body = parsed(tokens.NewToken, label=label, expires_at=_in(days), **({"scopes": scopes} if scopes else {}))
    made = as_admin(organization, lambda principal, core: tokens.create_token(connection, body, principal, core))
    _print_issued(made, as_json)


@token_app.command("rotate")
def rotate(
    organization: OrganizationId,
    connection: ConnectionId,
    token: TokenId,
    overlap_hours: Annotated[int, typer.Option(min=0, max=720, help="How long the old one lives on.")] = 24,
    days: Days = None,
    as_json: AsJson = False,
) -> None:
    """Make a token in the place of another, which is printed once.

    Settings: DATABASE_URL, KAFKA_BOOTSTRAP, TOKEN_PEPPER.
    """
    body = parsed(tokens.Rotation, overlap_seconds=overlap_hours * 3600, expires_at=_in(days))
    made = as_admin(organization, lambda principal, core: tokens.rotate_token(connection, token, body, principal, core))
    _print_issued(made, as_json)


@token_app.command("revoke")
def revoke(organization: OrganizationId, connection: ConnectionId, token: TokenId) -> None:
    """End a token: it writes nothing from now on, and reads nothing two seconds later.

    Settings: DATABASE_URL, KAFKA_BOOTSTRAP, TOKEN_PEPPER.
    """
    as_admin(organization, lambda principal, core: tokens.revoke_token(connection, token, principal, core))
    console.print("The token is revoked.")


def _in(days: int | None) -> datetime | None:
    return datetime.now(UTC) + timedelta(days=days) if days else None


def _print_issued(made: tokens.IssuedToken, as_json: bool) -> None:
    if as_json:
        print_json(made.model_dump(mode="json", by_alias=True))
        return
    console.print(f"The token {made.id}, until {made.expires_at or 'it is revoked'}.", soft_wrap=True)
    _print_secret(made.scim_token)


def _print_secret(secret: str) -> None:
    console.print(secret, markup=False, soft_wrap=True)
    console.print("\nCopy the token now: it is not shown again.")
