"""Keeps parts running: what ends is started again, what is asked to stop is stopped in order."""

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable, Sequence

from devstack.console import say
from devstack.errors import StartError
from devstack.part import Part

# A part that lived longer than this is started again at once.
STABLE_SECONDS = 10.0
FIRST_DELAY_SECONDS = 0.5
LONGEST_DELAY_SECONDS = 10.0
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


async def keep_running(part: Part, changed: Callable[[], None]) -> None:
    """Start `part` again whenever it ends, until cancelled; `changed` is called when it has a new process id."""
    quick_ends = 0
    while True:
        since = time.monotonic()
        status = await part.wait()
        quick_ends = quick_ends + 1 if time.monotonic() - since < STABLE_SECONDS else 0
        await start_again(part, describe(status), back_off(quick_ends))
        try:
            changed()
        except OSError as error:
            say(f"cannot write down the new process id of {part.name}: {error.strerror}")


async def start_again(part: Part, reason: str, delay: float) -> None:
    """Start an ended part after `delay` seconds; when that is impossible, say why and go on trying."""
    while True:
        say(f"{part.name} {reason}: starting it again" + (f" in {delay:.1f} s" if delay else ""))
        await asyncio.sleep(delay)
        try:
            await part.prepare()
            await part.spawn()
        except (StartError, OSError) as error:
            reason, delay = f"cannot start ({error})", LONGEST_DELAY_SECONDS
        else:
            say(f"{part.name} started again (process {part.pid}), its log is {part.log}")
            return


def back_off(quick_ends: int) -> float:
    """Seconds to wait: nothing for the first end, then twice as long each time up to the longest."""
    return min(FIRST_DELAY_SECONDS * 2 ** (quick_ends - 2), LONGEST_DELAY_SECONDS) if quick_ends > 1 else 0.0


def describe(status: int) -> str:
    if status >= 0:
        return f"ended with status {status}"
    return f"was ended by {signal.Signals(-status).name}"


async def stop_in_order(groups: Sequence[Sequence[Part]]) -> None:
    """Stop one group after the other, the parts of a group together."""
    for group in groups:
        await asyncio.gather(*(part.stop() for part in group))


async def until_signalled(work: Callable[[], Awaitable[None]]) -> None:
    """Run `work` until it fails, or until SIGINT, SIGTERM or SIGHUP cancels it."""
    signalled = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in STOP_SIGNALS:
        if number == signal.SIGHUP and signal.getsignal(number) == signal.SIG_IGN:
            continue  # nohup
        loop.add_signal_handler(number, signalled.set)
    working = asyncio.ensure_future(work())
    waiting = asyncio.ensure_future(signalled.wait())
    try:
        await asyncio.wait({working, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            working.result()
    finally:
        working.cancel()
        waiting.cancel()
        await asyncio.gather(working, waiting, return_exceptions=True)
