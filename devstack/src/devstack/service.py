"""A program of ours with a health endpoint, started by command and environment."""

import os
import sys
from asyncio.subprocess import PIPE
from collections.abc import Mapping, Sequence
from pathlib import Path

import httpx

from devstack.errors import StartError
from devstack.part import Part, running


class Service(Part):
    stop_deadline = 40.0  # above the time that a service lets requests in flight end

    def __init__(
        self, name: str, program: str, variables: Mapping[str, str], *, health: str, metrics: str, log: Path
    ) -> None:
        """`program` is a console script; `variables` are added to our own environment; `health` is the origin that
        answers `/health/ready`, `metrics` the one that answers `/metrics`.
        """
        super().__init__(log)
        self.name = name
        self.health = health
        self.metrics = metrics
        self._program = program
        self._variables = variables

    async def prepare(self) -> None:
        """Nothing to make."""

    def command(self) -> Sequence[str]:
        return script(self._program)

    def environment(self) -> Mapping[str, str]:
        return {**os.environ, **self._variables}

    async def is_ready(self) -> bool:
        async with httpx.AsyncClient(trust_env=False, timeout=5) as client:
            try:
                return (await client.get(f"{self.health}/health/ready")).status_code == 200
            except httpx.HTTPError:
                return False


def script(name: str, *arguments: str) -> list[str]:
    """The command line of a console script of this environment."""
    path = Path(sys.executable).with_name(name)
    if not path.exists():
        raise StartError(f"the command {name} is not installed: run `make env`")
    return [sys.executable, str(path), *arguments]


async def run_once(program: str, *arguments: str, variables: Mapping[str, str], log: Path) -> str:
    """Run a console script to its end and return what it wrote to standard output; the rest goes to `log`."""
    with log.open("ab") as errors:
        command, environment = script(program, *arguments), {**os.environ, **variables}
        async with running(command, stdout=PIPE, stderr=errors, env=environment) as process:
            output, _ = await process.communicate()
    if process.returncode:
        last = (log.read_text(errors="replace").strip().splitlines() or ["no output"])[-1]
        raise StartError(f"`{program} {arguments[0]}` failed: {last} (see {log})")
    return output.decode()
