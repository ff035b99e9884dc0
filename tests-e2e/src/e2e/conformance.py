"""python -m e2e.conformance --url URL --token TOKEN [FILE_OR_FOLDER ...]: play all case files against a SCIM server.

Creates and deletes users and groups: test servers only. Exit code 0 when everything but `info` passes, 1 when something
fails, 2 when there is no server or no case.
"""

import argparse
import asyncio
import os
import sys
from collections import Counter
from pathlib import Path

import httpx
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from e2e.player import Verdict, connect, play
from e2e.scenarios import LEVELS, Scenario, load, load_all

HOUSE = Path(__file__).parents[3]
OWN_CASES = HOUSE / "tests-e2e" / "cases"
console = Console(highlight=False, soft_wrap=True)


def case_folders() -> list[Path]:
    """Our own sets, and the recordings that IDP_CASES names (default: beside the checkout)."""
    return [Path(os.environ.get("IDP_CASES") or HOUSE.parent / "shared" / "idp_cases"), OWN_CASES]


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="conformance", description="Play identity providers' requests against a server."
    )
    parser.add_argument("--url", required=True, help="base URL of the SCIM server")
    parser.add_argument("--token", default="", help="bearer token")
    parser.add_argument("--insecure", action="store_true", help="do not verify TLS")
    parser.add_argument("--only", default="", help="only scenarios whose id has this text")
    parser.add_argument("paths", nargs="*", type=Path, help="case files or folders (default: all sets)")
    options = parser.parse_args(arguments)
    scenarios = [scenario for scenario in _load(options.paths) if options.only in scenario.id]
    if not scenarios:
        console.print(f"no scenarios in {', '.join(map(str, options.paths or case_folders()))}")
        return 2
    try:
        verdicts = asyncio.run(_play_all(options, scenarios))
    except httpx.HTTPError as error:
        console.print(escape(f"no SCIM server at {options.url}: {type(error).__name__} {error}"))
        return 2
    return report(verdicts)


def report(verdicts: list[tuple[Scenario, Verdict]]) -> int:
    """Print the table and what failed or was skipped; the exit code."""
    for scenario, verdict in verdicts:
        if verdict.result != "pass":
            console.print(
                escape(f"{verdict.result.upper()} {scenario.level} {scenario.file}/{scenario.id}: {verdict.reason}")
            )
    console.print(_table(verdicts))
    totals = Counter(verdict.result for _, verdict in verdicts)
    console.print(f"{totals['pass']} passed, {totals['fail']} failed, {totals['skip']} skipped")
    failed = any(verdict.result == "fail" and scenario.level != "info" for scenario, verdict in verdicts)
    return 1 if failed or not totals["pass"] else 0


def _load(paths: list[Path]) -> list[Scenario]:
    if not paths:
        return load_all(case_folders())
    return [scenario for path in paths for scenario in (load_all([path]) if path.is_dir() else load(path))]


async def _play_all(options: argparse.Namespace, scenarios: list[Scenario]) -> list[tuple[Scenario, Verdict]]:
    async with connect(options.url, options.token, verify=not options.insecure) as server:
        return [(scenario, await play(scenario, server)) for scenario in scenarios]


def _table(verdicts: list[tuple[Scenario, Verdict]]) -> Table:
    """One row a file, one column a level: passed / failed / skipped."""
    table = Table("file", *LEVELS, caption="passed / failed / skipped")
    counts = Counter((scenario.file, scenario.level, verdict.result) for scenario, verdict in verdicts)
    for file in dict.fromkeys(scenario.file for scenario, _ in verdicts):
        table.add_row(
            file, *(_cell(*(counts[file, level, each] for each in ("pass", "fail", "skip"))) for level in LEVELS)
        )
    return table


def _cell(passed: int, failed: int, skipped: int) -> str:
    if not passed + failed + skipped:
        return ""
    text = f"{passed} / {failed} / {skipped}"
    return f"[red]{text}[/red]" if failed else text


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
