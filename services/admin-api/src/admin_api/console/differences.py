"""What differs between two states of a resource, attribute by attribute."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Difference:
    """An attribute that was added (`before` None), changed, or removed (`after` None), as text."""

    attribute: str
    before: str | None
    after: str | None


def differences(before: Mapping[str, Any], after: Mapping[str, Any], prefix: str = "") -> list[Difference]:
    """Complex attributes by their sub-attributes: `name.givenName`."""
    found: list[Difference] = []
    for attribute in dict.fromkeys((*before, *after)):
        old, new, path = before.get(attribute), after.get(attribute), prefix + attribute
        if isinstance(old, dict) or isinstance(new, dict):
            found += differences(_mapping(old), _mapping(new), f"{path}.")
        elif old != new:
            found.append(Difference(path, _text(old), _text(new)))
    return found


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {} if value is None else {"value": value}


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)
