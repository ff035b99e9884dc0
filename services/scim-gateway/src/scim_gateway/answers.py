"""Answers of the SCIM endpoint: bytes of `application/scim+json`, errors included."""

from collections.abc import Mapping
from typing import Any

import orjson
from starlette.responses import Response

from scim.errors import ScimError

MEDIA_TYPE = "application/scim+json"
_UNREAD = frozenset((408, 413))  # the rest of the body may still be on its way


class ScimResponse(Response):
    """A body that is rendered already."""

    media_type = MEDIA_TYPE


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
