"""A case file: a JSON list of scenarios, each a sequence of requests with what must come back.

scenario  id, name, level (must, should, quirk or info), source, tags[], headers{}, requires[] (features that
          ServiceProviderConfig must advertise), vars{}, steps[], cleanup[]
step      method, path, query{}, query_style (percent or plus), query_suffix, headers{} (null removes),
          body or raw_body, foreach {as, range}, parallel [steps] with statuses {status: count},
          capture {name: path, header:NAME or status},
          expect {status, headers, body_empty, max_ms, json [[path, operator, value]], json_if {status: json}}

`{name}` in any text stands for a variable: rand, uuid, n, base, the scenario's vars, and what steps captured.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

LEVELS = ("must", "should", "quirk", "info")
# A scenario that calls one of these needs the resource type of that name in /ResourceTypes.
ENDPOINTS = {"/Groups": "Group", "/Users": "User"}
VARIABLE = re.compile(r"\{([A-Za-z_]\w*)\}")


@dataclass(frozen=True)
class Scenario:
    file: str
    id: str
    level: str
    steps: list[dict[str, Any]]
    cleanup: list[dict[str, Any]] = field(default_factory=list)
    headers: dict[str, str | None] = field(default_factory=dict)
    variables: dict[str, Any] = field(default_factory=dict)
    requires: tuple[str, ...] = ()

    @property
    def resource_types(self) -> set[str]:
        """The resource types that its requests name."""
        paths = [step["path"] for step in _flat(self.steps)]
        return {name for path in paths for endpoint, name in ENDPOINTS.items() if path.startswith(endpoint)}


def load(file: Path) -> list[Scenario]:
    return [_scenario(file.stem, entry) for entry in json.loads(file.read_text(encoding="utf-8"))]


def load_all(folders: Iterable[Path]) -> list[Scenario]:
    """Every scenario of every `*.json` in `folders`; a folder that is not there has none."""
    return [scenario for folder in folders for file in sorted(folder.glob("*.json")) for scenario in load(file)]


def substitute(value: Any, variables: Mapping[str, Any]) -> Any:
    """`value` with its variables filled in, a text that is one variable taking its type; KeyError if unbound."""
    match value:
        case str():
            if whole := VARIABLE.fullmatch(value):
                return variables[whole[1]]
            return VARIABLE.sub(lambda found: str(variables[found[1]]), value)
        case list():
            return [substitute(item, variables) for item in value]
        case dict():
            return {substitute(key, variables): substitute(item, variables) for key, item in value.items()}
        case _:
            return value


def _scenario(file: str, entry: dict[str, Any]) -> Scenario:
    return Scenario(
        file=file,
        id=entry["id"],
        level=entry.get("level", "must"),
        steps=entry["steps"],
        cleanup=entry.get("cleanup") or [],
        headers=entry.get("headers") or {},
        variables=entry.get("vars") or {},
        requires=tuple(entry.get("requires") or ()),
    )


def _flat(steps: list[dict[str, Any]]) -> Iterable[dict[str, Any]]:
    for step in steps:
        yield from step.get("parallel", [step])
