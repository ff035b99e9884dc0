"""What of a request may be kept for the provisioning log: secrets masked, size bounded (threat T39)."""

import re
from enum import Enum
from functools import lru_cache
from typing import Any

import orjson

from contracts import RequestSummary

MAX_BODY = 16 * 1024  # bytes of JSON
MASK = "***"
MAX_REMEMBERED = 100  # characters of a name
_SECRET = re.compile(r"password|passphrase|secret|token|credential|private.?key|api.?key|\bpin\b", re.IGNORECASE)


_HINT = re.compile(rb"pass|secret|token|credential|key|pin")  # a part of whatever _SECRET finds


class _Kind(Enum):
    OTHER = 0
    SECRET = 1
    PATH = 2
    VALUE = 3


def summarize(method: str, path: str, body: Any, data: bytes) -> RequestSummary:
    """The request as an administrator may see it; a larger body is kept as the beginning of its text.

    `body` is what `data` holds.
    """
    if len(data) <= MAX_BODY:
        return RequestSummary(method=method, path=path, body=mask(body) if may_hold_secrets(data) else body)
    beginning = orjson.dumps(_Beginning(MAX_BODY).mask(body))[:MAX_BODY]
    return RequestSummary(method=method, path=path, body=beginning.decode(errors="ignore"))


def may_hold_secrets(data: bytes) -> bool:
    """Whether the JSON text could have a member or a path that `mask` hides: a first look, which costs a tenth."""
    return b"\\" in data or not data.isascii() or _HINT.search(data.lower()) is not None


def mask(value: Any) -> Any:
    """A copy of `value` without secrets: members of a secret's name, and the value of a PATCH operation on one."""
    if isinstance(value, dict):
        hidden = _names_secret(value)
        return {
            name: MASK if item is not None and _is_secret(name, hidden) else mask(item) for name, item in value.items()
        }
    if isinstance(value, list):
        return [mask(item) for item in value]
    return value


class _Beginning:
    """Masks what comes first; what lies beyond `left` bytes of JSON is not looked at."""

    def __init__(self, left: int) -> None:
        self._left = left

    def mask(self, value: Any) -> Any:
        if isinstance(value, dict):
            hidden = _names_secret(value)
            return {
                name: MASK if item is not None and _is_secret(name, hidden) else self.mask(item)
                for name, item in value.items()
                if self._spend(len(name) + 4)
            }
        if isinstance(value, list):
            return [self.mask(item) for item in value if self._spend(1)]
        self._spend(len(value) if isinstance(value, str) else 1)
        return value

    def _spend(self, size: int) -> bool:
        """Whether there is room for more; `size` is at most what the JSON of it takes."""
        fits = self._left > 0
        self._left -= size
        return fits


def _names_secret(value: dict[str, Any]) -> bool:
    """Whether this is a PATCH operation on a secret."""
    path = next((item for name, item in value.items() if _kind(name) is _Kind.PATH), None)
    return isinstance(path, str) and _SECRET.search(path) is not None


def _is_secret(name: str, hidden: bool) -> bool:
    kind = _kind(name)
    return kind is _Kind.SECRET or (hidden and kind is _Kind.VALUE)


def _kind(name: str) -> _Kind:
    """What a member is by its name; long names, which could fill the memory, are not remembered."""
    return _kind_of(name) if len(name) <= MAX_REMEMBERED else _kind_of.__wrapped__(name)


@lru_cache(maxsize=4096)
def _kind_of(name: str) -> _Kind:
    if _SECRET.search(name):
        return _Kind.SECRET
    return {"path": _Kind.PATH, "value": _Kind.VALUE}.get(name.lower(), _Kind.OTHER)
