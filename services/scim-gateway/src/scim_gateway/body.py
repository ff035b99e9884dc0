"""Reading a request's body: bounded in bytes, in time and in number, then parsed once, strictly."""

import asyncio
from contextlib import suppress
from typing import Any

from starlette.requests import ClientDisconnect, Request

from scim import strictjson
from scim.errors import InvalidSyntax, PayloadTooLarge, RequestTimeout, UnsupportedMediaType

# What is read and dropped after a refusal, at most.
MAX_DISCARDED = 16 * 1024 * 1024  # bytes
DISCARD_SECONDS = 2.0

_TYPES = frozenset(("application/scim+json", "application/json"))


async def read_body(request: Request, limit: int, advice: str, deadline: float) -> tuple[Any, int]:
    """The parsed body and its size in bytes.

    `limit` is in bytes and counted while reading, `advice` what to do beyond it, `deadline` in seconds. A missing
    Content-Type is read as JSON, any parameter of it is accepted (RFC 7644 section 8.1 wants both types, clients add
    charsets of all kinds).
    """
    _check_content_type(request.headers.get("content-type"))
    try:
        async with asyncio.timeout(deadline):
            data = await _read_or_discard(request, limit)
    except PayloadTooLarge as error:
        raise PayloadTooLarge(f"{error.detail} Instead, {advice}.") from error
    except TimeoutError as error:
        raise RequestTimeout(f"The body did not arrive within {deadline:g} seconds.") from error
    if not data:
        raise InvalidSyntax("The request has no body; send a JSON document.")
    return strictjson.loads(data), len(data)


def _check_content_type(value: str | None) -> None:
    if value is not None and value.partition(";")[0].strip().lower() not in _TYPES:
        raise UnsupportedMediaType("Send the body as application/scim+json or application/json.")


def _check_content_length(value: str | None, limit: int) -> None:
    if value is not None and value.isdigit() and int(value) > limit:
        raise _too_large(limit)


async def _read_or_discard(request: Request, limit: int) -> bytes:
    length = request.headers.get("content-length")
    try:
        _check_content_length(length, limit)
        return await _read(request, limit)
    except PayloadTooLarge:
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


async def _read(request: Request, limit: int) -> bytes:
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        chunk: bytes = message.get("body", b"")
        size += len(chunk)
        if size > limit:
            raise _too_large(limit)
        chunks.append(chunk)
        if not message.get("more_body", False):
            return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def _too_large(limit: int) -> PayloadTooLarge:
    return PayloadTooLarge(f"The body is larger than {limit // 1024} KB.")
