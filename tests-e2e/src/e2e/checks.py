"""The expectations of case files: operators on values, status patterns, headers."""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from e2e.paths import MISSING, select

TYPES: dict[str, Callable[[Any], bool]] = {
    "string": lambda got: isinstance(got, str),
    "integer": lambda got: isinstance(got, int) and not isinstance(got, bool),
    "boolean": lambda got: isinstance(got, bool),
    "array": lambda got: isinstance(got, list),
    "object": lambda got: isinstance(got, dict),
}


class Unmet(Exception):
    """A step did not meet its expectation; the text says how."""


def is_blank(value: Any) -> bool:
    """Unassigned in SCIM's sense (RFC 7643 section 2.5): null, empty, or not there."""
    return value is MISSING or value is None or value in ("", [], {})


def is_equal(got: Any, want: Any) -> bool:
    """JSON equality, where true is not 1."""
    return got == want and isinstance(got, bool) == isinstance(want, bool)


def is_sorted(got: list[Any], order: Any) -> bool:
    keys = [str(item).lower() for item in got]
    return keys == sorted(keys, reverse=order == "descending")


def is_unique(got: list[Any], _: Any) -> bool:
    return len({json.dumps(item, sort_keys=True) for item in got}) == len(got)


# What holds of a value that is not there, too.
OF_ABSENCE: dict[str, Callable[[Any, Any], bool]] = {
    "exists": lambda got, _: not is_blank(got),
    "absent": lambda got, _: is_blank(got),
    "empty": lambda got, _: is_blank(got) or got == 0,
    "not_contains": lambda got, want: got is MISSING or want not in got,
    "len": lambda got, want: want == 0 if is_blank(got) else len(got) == want,
}
OF_PRESENCE: dict[str, Callable[[Any, Any], bool]] = {
    "eq": is_equal,
    "ne": lambda got, want: got != want,
    "ieq": lambda got, want: str(got).lower() == str(want).lower(),
    "type": lambda got, want: TYPES[want](got),
    "len_ge": lambda got, want: len(got) >= want,
    "len_le": lambda got, want: len(got) <= want,
    "contains": lambda got, want: want in got,
    "icontains": lambda got, want: str(want).lower() in json.dumps(got, ensure_ascii=False).lower(),
    "regex": lambda got, want: re.search(want, str(got)) is not None,
    "one_of": lambda got, want: got in want,
    "gt": lambda got, want: got > want,
    "ge": lambda got, want: got >= want,
    "le": lambda got, want: got <= want,
    "sorted": is_sorted,
    "unique": is_unique,
}


def check_value(document: Any, path: str, operator: str, want: Any = None) -> None:
    """Raise Unmet unless the value at `path` satisfies `operator`; ValueError for an unknown operator."""
    got = select(document, path)
    if operator in OF_ABSENCE:
        holds = OF_ABSENCE[operator]
    elif operator in OF_PRESENCE:
        holds = OF_PRESENCE[operator] if got is not MISSING else lambda *_: False
    else:
        raise ValueError(f"unknown operator {operator!r}")
    try:
        met = holds(got, want)
    except TypeError:  # a value of the wrong type, such as a null where a list is due
        met = False
    if not met:
        shown = str(got) if got is MISSING else json.dumps(got, ensure_ascii=False)[:160]
        raise Unmet(f"{path} {operator} {json.dumps(want, ensure_ascii=False)}: got {shown}")


def status_matches(want: Any, got: int) -> bool:
    """`want`: 200, "2xx", "!5xx", a list of these, or None for anything but a server error."""
    if isinstance(want, list):
        return any(status_matches(each, got) for each in want)
    if want is None or want == "!5xx":
        return got < 500
    return str(want).lower() in (str(got), f"{got // 100}xx")


def check_header(headers: Mapping[str, str], name: str, operator: str, want: Any) -> None:
    got = headers.get(name)
    met = {
        "exists": lambda: (got is not None) == want,
        "eq": lambda: got == want,
        "contains": lambda: got is not None and want.lower() in got.lower(),
        "regex": lambda: got is not None and re.search(want, got) is not None,
    }
    if not met[operator]():
        raise Unmet(f"header {name} {operator} {want!r}: got {got!r}")
