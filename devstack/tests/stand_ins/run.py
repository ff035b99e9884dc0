"""`python -m devstack run` with stand-ins for our own programs, so that these tests need only devstack."""

import sys
from pathlib import Path

from devstack import __main__, service


def script(name: str, *arguments: str) -> list[str]:
    return [sys.executable, str(Path(__file__).with_name("program.py")), name, *arguments]


service.script = script
sys.exit(__main__.main(["run"]))
