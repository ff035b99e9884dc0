"""One chaos run: clients at work, faults one after the other, then the checks and the report."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf

from chaos.clients import Load
from chaos.faults import chosen, inject
from chaos.history import End
from chaos.invariants import sign_in_now_and_then, violations
from chaos.linearizability import Undecided, find_conflict
from chaos.stack import Stack

SHOWN = 12  # violations
CALM = 12  # acknowledged writes after each fault before the next one
BACK_DEADLINE = 90.0  # seconds for them, and for the stack to be whole at the end


@dataclass(slots=True)
class Report:
    """What came of one run."""

    seed: int
    faults: Counter[str] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)
    writes: int = 0
    ends: Counter[End] = field(default_factory=Counter)
    resources: int = 0
    seconds: float = 0.0

    def __str__(self) -> str:
        faults = "\n".join(f"    {count} x {name}" for name, count in sorted(self.faults.items()))
        lines = [
            f"seed {self.seed}: {self.faults.total()} faults in {self.seconds:.0f} s",
            faults,
            f"operations on {self.resources} resources: {self.ends[End.ANSWERED]} answered, {self.ends[End.UNKNOWN]} "
            f"unknown, {self.ends[End.REFUSED]} refused; {self.writes} writes acknowledged",
            *self.broken[:SHOWN],
            f"{len(self.broken)} violations" if self.broken else "no violation",
        ]
        return "\n".join(lines)


async def run(
    stack: Stack, seed: int, faults: int, least_writes: int, *, minutes: float = inf, only: str = ""
) -> Report:
    """Inject so many faults, or as many as fit into so many minutes, under load, and check everything.

    `only` is a regular expression for the faults' names. The load goes on without faults up to `least_writes`
    acknowledged writes.
    """
    report, load, began = Report(seed), Load(stack, seed), time.monotonic()
    signing_in = asyncio.create_task(sign_in_now_and_then(stack.postgres.dsn))
    try:
        async with load.running():
            await disturb(stack, load, report, faults, began + minutes * 60, only)
            await until_written(load, least_writes, report)
            await until_whole(stack, report)
    finally:
        signing_in.cancel()
    report.broken += await violations(stack.postgres.dsn, stack.kafka.bootstrap)
    report.broken += load.surprises[:20]
    report.broken += await asyncio.to_thread(conflicts, load)
    report.writes, report.resources = load.acknowledged, len(load.history.operations)
    report.ends = Counter(op.end for ops in load.history.operations.values() for op in ops)
    if report.writes < least_writes:
        report.broken.append(
            f"only {report.writes} writes were acknowledged: {least_writes} are needed to say anything"
        )
    report.seconds = time.monotonic() - began
    return report


async def disturb(stack: Stack, load: Load, report: Report, faults: int, end: float, only: str) -> None:
    """Inject faults, single ones and pairs; after each the clients must get on again."""
    dice = random.Random(report.seed)
    for together in chosen(stack, dice, only):
        if report.faults.total() >= faults or time.monotonic() > end:
            return
        names = " and ".join(fault.name for fault in together)
        print(f"{load.acknowledged:6} writes; {names}", flush=True)
        report.faults.update(fault.name for fault in together)
        await inject(stack, together, dice)
        if not await reached(lambda mark=load.acknowledged + CALM: load.acknowledged >= mark):
            report.broken.append(f"P14: no {CALM} writes within {BACK_DEADLINE:.0f} s after {names}")
            return


async def until_written(load: Load, least: int, report: Report) -> None:
    """Let the clients go on while they make progress."""
    while load.acknowledged < least and not report.broken:
        mark = load.acknowledged + CALM
        if not await reached(lambda mark=mark: load.acknowledged >= mark):
            return


async def until_whole(stack: Stack, report: Report) -> None:
    end = time.monotonic() + BACK_DEADLINE
    while not await stack.is_whole():
        if time.monotonic() > end:
            report.broken.append(f"P13: not every service is ready {BACK_DEADLINE:.0f} s after the last fault")
            return
        await asyncio.sleep(0.2)


async def reached(condition: Callable[[], bool]) -> bool:
    """Whether the condition holds within BACK_DEADLINE."""
    end = time.monotonic() + BACK_DEADLINE
    while not condition():
        if time.monotonic() > end:
            return False
        await asyncio.sleep(0.05)
    return True


def conflicts(load: Load) -> list[str]:
    """P4: every resource whose history nothing explains."""
    found = []
    for resource, ops in load.history.operations.items():
        try:
            if conflict := find_conflict(ops, load.models[resource]):
                found.append(f"P4: {resource} is not linearizable:\n{conflict}")
        except Undecided as error:
            found.append(f"P4: {resource} could not be decided: {error}")
    return found
