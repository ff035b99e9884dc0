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
    masked = mask(body)
    if size > MAX_BODY:
        masked = orjson.dumps(masked)[:MAX_BODY].decode(errors="ignore")
    return RequestSummary(method=method, path=path, body=masked)


def mask(value: Any) -> Any:
    """A copy of `value` without secrets: members of a secret's name, and the value of a PATCH operation on one."""
    if isinstance(value, dict):
        hidden = _names_secret(value)
        return {name: MASK if _is_secret(name, item, hidden) else mask(item) for name, item in value.items()}
    if isinstance(value, list):
        return [mask(item) for item in value]
    return value


def _names_secret(value: dict[str, Any]) -> bool:
    path = next((item for name, item in value.items() if name.lower() == "path"), None)
    return isinstance(path, str) and _SECRET.search(path) is not None


def _is_secret(name: str, item: Any, hidden: bool) -> bool:
    return item is not None and (_SECRET.search(name) is not None or (hidden and name.lower() == "value"))
