"""ServiceProviderConfig, Schemas, ResourceTypes: rendered once, generated from what is served (RFC 7644 section 4)."""

from collections.abc import Callable, Mapping
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from scim import discovery
from scim.discovery import Features
from scim.errors import Forbidden
from scim_gateway.answers import ScimResponse, json_response
from scim_gateway.auth import authenticate
from scim_gateway.endpoints import Handler
from scim_gateway.served import SERVED

FEATURES = Features(bulk=False, cursor=False)

_TYPES = [served.type for served in SERVED]


def handlers(base_url: str) -> Mapping[str, Handler]:
    """The handler of each discovery path."""
    return {
        "/ServiceProviderConfig": _fixed(discovery.service_provider_config(base_url, FEATURES)),
        "/Schemas": _fixed(discovery.schemas_list(_TYPES, base_url)),
        "/Schemas/{id}": _found(lambda name: discovery.find_schema(_TYPES, name, base_url)),
        "/ResourceTypes": _fixed(discovery.resource_types_list(_TYPES, base_url)),
        "/ResourceTypes/{id}": _found(lambda name: discovery.find_resource_type(_TYPES, name, base_url)),
    }


def _fixed(document: Mapping[str, Any]) -> Handler:
    body = orjson.dumps(document)

    async def answer(request: Request) -> Response:
        await authenticate(request)
        _refuse_filter(request)
        return ScimResponse(body)

    return answer


def _found(find: Callable[[str], Mapping[str, Any]]) -> Handler:
    async def answer(request: Request) -> Response:
        await authenticate(request)
        _refuse_filter(request)
        return json_response(find(request.path_params["id"]))

    return answer


def _refuse_filter(request: Request) -> None:
    """RFC 7644 section 4: a filter here is 403, so that clients do not take everything for a match."""
    if any(name.lower() == "filter" for name in request.query_params):
        raise Forbidden("Discovery endpoints cannot be filtered.")
