"""For people: bars while it runs (plain lines where there is no terminal), and the summary."""

import time
from collections.abc import Sequence
from typing import Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars
from rich.table import Table

from simulators.idp import IdentityProvider, Progress
from simulators.life import Kind
from simulators.play import PROVIDERS, Result

SHOWN = 20  # differences and failures of one provider that are printed
LABEL = max(len(each.label) for each in PROVIDERS.values())
PERSONAL = {
    Kind.JOINER: "joined",
    Kind.MOVER: "moved",
    Kind.RENAME: "renamed",
    Kind.LEAVER: "left",
    Kind.REHIRE: "came back",
    Kind.REMOVAL: "removed",
}


class Board:
    """Shows the progress of several providers at once."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.bars = Bars(
            TextColumn(f"{{task.fields[label]:<{LABEL}}}"),
            TextColumn("{task.description:<10}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
            disable=not console.is_terminal,
        )

    def __enter__(self) -> Self:
        self.bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bars.stop()

    def of(self, label: str) -> Progress:
        if self.console.is_terminal:
            return _Bar(self.bars, self.bars.add_task("", label=label, total=None))
        return _Lines(self.console, label)


class _Bar(Progress):
    def __init__(self, bars: Bars, task: TaskID) -> None:
        self.bars = bars
        self.task = task

    def begin(self, phase: str, total: int) -> None:
        self.bars.reset(self.task, description=phase, total=total)

    def step(self) -> None:
        self.bars.advance(self.task)


class _Lines(Progress):
    """A line at the end of each phase."""

    def __init__(self, console: Console, label: str) -> None:
        self.console = console
        self.label = label

    def begin(self, phase: str, total: int) -> None:
        self.phase, self.total, self.done, self.began = phase, total, 0, time.monotonic()

    def step(self) -> None:
        self.done += 1
        if self.done == self.total:
            seconds = time.monotonic() - self.began
            self.console.print(f"{self.label:<{LABEL}}  {self.phase:<10} {self.total:>6} in {seconds:5.1f} s")


def summarize(console: Console, results: Sequence[Result]) -> int:
    """Print what was done, what the directory has now, and every difference; the exit status, 1 when there is one."""
    for table in (_requests(results), _directory(results), _events(results)):
        console.print(table)
        console.print()
    for result in results:
        _print_check(console, result)
    return 1 if any(result.differences for result in results) else 0


def _requests(results: Sequence[Result]) -> Table:
    statuses = sorted({status for result in results for status in result.traffic.statuses}, key=str)
    table = _table("Requests", "requests", "a second", *map(str, statuses), "p50 ms", "p95 ms", "p99 ms")
    for result in results:
        traffic = result.traffic
        table.add_row(
            result.idp.label,
            f"{traffic.requests:,}",
            f"{traffic.requests / result.seconds:,.0f}",
            *(f"{traffic.statuses[status]:,}" for status in statuses),
            *(f"{1000 * traffic.percentile(part):,.0f}" for part in (0.5, 0.95, 0.99)),
        )
    return table


def _directory(results: Sequence[Result]) -> Table:
    table = _table("The directory", "users", "active", "suspended", "groups", "memberships")
    for result in results:
        (users, groups), after = result.before, result.after
        table.add_row(
            result.idp.label,
            f"{users:,} → {len(after.users):,}",
            f"{after.active:,}",
            f"{len(after.users) - after.active:,}",
            f"{groups:,} → {len(after.groups):,}",
            f"{after.memberships:,}",
        )
    return table


def _events(results: Sequence[Result]) -> Table:
    table = _table("People who, after the first sync,", *PERSONAL.values())
    for result in results:
        table.add_row(result.idp.label, *(f"{result.events[kind]:,}" for kind in PERSONAL))
    return table


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=None, padding=(0, 0, 0, 2), pad_edge=False)
    table.add_column("", min_width=LABEL)
    for column in columns:
        table.add_column(column, justify="right")
    return table


def _print_check(console: Console, result: Result) -> None:
    label = f"{result.idp.label:<{LABEL}}"
    _print_some(console, "yellow", [f"{label}  failed, and was tried again: {each}" for each in result.idp.failures])
    _print_some(console, "red", [f"{label}  DIFFERENT {each}" for each in result.differences])
    if not result.differences:
        line = f"[green]✓[/green] {label}  {believed(result.idp)}: the directory has exactly that"
        console.print(line, soft_wrap=True)


def believed(idp: IdentityProvider) -> str:
    """How much the provider believes to have pushed."""
    groups = idp.expected_groups()
    memberships = sum(len(group["members"]) for group in groups)
    return f"{len(idp.expected_users()):,} users, {len(groups):,} groups, {memberships:,} memberships"


def _print_some(console: Console, color: str, lines: Sequence[str]) -> None:
    for line in lines[:SHOWN]:
        console.print(f"[{color}]{escape(line)}[/{color}]", soft_wrap=True)
    if len(lines) > SHOWN:
        console.print(f"[{color}]… and {len(lines) - SHOWN} more[/{color}]")
