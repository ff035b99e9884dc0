"""`directory-sync access-report`."""

import sys
from datetime import UTC, datetime
from typing import Annotated

import typer
from sqlalchemy.ext.asyncio import AsyncSession

from admin_api.access_report import COLUMNS, Holder, Summary, holders, summarize
from admin_api.cli.frame import AsJson, OrganizationId, console, in_database, new_app, print_json, print_table
from admin_api.exports import csv_lines
from admin_api.store.drift import set_timeout

app = new_app("Who holds which role.")


@app.command("access-report")
def access_report(
    organization: OrganizationId,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print every grant as CSV.")] = False,
    as_json: AsJson = False,
) -> None:
    """Print who holds which role through which group. Settings: DATABASE_URL (the owner's)."""

    async def read(db: AsyncSession) -> tuple[Summary, list[Holder]]:
        await set_timeout(db, 600)
        summary = await summarize(db, organization, datetime.now(UTC))
        return summary, [holder async for page in holders(db, organization) for holder in page]

    summary, found = in_database(read)
    rows = [holder.model_dump(mode="json", by_alias=True) for holder in found]
    if as_csv:
        sys.stdout.write(csv_lines([COLUMNS, *([row[column] for column in COLUMNS] for row in rows)]))
    elif as_json:
        print_json({**summary.model_dump(mode="json", by_alias=True), "holders": rows})
    else:
        _print(summary, found)


def _print(summary: Summary, found: list[Holder]) -> None:
    print_table(
        ["role", "email", "name", "status", "through"],
        [(each.role, each.email, each.display_name, each.status, _through(each)) for each in found],
        "Nobody holds a role.",
    )
    for label, accounts in (
        ("Admins without a group", summary.admins_without_group),
        ("The last active admin", [summary.last_admin] if summary.last_admin else []),
        ("Break-glass accounts", summary.break_glass_accounts),
    ):
        names = ", ".join(account.email or account.display_name for account in accounts)
        console.print(f"{label}: {names or 'none'}", markup=False, soft_wrap=True)


def _through(holder: Holder) -> str:
    if holder.source == "manual":
        return holder.label or "by hand"
    return f"{holder.group_name} ({holder.provider_id})"
