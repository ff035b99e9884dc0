"""The hashed lock files of the images."""

import re
from pathlib import Path

from packaging.requirements import Requirement

LOCKS = Path(__file__).parents[1] / "requirements"
# What the images are: CPython 3.13 of Debian 13.
ENVIRONMENT = {
    "python_version": "3.13",
    "python_full_version": "3.13.5",
    "sys_platform": "linux",
    "platform_system": "Linux",
    "platform_machine": "x86_64",
    "platform_python_implementation": "CPython",
    "implementation_name": "cpython",
    "os_name": "posix",
    "extra": "",
}


def requirements(file: Path) -> list[Requirement]:
    """Every line of a lock file."""
    lines = re.findall(r"^[A-Za-z0-9].*?(?= \\$|$)", file.read_text(), re.MULTILINE)
    return [Requirement(line) for line in lines]


def locked(service: str) -> dict[str, str]:
    """Version by name of what an image must hold."""
    wanted = [each for each in requirements(LOCKS / f"{service}.txt") if applies(each)]
    return {each.name.lower().replace("_", "-"): next(iter(each.specifier)).version for each in wanted}


def applicable_lines(service: str) -> str:
    """The lock file as far as it is for the images, with its hashes and without its markers."""
    blocks = re.split(r"^(?=[A-Za-z0-9])", (LOCKS / f"{service}.txt").read_text(), flags=re.MULTILINE)
    kept = []
    for block in filter(str.strip, blocks):
        first, _, hashes = block.partition(" \\\n")
        requirement = Requirement(first)
        if applies(requirement):
            kept.append(f"{requirement.name}{requirement.specifier} \\\n{hashes}")
    return "".join(kept)


def applies(requirement: Requirement) -> bool:
    return requirement.marker is None or requirement.marker.evaluate(ENVIRONMENT)
