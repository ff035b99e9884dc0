"""`make chaos` and `make simulate`."""

import argparse
import asyncio
import math
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import uvloop

from chaos import deaths, disk, stack
from chaos.overload import overload
from chaos.run import run as run_chaos
from chaos.simulator.runs import Run, run, run_deaths
from devstack.users import remove_linked

SHOWN = 5  # failing seeds of the simulator
LEAST_WRITES = 1000  # acknowledged, for a run to say anything
MISTAKES = ("no-fence", "advance-first", "reply-first")


def main() -> int:
    """Exit code 0 when no promise was broken."""
    parser = argparse.ArgumentParser(prog="chaos", description=__doc__)
    commands = parser.add_subparsers(required=True)
    simulating = commands.add_parser("simulate", help="run the pure core through simulated faults")
    simulating.add_argument("--seeds", type=int, default=1000, help="how many seeds")
    simulating.add_argument("--seed", type=int, help="one seed only, to see a failure again")
    simulating.set_defaults(work=simulate)
    running = commands.add_parser("run", help="run the real stack through real faults")
    running.add_argument("--seed", type=int, help="the choices of a run; printed by each")
    running.add_argument("--faults", type=int, default=30)
    running.add_argument("--minutes", type=float, default=math.inf, help="no more faults after so many minutes")
    running.add_argument("--only", default="", help="faults whose names this regular expression finds")
    running.add_argument("--seeds", type=int, default=1, help="at most so many runs on one stack, until one fails")
    running.add_argument("--writes", type=int, default=LEAST_WRITES, help="acknowledged writes that a run needs")
    running.add_argument("--mistake", choices=MISTAKES, help="plant a mistake into the provisioners; the run must fail")
    running.set_defaults(work=chaos)
    dying = commands.add_parser("deaths", help="kill real processes between the publication of a create and its answer")
    dying.add_argument("--number", type=int, default=50)
    dying.set_defaults(work=die)
    flooding = commands.add_parser("overload", help="offer the real stack five times what it can serve")
    flooding.add_argument("--stack", type=Path, help="the stack.json of one that runs; otherwise one of our own")
    flooding.set_defaults(work=flood)
    arguments = parser.parse_args()
    return arguments.work(arguments)


def chaos(arguments: argparse.Namespace) -> int:
    seed = arguments.seed if arguments.seed is not None else random.SystemRandom().randrange(10**6)
    print(f"seed {seed} (again with: make chaos SEED={seed} FAULTS={arguments.faults})", flush=True)
    return on_a_stack(lambda running: run_seeds(running, seed, arguments), arguments.mistake)


async def run_seeds(running: stack.Stack, seed: int, arguments: argparse.Namespace) -> bool:
    """Whether no run has failed; the first that does is the last."""
    for each in range(seed, seed + arguments.seeds):
        report = await run_chaos(
            running, each, arguments.faults, arguments.writes, minutes=arguments.minutes, only=arguments.only
        )
        print(report, flush=True)
        if report.broken:
            return False
    return True


def die(arguments: argparse.Namespace) -> int:
    async def work(running: stack.Stack) -> bool:
        died = await deaths.run(running, random.SystemRandom().randrange(10**6), arguments.number)
        print(died)
        return not died.broken

    return on_a_stack(work)


def flood(arguments: argparse.Namespace) -> int:
    return 0 if uvloop.run(overload(arguments.stack)) else 1


def on_a_stack(work: Callable[[stack.Stack], Awaitable[bool]], mistake: str | None = None) -> int:
    """Exit code 0 when `work` says that all is well; else the logs stay."""
    has_disks = disk.separate()
    if not has_disks:
        print("no faults of full disks: mounts of our own are not allowed here (root would be)")
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    folder.chmod(0o711)  # Postgres runs as another user when we are root

    async def run() -> bool:
        async with stack.running(folder / "run", has_disks=has_disks, bug=mistake) as running:
            return await work(running)

    is_well = False
    try:
        is_well = asyncio.run(run())
    finally:
        if is_well or mistake:
            remove_linked(folder / "run" / "postgres")
            shutil.rmtree(folder, ignore_errors=True)
        else:
            print(f"logs: {folder}/run/logs")
    return 0 if is_well else 1


def simulate(arguments: argparse.Namespace) -> int:
    if arguments.seed is not None:
        seeds = range(arguments.seed, arguments.seed + 1)
    else:
        first = random.SystemRandom().randrange(10**9)
        seeds = range(first, first + arguments.seeds)
    began = time.monotonic()
    failed = []
    runs: list[Run] = []
    for seed in seeds:
        # Deaths between publication and answer are a scenario of their own.
        pair = [run(seed), run_deaths(seed)] if seed % 10 == 0 else [run(seed)]
        runs.extend(pair)
        failed.extend(each for each in pair if each.broken)
        if len(failed) >= SHOWN:
            break
    for each in failed:
        print(
            f"seed {each.seed} breaks promises (again with: make simulate SEED={each.seed})", *each.broken, sep="\n  "
        )
    minutes = (time.monotonic() - began) / 60
    print(
        f"{len(runs)} runs, {len(runs) / minutes:.0f} a minute, {len(failed)} failed: "
        f"{sum(each.faults for each in runs)} faults; operations: {sum(each.acknowledged for each in runs)} "
        f"acknowledged, {sum(each.unknown for each in runs)} unknown, {sum(each.refused for each in runs)} refused"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
