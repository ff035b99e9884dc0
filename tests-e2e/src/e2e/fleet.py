"""More than one of a part: copies of what the stack runs, and a client side that follows their readiness.

What an orchestrator does: it starts pods alike, sends requests to those that are ready, and ends one with SIGTERM.
"""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import httpx

from devstack.ports import free_port
from e2e.stack import Stack, until

HOST = "127.0.0.1"
READY_DEADLINE = 90.0  # seconds
END_DEADLINE = 40.0  # seconds; above the time that a service lets requests in flight end
LOOK_INTERVAL = 0.05  # seconds between two looks at the readiness
NOTICE = 1.0  # seconds that a service which is told to end goes on accepting, so that balancers notice
PREFIXES = {"gateway": "GATEWAY", "provisioner": "HEALTH", "admin-api": "ADMIN"}  # of the names of its settings


class Copy:
    """A process like one of the stack's, on a port of its own; `restart` ends it in order and starts it again."""

    def __init__(self, stack: Stack, part: str) -> None:
        process = Path(f"/proc/{stack.pid(part)}")
        self.port = free_port()
        self.base = f"http://{HOST}:{self.port}"
        self._command = process.joinpath("cmdline").read_bytes().decode().rstrip("\0").split("\0")
        like = dict(
            variable.split("=", 1)
            for variable in process.joinpath("environ").read_bytes().decode().split("\0")
            if "=" in variable
        )
        notice = {f"{PREFIXES[part]}_DRAIN_SECONDS": str(NOTICE)}
        own = {f"{PREFIXES[part]}_PORT": str(self.port), "METRICS_PORT": "0", **notice}
        self._environment = like | own
        self._log = (stack.logs or Path("/tmp")) / f"{part}-{self.port}.log"
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._command, env=self._environment, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log
            )
        await until(self.is_ready, f"{self._log.stem} to be ready", READY_DEADLINE)

    async def end(self) -> int:
        """SIGTERM, and the exit code."""
        assert self._process
        with suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)
        return await asyncio.wait_for(self._process.wait(), END_DEADLINE)

    async def restart(self) -> None:
        code = await self.end()
        assert code == 0, f"{self._log.stem} ended with {code}"
        await self.start()

    async def is_ready(self) -> bool:
        async with httpx.AsyncClient(trust_env=False, timeout=2) as http:
            with suppress(httpx.HTTPError):
                return (await http.get(f"{self.base}/health/ready")).status_code == 200
        return False


class Balanced(httpx.AsyncBaseTransport):
    """Sends each request to one of the copies that are ready, in turn; notes what failed on the server's side."""

    def __init__(self, copies: Sequence[Copy]) -> None:
        self._copies = copies
        self._inner = httpx.AsyncHTTPTransport(limits=httpx.Limits(max_connections=None))
        self._ready = list(copies)
        self._turn = 0
        self.requests = 0
        self.failures: list[str] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        copy = self._ready[self._turn % len(self._ready)]
        self._turn += 1
        self.requests += 1
        request.url = request.url.copy_with(scheme="http", host=HOST, port=copy.port)
        try:
            response = await self._inner.handle_async_request(request)
        except httpx.HTTPError as error:
            self.failures.append(f"{request.method} {request.url}: {error!r}")
            raise
        if response.status_code >= 500:
            self.failures.append(f"{request.method} {request.url}: {response.status_code} {await response.aread()!r}")
        return response

    async def aclose(self) -> None:
        await self._inner.aclose()

    async def watch(self) -> None:
        """Follow the readiness, until cancelled."""
        while True:
            answers = await asyncio.gather(*(copy.is_ready() for copy in self._copies))
            self._ready = [copy for copy, ready in zip(self._copies, answers, strict=True) if ready] or self._ready
            await asyncio.sleep(LOOK_INTERVAL)


@asynccontextmanager
async def copies(stack: Stack, part: str, count: int) -> AsyncIterator[list[Copy]]:
    """So many more of a part, ready; ended with the block."""
    started = [Copy(stack, part) for _ in range(count)]
    try:
        for copy in started:
            await copy.start()
        yield started
    finally:
        for copy in started:
            with suppress(AssertionError, TimeoutError):
                await copy.end()


@asynccontextmanager
async def balanced(gateways: Sequence[Copy], url: str) -> AsyncIterator[tuple[httpx.AsyncClient, Balanced]]:
    """A client of all the gateways; `url` is what they are all called."""
    balancer = Balanced(gateways)
    watching = asyncio.create_task(balancer.watch())
    async with httpx.AsyncClient(base_url=url, transport=balancer, trust_env=False) as http:
        yield http, balancer
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)


def rounds() -> int:
    """How often to roll: once, with LONG=1 three times, with LONG=2 twenty times."""
    return {"": 1, "2": 20}.get(os.environ.get("LONG", ""), 3)
