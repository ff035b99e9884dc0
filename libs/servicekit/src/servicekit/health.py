"""`/health/live` and `/health/ready`: the two questions that an orchestrator asks."""

import asyncio
from collections.abc import Awaitable, Callable

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

Check = Callable[[], Awaitable[None]]

CHECK_TIMEOUT = 2.0  # seconds; below the probes' own


class Health:
    """Live while the event loop answers and every liveness check passes; ready while nothing it needs is away.

    A check raises to fail; the text of the exception is not shown, only its name.
    """

    def __init__(self) -> None:
        self.draining = False
        self._live: dict[str, Check] = {}
        self._ready: dict[str, Check] = {}

    def add(self, name: str, check: Check) -> None:
        """A dependency: its failure takes the process out of service but does not restart it."""
        self._ready[name] = check

    def add_live(self, name: str, check: Check) -> None:
        """A progress check: its failure asks for a restart."""
        self._live[name] = check

    def routes(self) -> list[Route]:
        """The two routes; 200 or 503 with `{"status", "checks": {name: "ok" | reason}}`."""
        return [Route("/health/live", self._answer_live), Route("/health/ready", self._answer_ready)]

    async def _answer_live(self, request: Request) -> Response:
        return _answer(await _outcomes(self._live))

    async def _answer_ready(self, request: Request) -> Response:
        checks = await _outcomes(self._ready)
        if self.draining:
            checks["process"] = "draining"
        return _answer(checks)


async def _outcomes(checks: dict[str, Check]) -> dict[str, str]:
    results = await asyncio.gather(*(_outcome(check) for check in checks.values()))
    return dict(zip(checks, results, strict=True))


async def _outcome(check: Check) -> str:
    try:
        async with asyncio.timeout(CHECK_TIMEOUT):
            await check()
        return "ok"
    except Exception as error:  # a failing check is its answer
        return type(error).__name__


def _answer(checks: dict[str, str]) -> Response:
    ok = all(result == "ok" for result in checks.values())
    body = orjson.dumps({"status": "ok" if ok else "unavailable", "checks": checks})
    return Response(body, 200 if ok else 503, media_type="application/json", headers={"Cache-Control": "no-store"})
