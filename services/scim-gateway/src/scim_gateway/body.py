"""Reading a request's body: bounded in bytes, in time and in number, then parsed once, strictly."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from starlette.requests import Request

from scim import strictjson
from scim.errors import (
    InvalidSyntax,
    PayloadTooLarge,
    RequestTimeout,
    TooManyRequests,
    Unavailable,
    UnsupportedMediaType,
)

# What is read and dropped after a refusal, at most.
MAX_DISCARDED = 16 * 1024 * 1024  # bytes
DISCARD_SECONDS = 2.0

LARGE = 1024 * 1024  # bytes; such bodies are admitted one by one
PARSED = "scim_gateway.parsed"  # scope key: the parsed body, and its bytes
BRIEF = 128 * 1024  # bytes; what is larger is worked on in a thread, so that other requests do not wait for it

_TYPES = frozenset(("application/scim+json", "application/json"))


class BrokenOff(InvalidSyntax):
    """The client has gone, or what it sends cannot be told apart any more: the server says the same for both."""

    closes = True


async def read_body(
    request: Request, limit: int, advice: str, deadline: float, admit: Callable[[], None] = lambda: None
) -> tuple[Any, bytes]:
    """The parsed body, and its bytes.

    `limit` is in bytes and counted while reading, `advice` what to do beyond it, `deadline` in seconds; `admit` is
    asked, and may refuse, when the body turns out to be LARGE. A missing Content-Type is read as JSON, any parameter
    of it is accepted (RFC 7644 section 8.1 wants both types, clients add charsets of all kinds).
    """
    _check_content_type(request.headers.get("content-type"))
    try:
        async with asyncio.timeout(deadline):
            data = await _read_or_discard(request, limit, admit)
    except PayloadTooLarge as error:
        raise PayloadTooLarge(f"{error.detail} Instead, {advice}.") from error
    except TimeoutError as error:
        raise RequestTimeout(f"The body did not arrive within {deadline:g} seconds.") from error
    if not data:
        raise InvalidSyntax("The request has no body; send a JSON document.")
    request.scope[PARSED] = document, data = await apart(len(data), strictjson.loads, data), data
    return document, data


async def apart[**P, T](size: int, work: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
    """The result of `work` on a body of `size` bytes."""
    if size <= BRIEF:
        return work(*arguments, **named)
    return await asyncio.to_thread(work, *arguments, **named)


def _check_content_type(value: str | None) -> None:
    if value is not None and value.partition(";")[0].strip().lower() not in _TYPES:
        raise UnsupportedMediaType("Send the body as application/scim+json or application/json.")


def _check_content_length(value: str | None, limit: int) -> None:
    if value is not None and value.isdigit() and int(value) > limit:
        raise _too_large(limit)


async def _read_or_discard(request: Request, limit: int, admit: Callable[[], None]) -> bytes:
    length = request.headers.get("content-length")
    try:
        _check_content_length(length, limit)
        return await _read(request, limit, admit)
    except (PayloadTooLarge, TooManyRequests, Unavailable):
        if length is None or not length.isdigit() or int(length) <= MAX_DISCARDED:
            await _discard(request)
        raise


async def _discard(request: Request) -> None:
    """Read on for a while: a client that is still sending would see a reset connection instead of our answer."""
    size, more = 0, True
    with suppress(TimeoutError):
        async with asyncio.timeout(DISCARD_SECONDS):
            while more and size < MAX_DISCARDED:
                message = await request.receive()
                size += len(message.get("body", b""))
                more = message.get("more_body", False)


async def _read(request: Request, limit: int, admit: Callable[[], None]) -> bytes:
    chunks: list[bytes] = []
    size = 0
    is_admitted = False
    while True:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise BrokenOff("The body ends early, or its chunks are malformed; send it again.")
        chunk: bytes = message.get("body", b"")
        size += len(chunk)
        if size > limit:
            raise _too_large(limit)
        if size > LARGE and not is_admitted:
            admit()
            is_admitted = True
        chunks.append(chunk)
        if not message.get("more_body", False):
            return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def _too_large(limit: int) -> PayloadTooLarge:
    return PayloadTooLarge(f"The body is larger than {limit // 1024} KB.")
