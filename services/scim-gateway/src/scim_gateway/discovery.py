"""ServiceProviderConfig, Schemas, ResourceTypes, generated from what the connection is served (RFC 7644 section 4)."""

from collections.abc import Callable, Mapping
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from scim import discovery
from scim.bulk import MAX_OPERATIONS
from scim.discovery import Features
from scim.errors import Forbidden
from scim.schema import ResourceType
from scim_gateway.answers import ScimResponse, json_response
from scim_gateway.auth import authenticate
from scim_gateway.bulk import MAX_PAYLOAD
from scim_gateway.cursors import LIFETIME
from scim_gateway.endpoints import Handler

FEATURES = Features(bulk_max_operations=MAX_OPERATIONS, bulk_max_payload_size=MAX_PAYLOAD, cursor_timeout=LIFETIME)

type Describe = Callable[[list[ResourceType], str], Mapping[str, Any]]


def handlers(base_url: str) -> Mapping[str, Handler]:
    """The handler of each discovery path."""
    config = orjson.dumps(discovery.service_provider_config(base_url, FEATURES))
    return {
        "/ServiceProviderConfig": _fixed(config),
        "/Schemas": _described(lambda types, _: discovery.schemas_list(types, base_url)),
        "/Schemas/{id}": _described(lambda types, name: discovery.find_schema(types, name, base_url)),
        "/ResourceTypes": _described(lambda types, _: discovery.resource_types_list(types, base_url)),
        "/ResourceTypes/{id}": _described(lambda types, name: discovery.find_resource_type(types, name, base_url)),
    }


def _fixed(body: bytes) -> Handler:
    async def answer(request: Request) -> Response:
        await authenticate(request)
        _refuse_filter(request)
        return ScimResponse(body)

    return answer


def _described(describe: Describe) -> Handler:
    """Answers what `describe` makes of the connection's resource types and the id in the path."""

    async def answer(request: Request) -> Response:
        connection = await authenticate(request)
        _refuse_filter(request)
        types = [served.type for served in connection.served.values()]
        return json_response(describe(types, request.path_params.get("id", "")))

    return answer


def _refuse_filter(request: Request) -> None:
    """RFC 7644 section 4: a filter here is 403, so that clients do not take everything for a match."""
    if any(name.lower() == "filter" for name in request.query_params):
        raise Forbidden("Discovery endpoints cannot be filtered.")
