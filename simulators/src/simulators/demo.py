"""`make demo`: four identity providers push a made-up company at once, and the directory is compared with what they
believe.

Uses the stack of `make run` when that runs, else one of its own that is deleted afterwards. Every provider gets a
connection of its own, with addresses that no earlier demo has used. From the environment:

    USERS=500   people of each provider's company
    PACE=20     joiners, movers, ... a second, of each provider; 0: as fast as the server answers
    SEED=1      another number is another company
    STAY=1      a stack of its own stays until Ctrl-C

Exit status: 0 when the directory is as believed, 1 when anything differs, 2 when there is no stack.
"""

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Self

from rich.console import Console

from e2e import stack as stacks
from e2e.admin import Admin, signed_in
from e2e.stack import Stack
from simulators.company import DOMAIN, make_company
from simulators.play import PROVIDERS, Result, play
from simulators.report import Board, summarize
from simulators.wire import open_wire


@dataclass(frozen=True)
class Settings:
    users: int
    pace: float
    seed: int
    stays: bool

    @classmethod
    def read(cls, environment: Mapping[str, str]) -> Self:
        """ValueError when one is no number."""
        return cls(
            users=int(environment.get("USERS") or 500),
            pace=float(environment.get("PACE") or 20),
            seed=int(environment.get("SEED") or 1),
            stays=environment.get("STAY", "") not in ("", "0"),
        )


def main(environment: Mapping[str, str]) -> int:
    console = Console(highlight=False)
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))  # the stack must not outlive us
    try:
        settings = Settings.read(environment)
    except ValueError as error:
        console.print(f"demo: USERS, PACE and SEED are numbers: {error}")
        return 2
    try:
        return asyncio.run(demo(settings, console))
    except KeyboardInterrupt:
        return 130
    except (RuntimeError, TimeoutError) as error:
        first_line, *_ = str(error).splitlines()  # the rest is the log, which is printed by now
        console.print(f"demo: {first_line}", markup=False, soft_wrap=True)
        return 2


async def demo(settings: Settings, console: Console) -> int:
    status = 1
    async with open_stack(console, lambda: status != 0) as stack:
        results = await push(stack, settings, console)
        console.print()
        status = summarize(console, results)
        if stack.is_ours and settings.stays:
            await stay(stack, console)
        elif not stack.is_ours:
            console.print(f"\nThe connections are there to look at: {stack.admin_url}")
    return status


@asynccontextmanager
async def open_stack(console: Console, has_failed: Callable[[], bool]) -> AsyncIterator[Stack]:
    """The one that runs, or one of our own, whose logs stay when the demo has failed."""
    if found := await stacks.find():
        console.print(f"pushing to the stack that runs at {found.scim_url}")
        yield found
        return
    console.print("starting Kafka, Postgres and the services; the first time downloads about 200 MB")
    began = time.monotonic()
    async with stacks.started(has_failed) as own:
        console.print(f"the stack is ready after {time.monotonic() - began:.0f} s")
        yield own


async def push(stack: Stack, settings: Settings, console: Console) -> list[Result]:
    """All providers at once, each with a connection made for this run."""
    run = time.strftime("%m%d-%H%M%S")
    document = stack.document
    console.print(f"{len(PROVIDERS)} identity providers push {settings.users:,} people each")
    async with signed_in(stack, document["adminEmail"], document["adminPassword"]) as admin:
        with Board(console) as board:
            return await asyncio.gather(
                *(push_one(name, f"demo-{name}-{run}", stack, admin, settings, board) for name in PROVIDERS)
            )


async def push_one(name: str, connection: str, stack: Stack, admin: Admin, settings: Settings, board: Board) -> Result:
    progress = board.of(PROVIDERS[name].label)
    made = await admin.generate_token(connection)
    company = make_company(settings.users, seed=settings.seed, domain=f"{connection}.{DOMAIN}")
    async with open_wire(stack.scim_url, made["scimToken"]) as wire:
        return await play(PROVIDERS[name](wire), company, seed=settings.seed, pace=settings.pace, progress=progress)


async def stay(stack: Stack, console: Console) -> None:
    secret = stack.file.parent / "secrets" / "admin_password"
    console.print(
        f"\nThe stack stays until Ctrl-C:\n  admin  {stack.admin_url}   ({stack.document['adminEmail']}, password in "
        f"{secret})\n  SCIM   {stack.scim_url}\n  all of it for programs: {stack.file}",
        soft_wrap=True,
    )
    await asyncio.Event().wait()


if __name__ == "__main__":
    sys.exit(main(os.environ))
