"""The OpenAPI document of the SCIM endpoints. `python -m scim_gateway.openapi [BASE_URL]` prints it.

Served like the rest of discovery: to connections, each with its organization's own schemas in it.
"""

import sys
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from scim.openapi import openapi_document
from scim_gateway.auth import authenticate
from scim_gateway.discovery import FEATURES
from scim_gateway.endpoints import BASE
from scim_gateway.gateway import gateway_of
from scim_gateway.served import Catalog, catalog


def described(base_url: str, served: Catalog | None = None) -> dict[str, Any]:
    """The document of what is served at `base_url`: what every connection has, unless `served` says more."""
    return openapi_document([one.type for one in (served or catalog()).values()], base_url, FEATURES)


async def get(request: Request) -> Response:
    """GET: 200 with the document."""
    connection = await authenticate(request)
    document = described(gateway_of(request).base_url, connection.served)
    return Response(orjson.dumps(document), media_type="application/json")


if __name__ == "__main__":
    url = sys.argv[1] if len(sys.argv) > 1 else "https://scim.example.com" + BASE
    print(orjson.dumps(described(url), option=orjson.OPT_INDENT_2).decode())
