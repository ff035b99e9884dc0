"""A part of the stack: one child process that starts, is waited for until it is ready, stops, and can be killed."""

import asyncio
import ctypes
import os
import signal
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self

from devstack.errors import StartError

POLL_SECONDS = 0.05
PR_SET_PDEATHSIG = 1
_prctl = ctypes.CDLL(None, use_errno=True).prctl if sys.platform == "linux" else None


class Part(ABC):
    """One supervised process, in a session of its own so that a terminal's Ctrl-C does not reach it.

    It dies when the process that started it dies, however that happens. `start` works again after `stop` and `kill`,
    with the same ports and data.
    """

    name: str
    stop_signal = signal.SIGTERM
    # What the kernel sends when our process is gone: there is nobody left to wait for a slow stop.
    orphan_signal = signal.SIGKILL
    start_deadline = 60.0
    stop_deadline = 30.0

    def __init__(self, log: Path) -> None:
        self.log = log
        self._process: asyncio.subprocess.Process | None = None

    @abstractmethod
    async def prepare(self) -> None:
        """Make what the process needs before it starts; quick when it is there already."""

    @abstractmethod
    def command(self) -> Sequence[str]: ...

    @abstractmethod
    async def is_ready(self) -> bool: ...

    def environment(self) -> Mapping[str, str]:
        return os.environ

    def identity(self) -> Mapping[str, Any]:
        """The user to run as, as `subprocess` arguments; empty: the current one."""
        return {}

    @property
    def pid(self) -> int:
        """The process id of the server itself, also of one that has ended."""
        if self._process is None:
            raise RuntimeError(f"{self.name} was never started")
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except BaseException:
            await self.kill()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Start and return when it serves; `StartError` when it ends or is silent instead."""
        await self.prepare()
        await self.spawn()
        await self.ready()

    async def spawn(self) -> None:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self._process = await spawn(
                self.command(),
                orphan_signal=self.orphan_signal,
                stdout=log,
                env=self.environment(),
                **self.identity(),
            )

    async def ready(self) -> None:
        deadline = time.monotonic() + self.start_deadline
        while not await self.is_ready():
            if not self.is_running:
                raise StartError(f"{self.name} ended while starting: {self.last_words()} (see {self.log})")
            if time.monotonic() > deadline:
                raise StartError(f"{self.name} is not ready after {self.start_deadline:.0f} s, see {self.log}")
            await asyncio.sleep(POLL_SECONDS)

    async def stop(self) -> None:
        """Ask it to stop, and kill it when it takes longer than `stop_deadline`."""
        if self._process is None or not self.is_running:
            return
        self._process.send_signal(self.stop_signal)
        try:
            await asyncio.wait_for(self._process.wait(), self.stop_deadline)
        except TimeoutError:
            await self.kill()

    async def kill(self) -> None:
        if self._process is None or not self.is_running:
            return
        self._process.kill()
        await self._process.wait()

    async def wait(self) -> int:
        """Wait until it ends; its exit status, negative for a signal."""
        assert self._process is not None
        return await self._process.wait()

    def last_words(self) -> str:
        """The last line of the log that looks like a reason."""
        lines = self.log.read_text(errors="replace").splitlines()[-200:]
        reasons = [line for line in lines if any(word in line for word in ("FATAL", "ERROR", "Error", "Exception"))]
        return (reasons or lines or ["no output"])[-1].strip()


@asynccontextmanager
async def running(command: Sequence[str], **options: Any) -> AsyncIterator[asyncio.subprocess.Process]:
    """A command that ends by itself; it is killed when the block is left before."""
    process = await spawn(command, **options)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def spawn(
    command: Sequence[str], *, orphan_signal: signal.Signals = signal.SIGKILL, **options: Any
) -> asyncio.subprocess.Process:
    """Start `command` in its own session, without input; it gets `orphan_signal` when this process dies."""
    try:
        return await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=_die_with(os.getpid(), orphan_signal),
            **{"stderr": asyncio.subprocess.STDOUT, **options},
        )
    except FileNotFoundError as error:
        raise StartError(f"{command[0]} is missing: run `make env`") from error


def _die_with(parent: int, orphan_signal: signal.Signals) -> Callable[[], None]:
    """Runs in the child, after the change of user (which would clear the setting) and before the program."""

    def arm() -> None:
        if _prctl is not None:
            _prctl(PR_SET_PDEATHSIG, int(orphan_signal))
            if os.getppid() != parent:
                os._exit(1)

    return arm
