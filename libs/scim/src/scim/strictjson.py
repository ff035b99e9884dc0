"""One strict reading of a body, so that no later reader can take it for something else (threats T28, T29, T30).

Every check that could be slow runs only when a byte in the text makes it necessary: an ordinary body without a
backslash costs one decode, two counts and one parse.
"""

import json
import math
import re
from dataclasses import dataclass
from typing import Any, NoReturn

from scim.errors import InvalidSyntax, InvalidValue, PayloadTooLarge

type JSON = dict[str, Any] | list[Any] | str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Limits:
    """What a body may hold; its size in bytes is the edge's business."""

    depth: int = 32  # objects and arrays inside each other
    string_length: int = 8_192  # characters
    values: int = 1_000_000  # roughly: bounds the memory that an 8 MB body can cost


LIMITS = Limits()
MAX_INTEGER = 2**53  # exact in every JSON reader (RFC 8259 section 6)

_BOM = b"\xef\xbb\xbf"  # RFC 8259 section 8.1 lets a reader ignore it; some .NET clients send it
_NAME = re.compile(r"[\w$.:-]{1,128}", re.ASCII)
_RAW_CONTROL = re.compile("[\x7f-\x9f]")
_BAD_CHARACTER = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
# An escape that could yield a bad character; a pair of surrogates is good, and an escaped backslash may precede.
_SUSPICIOUS_ESCAPE = re.compile(r"\\(?:[bf]|u00[0189]|u007f|ud[89a-f])", re.IGNORECASE)


def loads(data: bytes, limits: Limits = LIMITS) -> JSON:
    """The value that `data` (UTF-8) holds.

    Raises InvalidSyntax for what is not JSON, repeats a name (names compare without case) or nests too deep,
    InvalidValue for characters, numbers and strings out of bounds, PayloadTooLarge for more values than the limit.
    """
    text = _decode(data)
    containers = text.count("{") + text.count("[")
    if len(text) > limits.values and containers + text.count(",") > limits.values:
        raise PayloadTooLarge(f"The body holds more than {limits.values:,} values.")
    value = _parse(text, limits)
    if containers > limits.depth:
        _check_depth(value, limits)
    if _needs_string_check(text, limits):
        _check_strings(value, limits)
    return value


def dumps(value: Any) -> bytes:
    """`value` as compact UTF-8 JSON."""
    return _ENCODER.encode(value).encode()


def _decode(data: bytes) -> str:
    try:
        text = data.removeprefix(_BOM).decode()
    except UnicodeDecodeError as error:
        raise InvalidSyntax(f"The body is not UTF-8: byte {error.start} cannot be decoded.") from error
    if not text:
        raise InvalidSyntax("The body is empty; a JSON document is needed.")
    if "\x7f" in text if text.isascii() else _RAW_CONTROL.search(text):
        raise InvalidValue("The body holds a control character; only tab, line feed and carriage return may appear.")
    return text


def _parse(text: str, limits: Limits) -> JSON:
    try:
        return _DECODER.decode(text)
    except RecursionError as error:
        raise _too_deep(limits) from error
    except json.JSONDecodeError as error:
        raise InvalidSyntax(f"The body is not JSON: {error.msg} (line {error.lineno}, column {error.colno}).") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(pairs) > 1 and len(set(map(str.lower, members))) != len(pairs):
        raise InvalidSyntax(f"{_repeated(pairs)} appears more than once in one object; names compare without case.")
    return members


def _repeated(pairs: list[tuple[str, Any]]) -> str:
    """The first repeated name, when it is safe to repeat it to the client (threat T36)."""
    seen: set[str] = set()
    for name, _ in pairs:
        if name.lower() in seen:
            return f"The name '{name}'" if _NAME.fullmatch(name) else "A name"
        seen.add(name.lower())
    return "A name"


def _integer(digits: str) -> int:
    # The length comes first: int() takes quadratic time, and refuses 4,300 digits with an error of its own.
    if len(digits) > 17 or abs(number := int(digits)) > MAX_INTEGER:
        raise InvalidValue("A number is out of range; integers are at most 2 to the power of 53.")
    return number


def _float(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise InvalidValue("A number is out of range.")
    return number


def _constant(name: str) -> NoReturn:
    raise InvalidSyntax(f"The body is not JSON: {name} is not a JSON value.")


def _check_depth(value: JSON, limits: Limits) -> None:
    """Level by level, without recursion."""
    level: list[Any] = [value]
    for _ in range(limits.depth):
        level = [
            child
            for container in level
            for child in (container.values() if type(container) is dict else container)
            if type(child) is dict or type(child) is list
        ]
        if not level:
            return
    raise _too_deep(limits)


def _too_deep(limits: Limits) -> InvalidSyntax:
    return InvalidSyntax(f"The body nests deeper than {limits.depth} levels.")


def _needs_string_check(text: str, limits: Limits) -> bool:
    long = len(text) > limits.string_length
    if "\\" in text:
        return long or _SUSPICIOUS_ESCAPE.search(text) is not None
    return long and re.search(f'"[^"]{{{limits.string_length + 1}}}', text) is not None


def _check_strings(value: JSON, limits: Limits) -> None:
    waiting: list[Any] = [value]
    while waiting:
        item = waiting.pop()
        if type(item) is str:
            _check_string(item, limits)
        elif type(item) is dict:
            waiting += item
            waiting += item.values()
        elif type(item) is list:
            waiting += item


def _check_string(text: str, limits: Limits) -> None:
    if len(text) > limits.string_length:
        raise InvalidValue(f"A string is longer than {limits.string_length:,} characters.")
    bad = _BAD_CHARACTER.search(text)
    if bad is not None:
        raise InvalidValue(f"A string holds the character U+{ord(bad[0]):04X}, which is not allowed.")


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_int=_integer, parse_float=_float, parse_constant=_constant)
_ENCODER = json.JSONEncoder(ensure_ascii=False, check_circular=False, allow_nan=False, separators=(",", ":"))
