"""What is done to the stack: each fault is injected, lasts a while, and is healed."""

import asyncio
import os
import random
import re
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from chaos import foreign
from chaos.proxy import Way
from chaos.stack import GATEWAYS, PROVISIONERS, SERVERS, Stack, signal_family

PAIRS = 0.25  # of the faults are injected together with another one
BOTH = (Way.THERE, Way.BACK)


@dataclass(frozen=True, slots=True)
class Fault:
    """`inject` breaks and mends; in between the fault lasts one of `seconds`."""

    name: str
    inject: Callable[[Stack], AsyncIterator[None]]
    seconds: tuple[float, ...]


def catalogue(stack: Stack) -> list[Fault]:
    """Every fault that this stack allows (faults.md: F1 to F10, F14, F15, F17, F19, F23)."""
    faults = [
        *(Fault(f"kill -9 {part}", killed(part), (0.5,)) for part in (*GATEWAYS, *PROVISIONERS, *SERVERS)),
        *(Fault(f"freeze {part}", frozen(part), (0.3, 3.0, 8.0)) for part in (*GATEWAYS, *PROVISIONERS, *SERVERS)),
        *(Fault(f"restart {part}", restarted(part), (0.5,)) for part in (*GATEWAYS, *PROVISIONERS, *SERVERS)),
        Fault("kill -9 a backend of postgres", backend_killed, (0.5,)),
        Fault("lock the table of users", foreign.table_locked, (3.0,)),
        Fault("the last changes again", foreign.records_again, (0.1,)),
        Fault("garbage among the outcomes", foreign.garbage_among_outcomes, (0.1,)),
    ]
    faults += [Fault(f"cut {name} off", cut_off(name), (2.0, 9.0, 12.0)) for name in (*GATEWAYS, *PROVISIONERS)]
    for near, far in stack.proxies:
        path = f"{near} - {far}"
        faults += [
            Fault(f"silence {path}, both ways", silent(near, far, *BOTH), (1.0, 4.0, 9.0)),
            Fault(f"silence {path}, there", silent(near, far, Way.THERE), (1.0, 4.0, 9.0)),
            Fault(f"silence {path}, back", silent(near, far, Way.BACK), (1.0, 4.0, 9.0)),
            Fault(f"reset {path}", reset(near, far), (0.1,)),
            Fault(f"half-open {path}", half_open(near, far), (2.0,)),
            Fault(f"0.3 s on {path}", slow(near, far, 0.3), (3.0, 6.0)),
            Fault(f"10 kB/s on {path}", throttled(near, far, 10_000), (3.0, 6.0)),
        ]
    faults += [Fault(f"0.2 s on every path to {server}", slow_server(server, 0.2), (4.0,)) for server in SERVERS]
    faults += [Fault(f"full disk under {server}", full_disk(server), (4.0,)) for server in stack.disks]
    return faults


def chosen(stack: Stack, dice: random.Random, only: str = "") -> Iterator[list[Fault]]:
    """One fault or a pair at a time, without end, in an order that the seed draws, of those that `only` (regex) finds.

    Every kind comes equally often, but those of a single path, which are many, half as often as the others.
    """
    kinds: dict[str, list[Fault]] = {}
    for fault in (fault for fault in catalogue(stack) if re.search(only, fault.name)):
        kinds.setdefault(kind_of(fault), []).append(fault)
    while True:
        bag = [kind for kind in kinds for _ in range(1 if " - " in kind else 2)]
        dice.shuffle(bag)
        while bag:
            together = [dice.choice(kinds[bag.pop()])]
            if bag and dice.random() < PAIRS:
                together.append(dice.choice(kinds[bag.pop()]))
            yield together


def kind_of(fault: Fault) -> str:
    """A fault without the instance that it befalls: gateway-1 and gateway-2 are of one kind."""
    return fault.name.replace("-1", "").replace("-2", "")


