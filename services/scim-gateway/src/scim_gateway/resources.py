"""The SCIM operations on resources, the same for every resource type (RFC 7644 section 3)."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import orjson
from starlette.requests import Request
from starlette.responses import Response

from contracts import Operation, Outcome, RequestSummary
from scim import patch as scim_patch
from scim.errors import InvalidPath, NotFound, error_of
from scim.filter import find_target, resolve_filter
from scim.listing import ListQuery, list_response
from scim.projection import Projection
from scim.resource import parse_resource, render
from scim_gateway.answers import ScimResponse, json_response
from scim_gateway.auth import Connection, authenticate
from scim_gateway.body import read_body
from scim_gateway.gateway import Gateway, gateway_of
from scim_gateway.masking import summarize
from scim_gateway.served import Served, resource_type
from scim_gateway.store.filter_sql import Compiler, sort_key
from scim_gateway.store.resources import Stored


async def create(request: Request) -> Response:
    """POST to the collection: 201 with the resource."""
    connection = await authenticate(request)
    served, projection = resource_type(request), projection_of(request)
    document, summary = await read(request, connection, served)
    changes = gateway_of(request).changes
    change = changes.create(connection, served, parse_resource(served.type, document), summary)
    return answer(request, served, projection, await changes.submit(change))


async def replace(request: Request) -> Response:
    """PUT: 200 with the resource."""
    connection = await authenticate(request)
    served, projection = resource_type(request), projection_of(request)
    document, summary = await read(request, connection, served)
    resource = parse_resource(served.type, document)
    return await change(request, connection, projection, Operation.REPLACE, summary, resource=resource)


async def patch(request: Request) -> Response:
    """PATCH: 200 with the resource."""
    connection = await authenticate(request)
    served, projection = resource_type(request), projection_of(request)
    document, summary = await read(request, connection, served)
    operations = scim_patch.operations_to_json(scim_patch.parse_patch(served.type, document))
    return await change(request, connection, projection, Operation.PATCH, summary, patch=operations)


async def delete(request: Request) -> Response:
    """DELETE: 204; a body, which means nothing, is not read."""
    connection = await authenticate(request)
    summary = summarize(request.method, template(request), None, 0)
    return await change(request, connection, projection_of(request), Operation.DELETE, summary)


async def get(request: Request) -> Response:
    """GET by id: 200 with the resource, 304 when the client has this version."""
    connection = await authenticate(request)
    served, gateway = resource_type(request), gateway_of(request)
    projection = projection_of(request)
    resource_id = resource_id_of(request, served)
    stored = await served.table.find(gateway.pool, connection.id, resource_id)
    if stored is None:
        raise NotFound(f"{served.type.name} not found")
    headers = {"ETag": etag(stored.version)}
    if has_version(request.headers.get("if-none-match"), stored.version):
        return Response(status_code=304, headers=headers)
    return ScimResponse(orjson.dumps(projection.apply(served.type, rendered(gateway, served, stored))), 200, headers)


async def search(request: Request) -> Response:
    """GET of the collection: a ListResponse."""
    connection = await authenticate(request)
    return await listing(request, connection, ListQuery.from_params(request.query_params.multi_items()))


async def search_by_post(request: Request) -> Response:
    """POST to `.search`: the same, with the query in the body, where no log keeps it (threat T40)."""
    connection = await authenticate(request)
    document, _ = await read(request, connection, resource_type(request))
    return await listing(request, connection, ListQuery.from_search_request(document))


async def listing(request: Request, connection: Connection, query: ListQuery) -> Response:
    """The page that `query` asks for, of this connection's resources."""
    served, gateway = resource_type(request), gateway_of(request)
    where = None
    if query.filter is not None:
        compiler = Compiler(served.type, served.table.layout, gateway.location(served, ""))
        where = compiler.where(resolve_filter(served.type, query.filter))
    page = await served.table.page(
        gateway.pool,
        connection.id,
        where,
        order=order_of(served, query),
        offset=query.start_index - 1,
        limit=query.count,
    )
    resources = [query.projection.apply(served.type, rendered(gateway, served, stored)) for stored in page.resources]
    return json_response(list_response(resources, page.total, query.start_index))


