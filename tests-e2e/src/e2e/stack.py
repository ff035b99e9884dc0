"""The stack under test, as its `stack.json` describes it: where it is, how to break it, when it is whole again."""

import asyncio
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx

from devstack.ports import free_port
from e2e.tls import authorities

HOUSE = Path(__file__).parents[3]
START_DEADLINE = 600.0  # seconds; the first start downloads Kafka
STOP_DEADLINE = 60.0  # seconds
BACK_DEADLINE = 90.0  # seconds for a killed part to serve again, on a busy machine
PORTS = ("GATEWAY_PORT", "ADMIN_PORT", "KAFKA_PORT", "POSTGRES_PORT")


class Stack:
    """A running stack; process ids are read again each time, for they change."""

    def __init__(self, file: Path, *, is_ours: bool) -> None:
        self.file = file
        self.is_ours = is_ours
        self.document = self._read()

    def _read(self) -> dict[str, Any]:
        return json.loads(self.file.read_text())

    @property
    def scim_url(self) -> str:
        return self.document["scimBaseUrl"]

    @property
    def token(self) -> str:
        return self.document["scimToken"]

    @property
    def admin_url(self) -> str:
        return self.document["adminUrl"]

    @property
    def database_url(self) -> str:
        """The owner's."""
        return self.document["databaseUrl"]

    @property
    def logs(self) -> Path | None:
        """The folder with a log for each part, when the stack tells."""
        return Path(self.document["logs"]) if "logs" in self.document else None

    @property
    def metrics_urls(self) -> dict[str, str]:
        """Where each service's metrics are, when the stack tells."""
        return self._read().get("metricsUrls", {})

    @property
    def pepper_file(self) -> Path | None:
        """Where the operator keeps the pepper of the tokens, when that is on this machine."""
        file = self.file.parent / "secrets" / "token_pepper"
        return file if file.exists() else None

    def pid(self, part: str) -> int:
        return self._read()["processes"][part]

    def signal(self, part: str, number: signal.Signals) -> int:
        """Send a signal to one part; its process id."""
        pid = self.pid(part)
        os.kill(pid, number)
        return pid

    async def killed_and_back(self, part: str) -> None:
        """`kill -9` one part, and return when it serves again as another process."""
        old = self.signal(part, signal.SIGKILL)
        await until(lambda: self._is_new(part, old), f"another {part}", BACK_DEADLINE)
        await self.is_whole()

    async def is_whole(self, deadline: float = BACK_DEADLINE) -> None:
        """Return when every service says that it is ready, and a write goes through."""
        await until(self._all_ready, "all services ready", deadline)
        await until(self._writes, "a write to go through", deadline)

    def _is_new(self, part: str, old: int) -> bool:
        with suppress(OSError, ValueError):
            return self.pid(part) != old
        return False

    async def _all_ready(self) -> bool:
        urls = self._read().get("healthUrls", {}).values()
        async with httpx.AsyncClient(trust_env=False, timeout=5, verify=authorities()) as http:
            return all([await _answers(http, url) for url in urls])

    async def _writes(self) -> bool:
        """A PATCH of nobody goes all the way to the provisioner and back, and changes nothing."""
        body = {
            "schemas": ["urn:ietf:params:scim:api:messages:2.0:PatchOp"],
            "Operations": [{"op": "replace", "path": "active", "value": True}],
        }
        url = f"{self.scim_url}/Users/00000000-0000-4000-8000-000000000000"
        headers = {"authorization": f"Bearer {self.token}"}
        async with httpx.AsyncClient(trust_env=False, timeout=15, verify=authorities()) as http:
            with suppress(httpx.HTTPError):
                return (await http.patch(url, json=body, headers=headers)).status_code == 404
        return False


@contextmanager
def frozen(pid: int) -> Any:
    """A process and its children, stopped (SIGSTOP) within the block: alive, and answering nothing."""
    family = [pid, *children_of(pid)]
    for each in family:
        os.kill(each, signal.SIGSTOP)
    try:
        yield
    finally:
        for each in family:
            with suppress(ProcessLookupError):
                os.kill(each, signal.SIGCONT)


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


async def until(condition: Callable[[], bool | Awaitable[bool]], what: str, deadline: float) -> None:
    """Return when `condition` holds; TimeoutError when it does not within `deadline` seconds."""
    end = time.monotonic() + deadline
    while True:
        met = condition()
        if met if isinstance(met, bool) else await met:
            return
        if time.monotonic() > end:
            raise TimeoutError(f"waited {deadline:.0f} s for {what}")
        await asyncio.sleep(0.05)


async def find() -> Stack | None:
    """The stack that STACK_JSON or `.run/stack.json` names, if it answers."""
    file = Path(os.environ.get("STACK_JSON") or HOUSE / ".run" / "stack.json")
    if not file.exists():
        return None
    stack = Stack(file, is_ours=False)
    async with httpx.AsyncClient(trust_env=False, timeout=5, verify=authorities()) as http:
        return stack if await _serves(http, stack) else None


@asynccontextmanager
async def started(
    has_failed: Callable[[], bool] = lambda: False, variables: Mapping[str, str] | None = None
) -> AsyncIterator[Stack]:
    """A stack of our own on free ports, whose services see `variables` too.

    Its folder stays when `has_failed` says so at the end, else it is deleted.
    """
    folder = Path(tempfile.mkdtemp(prefix="e2e-"))
    folder.chmod(0o711)  # Postgres runs as another user when we are root
    output = folder / "run.log"
    ports = {name: str(free_port()) for name in PORTS}
    environment = os.environ | ports | {"RUN_DIR": str(folder / "run")} | dict(variables or {})
    with output.open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "devstack", "run"),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=asyncio.subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )
    try:
        yield await _when_serving(folder / "run" / "stack.json", process, output)
    finally:
        await _stop(process)
        if has_failed():
            print(f"\nlogs of the stack that the tests started: {folder}/run/logs\n{_tail(output)}")
        else:
            shutil.rmtree(folder, ignore_errors=True)


async def _when_serving(file: Path, process: asyncio.subprocess.Process, output: Path) -> Stack:
    def is_written() -> bool:
        if process.returncode is not None:
            raise RuntimeError(f"the stack ended by itself:\n{_tail(output)}")
        return file.exists()

    try:
        await until(is_written, "the stack to start", START_DEADLINE)
    except TimeoutError as error:
        raise TimeoutError(f"{error}:\n{_tail(output)}") from None
    stack = Stack(file, is_ours=True)
    await stack.is_whole()
    return stack


async def _stop(process: asyncio.subprocess.Process) -> None:
    with suppress(ProcessLookupError):
        process.send_signal(signal.SIGINT)
    try:
        await asyncio.wait_for(process.wait(), STOP_DEADLINE)
    except TimeoutError:
        process.kill()
        await process.wait()


async def _serves(http: httpx.AsyncClient, stack: Stack) -> bool:
    url = f"{stack.scim_url}/ServiceProviderConfig"
    return await _answers(http, url, {"authorization": f"Bearer {stack.token}"})


async def _answers(http: httpx.AsyncClient, url: str, headers: dict[str, str] | None = None) -> bool:
    with suppress(httpx.HTTPError):
        return (await http.get(url, headers=headers)).status_code == 200
    return False


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-40:])
