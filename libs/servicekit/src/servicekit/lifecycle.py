"""A service's process: event loop, signals, waiting for what it depends on."""

import asyncio
import gc
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import structlog
import uvloop

log = structlog.get_logger()

# Containers made, less those freed, between two collections of cycles. What a request makes is freed by reference
# counts; the interpreter's 2,000 had the provisioner spend 6 % of its time looking for cycles (docs/performance.md).
GC_THRESHOLD = 20_000


class StartupError(Exception):
    """Starting failed for a reason that the operator can mend; its text is the whole message."""


class Stopping(Exception):
    """The service was told to stop before it had what it waited for."""


def run(main: Callable[[asyncio.Event], Coroutine[Any, Any, None]]) -> None:
    """Run `main(stopping)` on uvloop until it returns; SIGTERM and SIGINT set `stopping`.

    A StartupError ends the process with exit code 1 and one line; anything else with its traceback in the log.
    """

    async def guarded() -> None:
        stopping = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stopping.set)
        await main(stopping)

    gc.freeze()  # modules live as long as the process
    gc.set_threshold(GC_THRESHOLD)
    try:
        uvloop.run(guarded())
    except Stopping:
        return
    except StartupError as error:
        log.error("service.start_failed", reason=str(error))
        sys.exit(1)
    except Exception:
        log.exception("service.failed")
        sys.exit(1)


async def wait_for[T](attempt: Callable[[], Awaitable[T]], what: str, stopping: asyncio.Event) -> T:
    """What `attempt` returns once it does not raise, with back-off up to 2 s; raises Stopping when that came first."""
    delay = 0.1
    while not stopping.is_set():
        try:
            return await attempt()
        except Exception as error:  # whatever the driver raises while its server is away
            log.warning("dependency.waiting", what=what, error=type(error).__name__)
        await sleep_unless(stopping, delay)
        delay = min(delay * 2, 2.0)
    raise Stopping


async def sleep_unless(stopping: asyncio.Event, seconds: float) -> None:
    """Sleep, or return at once when `stopping` is set."""
    try:
        async with asyncio.timeout(seconds):
            await stopping.wait()
    except TimeoutError:
        pass
