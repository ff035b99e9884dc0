"""What the person in front of `make run` sees: one prefixed line for each thing that happens."""

import asyncio
import contextlib
import sys
from pathlib import Path

FOLLOW_SECONDS = 0.2


def say(line: str, name: str = "devstack") -> None:
    """Print `line` with its speaker; a terminal that went away is no reason to stop."""
    write(f"{prefix(name)}{line}\n")


def write(text: str) -> None:
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.write(text)
        sys.stdout.flush()


def prefix(name: str) -> str:
    return f"{name:<11} | "


async def follow(log: Path, name: str) -> None:
    """Print what is added to `log`, whole lines, until cancelled."""
    with log.open("rb") as file:
        rest = b""
        try:
            while True:
                rest = show(rest + file.read(), name)
                await asyncio.sleep(FOLLOW_SECONDS)
        finally:
            show(rest + file.read(), name)


def show(output: bytes, name: str) -> bytes:
    """Print the whole lines of `output`; what follows the last line end is returned."""
    lines, end, rest = output.rpartition(b"\n")
    if end:
        text = lines.decode(errors="replace").replace("\n", "\n" + prefix(name))
        write(f"{prefix(name)}{text}\n")
    return rest
