"""Answers of the SCIM endpoint: bytes of `application/scim+json`, errors included."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

import orjson
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from scim.errors import ScimError

MEDIA_TYPE = "application/scim+json"
PIECE = 64 * 1024  # bytes; the server takes some messages ahead of the client, whatever their size
_UNREAD = frozenset((408, 413))  # the rest of the body may still be on its way


class ScimResponse(Response):
    """A body that is rendered already."""

    media_type = MEDIA_TYPE


class StreamedResponse:
    """A SCIM answer whose parts are made while it is sent; after `deadline` seconds the connection is cut."""

    def __init__(self, parts: AsyncIterator[bytes], headers: Mapping[str, str], deadline: float) -> None:
        self._parts = parts
        self._headers = {"content-type": MEDIA_TYPE, **headers}
        self._deadline = deadline

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(name.lower().encode(), value.encode()) for name, value in self._headers.items()]
        async with asyncio.timeout(self._deadline):
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            async for part in self._parts:
                for start in range(0, len(part), PIECE):
                    piece = part[start : start + PIECE]
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})


type Answer = Response | StreamedResponse


def json_response(document: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> ScimResponse:
    """`document` as a SCIM answer."""
    return ScimResponse(orjson.dumps(document), status, headers)


def error_response(error: ScimError) -> ScimResponse:
    """The SCIM error, with the header fields that go with its status."""
    headers: dict[str, str] = {}
    if error.status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="scim"'
    if error.status in _UNREAD or getattr(error, "closes", False):
        headers["Connection"] = "close"
    retry_after = getattr(error, "retry_after", None)
    if retry_after is not None:
        headers["Retry-After"] = str(retry_after)
    allow = getattr(error, "allow", None)
    if allow is not None:
        headers["Allow"] = allow
    return json_response(error.body(), error.status, headers)
