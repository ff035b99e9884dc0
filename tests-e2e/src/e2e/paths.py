"""The path language of case files: `$.name['urn:x'][0][*][?type=work]`.

Names match exactly first, then without regard to case. A path with `[*]` yields a list, any other its first match.
"""

import re
from functools import cache
from typing import Any

MISSING: Any = type("Missing", (), {"__repr__": lambda _: "<missing>"})()

STEP = re.compile(
    r"\.(?P<name>[A-Za-z_$][\w$-]*)|\['(?P<quoted>[^']+)'\]|\[(?P<index>\d+)\]|\[(?P<each>\*)\]"
    r"|\[\?(?P<key>[A-Za-z$]+)=(?P<value>[^\]]*)\]"
)


class BadPath(ValueError):
    """The case file has a path that is not of this language."""


def select(document: Any, path: str) -> Any:
    """What `path` points at, or MISSING."""
    steps = parse(path)
    nodes = [document]
    for step in steps:
        nodes = _follow(step, nodes)
    if any(step["each"] for step in steps):
        return nodes
    return nodes[0] if nodes else MISSING


@cache
def parse(path: str) -> tuple[dict[str, str | None], ...]:
    if not path.startswith("$"):
        raise BadPath(f"bad path {path!r}")
    steps, position = [], 1
    while position < len(path):
        match = STEP.match(path, position)
        if match is None:
            raise BadPath(f"bad path {path!r} at {position}")
        steps.append(match.groupdict())
        position = match.end()
    return tuple(steps)


def member(node: Any, name: str) -> Any:
    """A member of an object by its name in any case, the exact one preferred."""
    if not isinstance(node, dict):
        return MISSING
    if name in node:
        return node[name]
    return next((value for key, value in node.items() if key.lower() == name.lower()), MISSING)


def _follow(step: dict[str, str | None], nodes: list[Any]) -> list[Any]:
    if name := step["name"] or step["quoted"]:
        return [value for node in nodes if (value := member(node, name)) is not MISSING]
    lists = [node for node in nodes if isinstance(node, list)]
    if (index := step["index"]) is not None:
        return [items[int(index)] for items in lists if int(index) < len(items)]
    items = [item for each in lists for item in each]
    if step["each"]:
        return items
    key, wanted = step["key"] or "", (step["value"] or "").lower()
    return [item for item in items if str(member(item, key)).lower() == wanted]
