"""The commands for API keys."""

from datetime import UTC, datetime, timedelta
from typing import Annotated
from uuid import UUID

import typer
from rich.markup import escape
from sqlalchemy.ext.asyncio import AsyncSession

from admin_api import api_keys
from admin_api.api_keys import BY_OPERATOR, Wanted
from admin_api.cli.frame import AsJson, Failure, console, in_database, new_app, print_json, print_table
from admin_api.settings import PepperSettings
from admin_api.store import api_keys as store
from admin_api.store.organizations import get_organization
from directory.tables import ApiKey
from servicekit.settings import load

app = new_app("API keys: of operators, or of one organization with --organization.")

Owner = Annotated[UUID | None, typer.Option("--organization", help="Id of the organization; without, operators' keys.")]

_ALL = 1000


@app.command("create")
def create(
    name: Annotated[str, typer.Argument(help="What the key is for.")],
    organization: Owner = None,
    days: Annotated[int | None, typer.Option(min=1, max=3650, help="Days until it expires; without, never.")] = None,
    as_json: AsJson = False,
) -> None:
    """Make a key. It is printed once, and never again.

    Settings: DATABASE_URL (the owner's), TOKEN_PEPPER.
    """
    now = datetime.now(UTC)
    wanted = Wanted(organization, name, now + timedelta(days=days) if days else None)
    pepper = load(PepperSettings).pepper()
    secret, key = in_database(lambda db: _issue(db, wanted, pepper, now))
    if as_json:
        print_json({"id": key.id, "name": key.name, "apiKey": secret, "expiresAt": key.expires_at})
        return
    console.print(f"[bold]{escape(name)}[/bold]: {secret}", soft_wrap=True)
    console.print("\nCopy the key now: it is not shown again.")


@app.command("list")
def list_keys(organization: Owner = None, as_json: AsJson = False) -> None:
    """Print the keys. Settings: DATABASE_URL (the owner's)."""
    keys = in_database(lambda db: store.list_keys(db, organization, None, _ALL))
    now = datetime.now(UTC)
    if as_json:
        print_json([_document(key, now) for key in keys])
        return
    print_table(
        ["id", "name", "ends in", "state", "made", "expires", "last used"],
        [
            (key.id, key.name, key.hint, _state(key, now), key.created_at, key.expires_at, key.last_used_at)
            for key in keys
        ],
        nothing="There are no keys.",
    )


@app.command("revoke")
def revoke(
    id: Annotated[UUID, typer.Argument(help="Id of the key.")],
    organization: Owner = None,
) -> None:
    """End a key at once. Settings: DATABASE_URL (the owner's)."""
    key = in_database(lambda db: api_keys.revoke(db, organization, id, BY_OPERATOR, datetime.now(UTC)))
    console.print(f"The key [bold]{escape(key.name)}[/bold] is revoked.")


async def _issue(db: AsyncSession, wanted: Wanted, pepper: bytes, now: datetime) -> tuple[str, ApiKey]:
    if wanted.organization_id and await get_organization(db, wanted.organization_id) is None:
        raise Failure("there is no organization of that id")
    return await api_keys.issue(db, wanted, BY_OPERATOR, pepper, now)


def _document(key: ApiKey, now: datetime) -> dict[str, object]:
    return {
        "id": key.id,
        "name": key.name,
        "hint": key.hint,
        "state": _state(key, now),
        "createdAt": key.created_at,
        "expiresAt": key.expires_at,
        "lastUsedAt": key.last_used_at,
    }


def _state(key: ApiKey, now: datetime) -> str:
    return "revoked" if key.revoked_at else "live" if api_keys.is_open(key, now) else "expired"
