"""`directory-sync verify`."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any
from uuid import UUID

import typer
from rich.markup import escape

from admin_api.cli.frame import AsJson, Failure, console, in_database, new_app, print_json, print_table
from admin_api.drift import STALE_AFTER, Drift, Report, verify_all
from admin_api.drift_report import camelized

app = new_app("Drift of the directory from what its rows say.")


@app.command()
def verify(
    organization: Annotated[UUID | None, typer.Option(help="Id of the organization; otherwise all.")] = None,
    repair: Annotated[bool, typer.Option("--repair", help="Put right what can be; changes wait meanwhile.")] = False,
    stale_days: Annotated[int, typer.Option(min=1, help="For the list of stale users.")] = STALE_AFTER.days,
    as_json: AsJson = False,
) -> None:
    """Recompute roles, keys, counters, links and memberships from raw rows, and prove the audit trail's chains.

    Exit code 1 when something is wrong and was not repaired. Settings: DATABASE_URL (the owner's).
    """
    now, stale_after = datetime.now(UTC), timedelta(days=stale_days)
    with console.status("Reading the directory ..."):
        report = in_database(lambda db: verify_all(db, organization, now, stale_after, repair=repair))
    print_json(document(report)) if as_json else _print(report)
    if not report.is_clean:
        raise Failure("the directory is not as it should be; see above")


def document(report: Report) -> dict[str, Any]:
    """The report as JSON shows it."""
    return {
        "isClean": report.is_clean,
        "drifts": [_drift(drift) for drift in report.drifts],
        "chains": [
            {"chain": c.chain, "seq": c.seq, "hash": c.hash.hex(), "breakAt": c.break_at, "why": c.why}
            for c in report.chains
        ],
        "stale": [camelized(row) for row in report.stale],
        "orphans": [camelized(row) for row in report.orphans],
    }


def _drift(drift: Drift) -> dict[str, Any]:
    return {
        "kind": drift.kind,
        "says": drift.says,
        "found": drift.found,
        "left": drift.left,
        "advice": drift.advice if drift.left else None,
        "examples": [camelized(row) for row in drift.examples],
    }


def _print(report: Report) -> None:
    print_table(
        ["kind", "found", "left", "what"],
        [(drift.kind, drift.found, drift.left, drift.says) for drift in report.drifts],
        "No drift.",
    )
    for drift in report.drifts:
        if drift.left:
            advice = escape(drift.advice or "")
            console.print(f"[bold]{drift.kind}[/bold], if --repair leaves it: {advice}", soft_wrap=True)
    for chain in report.chains:
        if chain.why:
            console.print(f"[red]Chain {chain.chain} breaks at {chain.break_at}[/red]: {chain.why}", soft_wrap=True)
        else:
            console.print(f"Chain {chain.chain} holds to {chain.seq}, {chain.hash.hex()}", soft_wrap=True)
    for name, rows in (("stale", report.stale), ("orphaned", report.orphans)):
        if rows:
            console.print(f"{len(rows)} {name} users; --json lists them.")
