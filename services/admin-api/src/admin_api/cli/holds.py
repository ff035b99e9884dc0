"""The commands for held deactivations."""

from datetime import UTC, datetime, timedelta
from typing import Annotated
from uuid import UUID

import typer
from sqlalchemy.ext.asyncio import AsyncSession

from admin_api.changes import Changes, Publisher
from admin_api.cli.frame import (
    AsJson,
    Failure,
    OrganizationId,
    console,
    in_database,
    in_transactions,
    new_app,
    print_json,
    print_table,
)
from admin_api.cli.quarantine import actor
from admin_api.errors import Validation
from admin_api.holds import MAX_HOLDS, Chosen, Desk, Resolutions, confirmed, discarded, release_guard, resolve
from admin_api.store import holds as store
from admin_api.store.database import Transaction
from servicekit.kafka import KafkaSettings
from servicekit.settings import load

app = new_app("Deactivations that a guard holds back until somebody decides.")

HoldIds = Annotated[list[UUID] | None, typer.Argument(help="Ids of holds; or --connection for all of one.")]
Connection = Annotated[UUID | None, typer.Option("--connection", help="Id of the connection.")]


@app.command("list")
def list_holds(organization: OrganizationId, connection: Connection = None, as_json: AsJson = False) -> None:
    """Print what is held, the oldest first. Settings: DATABASE_URL (the owner's)."""
    rows = in_database(
        lambda db: store.list_holds(db, organization, connection_id=connection, is_open=True, after=None, limit=1000)
    )
    if as_json:
        names = ("id", "connection_id", "user_id", "account_id", "account_email", "held_at")
        print_json([{name: getattr(row, name) for name in names} for row in rows])
        return
    print_table(
        ["id", "connection", "account", "asked for", "held since"],
        [(row.id, row.provider_id, row.account_email, row.change["operation"], row.held_at) for row in rows],
        "Nothing is held.",
    )


@app.command()
def confirm(organization: OrganizationId, hold_ids: HoldIds = None, connection: Connection = None) -> None:
    """Do what is held. Settings: DATABASE_URL (the owner's), KAFKA_BOOTSTRAP."""
    _resolve(organization, _chosen(hold_ids, connection), is_confirmed=True)


@app.command()
def discard(organization: OrganizationId, hold_ids: HoldIds = None, connection: Connection = None) -> None:
    """Forget what is held: the users stay active. Settings: DATABASE_URL (the owner's), KAFKA_BOOTSTRAP."""
    _resolve(organization, _chosen(hold_ids, connection), is_confirmed=False)


@app.command()
def release(
    organization: OrganizationId,
    connection: Annotated[UUID, typer.Option("--connection", help="Id of the connection.")],
    minutes: Annotated[int, typer.Option(min=1, max=24 * 60, help="How long everything passes.")] = 60,
) -> None:
    """Let a connection's deactivations pass for a while, and discard what is held.

    Settings: DATABASE_URL (the owner's), KAFKA_BOOTSTRAP.
    """
    until = datetime.now(UTC) + timedelta(minutes=minutes)

    async def release_it(db: AsyncSession) -> None:
        await release_guard(db, organization, actor(), connection, until)

    in_database(release_it)
    console.print(f"The guard lets everything pass until {until:%Y-%m-%d %H:%M} UTC.")
    _resolve(organization, Chosen(connection_id=connection), is_confirmed=False)


def _chosen(hold_ids: list[UUID] | None, connection: UUID | None) -> Chosen:
    if bool(hold_ids) == (connection is not None):
        raise Validation("name some holds, or --connection for all of one")
    if hold_ids and len(hold_ids) > MAX_HOLDS:
        raise Validation(f"name at most {MAX_HOLDS} holds")
    return Chosen(hold_ids=hold_ids or None, connection_id=connection)


def _resolve(organization_id: UUID, chosen: Chosen, *, is_confirmed: bool) -> None:
    settings = load(KafkaSettings)
    as_change = confirmed if is_confirmed else discarded

    async def work(transaction: Transaction) -> Resolutions:
        publisher = Publisher(settings.kafka())
        try:
            desk = Desk(Changes(publisher, transaction), transaction, organization_id, actor())
            return await resolve(desk, chosen, as_change)
        finally:
            await publisher.close()

    refused = 0
    while True:
        done = in_transactions(work)
        refused += sum(result.status >= 400 for result in done.results)
        console.print(f"{len(done.results)} {'confirmed' if is_confirmed else 'discarded'}.")
        if not done.results or not done.remaining or refused:
            break
    if refused:
        raise Failure(f"{refused} could not be resolved; the provisioning log says why")