async def inject(stack: Stack, faults: list[Fault], dice: random.Random) -> None:
    """Let the faults of a pair overlap, and return when all is mended."""

    async def one(fault: Fault, seconds: float) -> None:
        await asyncio.sleep(dice.random() * 0.5)
        async with asynccontextmanager(fault.inject)(stack):
            await asyncio.sleep(seconds)

    async with asyncio.TaskGroup() as tasks:
        for fault in faults:
            tasks.create_task(one(fault, dice.choice(fault.seconds)))


# --- processes


type Injection = Callable[[Stack], AsyncIterator[None]]


def killed(part: str) -> Injection:
    async def inject(stack: Stack) -> AsyncIterator[None]:
        with suppress(ProcessLookupError):
            os.kill(stack.parts[part].pid, signal.SIGKILL)
        yield

    return inject


def restarted(part: str) -> Injection:
    """Asked to stop, as by a roll-out or an operator; it is started again."""

    async def inject(stack: Stack) -> AsyncIterator[None]:
        with suppress(ProcessLookupError):
            os.kill(stack.parts[part].pid, stack.parts[part].stop_signal)
        yield

    return inject


def frozen(part: str) -> Injection:
    async def inject(stack: Stack) -> AsyncIterator[None]:
        signal_family(stack.parts[part], signal.SIGSTOP)
        try:
            yield
        finally:
            signal_family(stack.parts[part], signal.SIGCONT)

    return inject


def cut_off(name: str) -> Injection:
    """Silence on all paths of one service: it works on alone, and others take its place."""

    async def inject(stack: Stack) -> AsyncIterator[None]:
        proxies = [proxy for (near, _), proxy in stack.proxies.items() if near == name]
        for proxy in proxies:
            proxy.silence(*BOTH)
        try:
            yield
        finally:
            for proxy in proxies:
                proxy.heal()

    return inject


async def backend_killed(stack: Stack) -> AsyncIterator[None]:
    """One of the server's own processes; Postgres then ends all others and recovers."""
    pid = stack.postgres.pid
    with suppress(OSError):
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[-1:]:
            os.kill(int(child), signal.SIGKILL)
    yield


# --- paths


def silent(near: str, far: str, *ways: Way) -> Injection:
    async def inject(stack: Stack) -> AsyncIterator[None]:
        proxy = stack.proxies[near, far]
        proxy.silence(*ways)
        try:
            yield
        finally:
            proxy.heal()

    return inject


def reset(near: str, far: str) -> Injection:
    async def inject(stack: Stack) -> AsyncIterator[None]:
        stack.proxies[near, far].reset()
        yield

    return inject


def half_open(near: str, far: str) -> Injection:
    async def inject(stack: Stack) -> AsyncIterator[None]:
        stack.proxies[near, far].half_open()
        yield

    return inject


def slow(near: str, far: str, delay: float) -> Injection:
    async def inject(stack: Stack) -> AsyncIterator[None]:
        proxy = stack.proxies[near, far]
        proxy.slow(delay)
        try:
            yield
        finally:
            proxy.heal()

    return inject


def throttled(near: str, far: str, rate: float) -> Injection:
    async def inject(stack: Stack) -> AsyncIterator[None]:
        proxy = stack.proxies[near, far]
        proxy.throttle(rate)
        try:
            yield
        finally:
            proxy.heal()

    return inject


def slow_server(server: str, delay: float) -> Injection:
    async def inject(stack: Stack) -> AsyncIterator[None]:
        async with AsyncExitStack() as paths:
            for near, far in stack.proxies:
                if far == server:
                    await paths.enter_async_context(asynccontextmanager(slow(near, far, delay))(stack))
            yield

    return inject


def full_disk(server: str) -> Injection:
    async def inject(stack: Stack) -> AsyncIterator[None]:
        disk = stack.disks[server]
        disk.fill()
        try:
            yield
        finally:
            disk.clear()

    return inject