def order_of(served: Served, query: ListQuery) -> str | None:
    """The sort key as SQL, None for the natural order; missing values come last, descending first."""
    if query.sort_by is None:
        return None
    target = find_target(served.type, query.sort_by)
    if target is None:
        raise InvalidPath("sortBy names an attribute that this resource type does not have.")
    return sort_key(target, served.table.layout) + (" DESC" if query.sort_order == "descending" else "")


async def read(request: Request, connection: Connection, served: Served) -> tuple[Any, RequestSummary]:
    """The parsed body, and what the provisioning log may keep of the request."""
    gateway = gateway_of(request)
    with gateway.reading.take(connection.id):
        document, size = await read_body(request, served.body_limit, gateway.settings.gateway_read_deadline)
    return document, summarize(request.method, template(request), document, size)


async def change(
    request: Request,
    connection: Connection,
    projection: Projection,
    operation: Operation,
    summary: RequestSummary,
    **content: Any,
) -> Response:
    """Submit a change of the resource that the path names, at the version that If-Match asks for."""
    served, changes = resource_type(request), gateway_of(request).changes
    if_match = request.headers.get("if-match")
    resource_id = resource_id_of(request, served)
    change = changes.change(connection, served, operation, resource_id, summary, if_match=if_match, **content)
    return answer(request, served, projection, await changes.submit(change))


def answer(request: Request, served: Served, projection: Projection, outcome: Outcome) -> Response:
    """The outcome as the client's answer; raises the ScimError that it stands for."""
    if outcome.status >= 400:
        raise error_of(outcome.status, outcome.scim_type, outcome.detail or "The change was refused.")
    stored = stored_of(outcome)
    if stored is None:
        return Response(status_code=204)
    gateway = gateway_of(request)
    headers = {"ETag": etag(stored.version)}
    if outcome.status == 201:
        headers["Location"] = gateway.location(served, str(stored.id))
    body = projection.apply(served.type, rendered(gateway, served, stored))
    return ScimResponse(orjson.dumps(body), outcome.status, headers)


def stored_of(outcome: Outcome) -> Stored | None:
    """The resource that an outcome carries, None for a deletion."""
    if outcome.resource is None or outcome.created is None or outcome.last_modified is None:
        return None
    version = outcome.resource_version or 1
    return Stored(outcome.resource_id, outcome.resource, version, outcome.created, outcome.last_modified)


def rendered(gateway: Gateway, served: Served, stored: Stored) -> dict[str, Any]:
    """The resource as clients see it, whole."""
    resource_id = str(stored.id)
    return render(
        served.type,
        stored.resource,
        id=resource_id,
        created=stored.created_at,
        last_modified=stored.last_modified,
        version=stored.version,
        location=gateway.location(served, resource_id),
    )


def projection_of(request: Request) -> Projection:
    """What `attributes` and `excludedAttributes` ask for (RFC 7644 section 3.9)."""
    if not request.scope["query_string"]:
        return Projection.parse()
    parameters = {name.lower(): value for name, value in request.query_params.items()}
    return Projection.parse(parameters.get("attributes"), parameters.get("excludedattributes"))


def resource_id_of(request: Request, served: Served) -> UUID:
    """The id in the path; what is no UUID in our spelling is the id of nothing."""
    text = request.path_params["id"]
    try:
        resource_id = UUID(text)
    except ValueError:
        resource_id = None
    if resource_id is None or str(resource_id) != text:
        raise NotFound(f"{served.type.name} not found")
    return resource_id


def template(request: Request) -> str:
    """The request's route, for the log: no id, no query."""
    return request.scope["scim_gateway.route"]


def etag(version: int) -> str:
    return f'W/"{version}"'


def has_version(header: str | None, version: int) -> bool:
    """Whether If-None-Match names this version; weak comparison (RFC 9110 section 13.1.2)."""
    if header is None:
        return False
    tags: Sequence[str] = [tag.strip().removeprefix("W/") for tag in header.split(",")]
    return "*" in tags or f'"{version}"' in tags
