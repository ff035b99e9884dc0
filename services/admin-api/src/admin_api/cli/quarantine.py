"""The commands for records that could not be applied."""

import getpass
from typing import Annotated, Any
from uuid import UUID

import typer
from rich.markup import escape
from sqlalchemy.ext.asyncio import AsyncSession

from admin_api import quarantine
from admin_api.changes import Publisher
from admin_api.cli.frame import AsJson, console, in_database, new_app, print_json, print_table
from directory.tables import Quarantined
from servicekit.kafka import KafkaSettings
from servicekit.settings import load

app = new_app("Records that could not be applied, and what becomes of them.")

RecordId = Annotated[UUID, typer.Argument(help="Id of the record, from the list.")]


@app.command("list")
def quarantine_list(
    organization: Annotated[UUID | None, typer.Option(help="Id of the organization; otherwise all.")] = None,
    resolved: Annotated[bool, typer.Option("--resolved", help="Those that were retried or discarded.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=1000)] = quarantine.PAGE,
    as_json: AsJson = False,
) -> None:
    """Print the records that wait for a decision, the latest first. Settings: DATABASE_URL (the owner's)."""
    rows = in_database(lambda db: quarantine.list_quarantine(db, organization, is_open=not resolved, limit=limit))
    if as_json:
        print_json([described(row) for row in rows])
        return
    columns = ("id", "partition", "offset", "since", "change", "organization", "error", "resolution")
    print_table(
        columns,
        (
            (
                *(row.id, row.partition, row.record_offset, row.created_at, row.change_id, row.organization_id),
                *(row.error, row.resolution),
            )
            for row in rows
        ),
        "The quarantine is empty.",
    )


@app.command("show")
def quarantine_show(
    record: RecordId,
    value: Annotated[bool, typer.Option("--value", help="Print what the record holds: personal data.")] = False,
    as_json: AsJson = False,
) -> None:
    """Print one record. Settings: DATABASE_URL (the owner's)."""
    row = in_database(lambda db: quarantine.show(db, record))
    document = described(row)
    if value:
        document["key"] = _text(row.key)
        document["value"] = _text(row.value)
    if as_json:
        print_json(document)
        return
    for name, content in document.items():
        console.print(f"[bold]{name:<16}[/bold]{escape(str(content))}", soft_wrap=True)


@app.command("retry")
def quarantine_retry(record: RecordId) -> None:
    """Publish a record again, as a new change; its outcome is in the provisioning log.

    Settings: DATABASE_URL (the owner's), KAFKA_BOOTSTRAP.
    """
    settings = load(KafkaSettings)

    async def retry(db: AsyncSession) -> UUID | None:
        publisher = Publisher(settings.kafka())
        try:
            return await quarantine.retry(db, publisher, record, actor())
        finally:
            await publisher.close()

    change_id = in_database(retry)
    console.print(f"Published as change [bold]{change_id}[/bold]." if change_id else "Published as it was.")


@app.command("discard")
def quarantine_discard(record: RecordId) -> None:
    """Give a record up; it stays in the table. Settings: DATABASE_URL (the owner's)."""
    in_database(lambda db: quarantine.discard(db, record, actor()))
    console.print(f"[bold]{record}[/bold] is discarded.")


def actor() -> str:
    """Who runs the command, for the audit trail."""
    return f"operator:{getpass.getuser()}"


def described(row: Quarantined) -> dict[str, Any]:
    """A record without its bytes."""
    return {
        "id": row.id,
        "topic": row.topic,
        "partition": row.partition,
        "offset": row.record_offset,
        "createdAt": row.created_at,
        "changeId": row.change_id,
        "organizationId": row.organization_id,
        "error": row.error,
        "bytes": len(row.value or b""),
        "resolution": row.resolution,
        "resolvedAt": row.resolved_at,
        "resolvedBy": row.resolved_by,
    }


def _text(data: bytes | None) -> str | None:
    return None if data is None else data.decode(errors="backslashreplace")
