"""What of a request may be kept for the provisioning log: secrets masked, size bounded (threat T39)."""

import re
from typing import Any

import orjson

from contracts import RequestSummary

MAX_BODY = 16 * 1024  # bytes of JSON
MASK = "***"
_SECRET = re.compile(r"password|passphrase|secret|token|credential|private.?key|api.?key|\bpin\b", re.IGNORECASE)


def summarize(method: str, path: str, body: Any, size: int) -> RequestSummary:
    """The request as an administrator may see it; a larger body is kept as the beginning of its text."""
    if size <= MAX_BODY:
        return RequestSummary(method=method, path=path, body=mask(body))
    beginning = orjson.dumps(_Mask(MAX_BODY).copy(body))[:MAX_BODY]
    return RequestSummary(method=method, path=path, body=beginning.decode(errors="ignore"))


def mask(value: Any) -> Any:
    """A copy of `value` without secrets: members of a secret's name, and the value of a PATCH operation on one."""
    return _Mask(None).copy(value)


class _Mask:
    """Copies what comes first; what lies beyond `left` bytes of JSON is not looked at."""

    def __init__(self, left: int | None) -> None:
        self._left = left

    def copy(self, value: Any) -> Any:
        if isinstance(value, dict):
            hidden = _names_secret(value)
            return {
                name: MASK if _is_secret(name, item, hidden) else self.copy(item)
                for name, item in value.items()
                if self._spend(len(name) + 4)
            }
        if isinstance(value, list):
            return [self.copy(item) for item in value if self._spend(1)]
        self._spend(len(value) if isinstance(value, str) else 1)
        return value

    def _spend(self, size: int) -> bool:
        """Whether there is room for more; `size` is at most what the JSON of it takes."""
        if self._left is None:
            return True
        fits = self._left > 0
        self._left -= size
        return fits


def _names_secret(value: dict[str, Any]) -> bool:
    path = next((item for name, item in value.items() if name.lower() == "path"), None)
    return isinstance(path, str) and _SECRET.search(path) is not None


def _is_secret(name: str, item: Any, hidden: bool) -> bool:
    return item is not None and (_SECRET.search(name) is not None or (hidden and name.lower() == "value"))
