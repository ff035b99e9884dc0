"""The SCIM operations on resources, the same for every resource type (RFC 7644 section 3)."""

import dataclasses
import time
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from typing import Any
from uuid import UUID

import orjson
from starlette.requests import Request
from starlette.responses import Response

from contracts import Change, Operation, Outcome, RequestSummary
from scim.errors import InvalidPath, InvalidValue, NotFound, PayloadTooLarge, Unavailable, error_of
from scim.filter import Target, compile_filter, find_target
from scim.listing import ListQuery, list_response
from scim.projection import Projection
from scim.resource import render
from scim_gateway.answers import Answer, StreamedResponse, json_response
from scim_gateway.auth import Connection, Scope, authenticate
from scim_gateway.body import apart, read_body
from scim_gateway.cursors import Walk, asked_by
from scim_gateway.edge import PREVIEWED
from scim_gateway.endpoints import hold
from scim_gateway.gateway import Gateway, gateway_of, served_of
from scim_gateway.masking import summarize
from scim_gateway.related import TooMany
from scim_gateway.served import Served
from scim_gateway.store.filter_sql import Compiler, Where, sort_key
from scim_gateway.store.resources import INLINE, MANY, Stored
from scim_gateway.store.walks import walk_order


async def create(request: Request) -> Response:
    """POST to the collection: 201 with the resource."""
    connection = await authenticate(request, Scope.WRITE)
    served, projection = served_of(request, connection), projection_of(request)
    content, summary = await read(request, connection, served, served.resource_content)
    change = gateway_of(request).changes.create(connection, served, summary, **content)
    return await submit(request, served, projection, change)


async def replace(request: Request) -> Response:
    """PUT: 200 with the resource."""
    connection = await authenticate(request, Scope.WRITE)
    served, projection = served_of(request, connection), projection_of(request)
    content, summary = await read(request, connection, served, served.resource_content)
    return await change(request, connection, projection, Operation.REPLACE, summary, **content)


async def patch(request: Request) -> Response:
    """PATCH: 200 with the resource; 204 for a group that is too large to be read for an answer, or whose connection
    wants none (who asks for `attributes` gets them all the same, RFC 7644 section 3.5.2)."""
    connection = await authenticate(request, Scope.WRITE)
    served, projection = served_of(request, connection), projection_of(request)
    meaning = partial(served.patch_content, resource_id=request.path_params["id"])
    content, summary = await read(request, connection, served, meaning)
    return await change(request, connection, projection, Operation.PATCH, summary, **content)


async def delete(request: Request) -> Response:
    """DELETE: 204; a body, which means nothing, is not read."""
    connection = await authenticate(request, Scope.WRITE)
    summary = summarize(request.method, template(request), None, b"")
    return await change(request, connection, projection_of(request), Operation.DELETE, summary)


async def get(request: Request) -> Response:
    """GET by id: 200 with the resource, 304 when the client has this version."""
    connection = await authenticate(request, Scope.READ)
    served, gateway = served_of(request, connection), gateway_of(request)
    projection = projection_of(request)
    resource_id = resource_id_of(request, served)
    base_url = gateway.base_url if projection.wants(served.table.relation.attribute) else None
    stored = await served.table.find(gateway.pool, connection.id, resource_id, base_url, limit=INLINE)
    if stored is not None and has_version(request.headers.get("if-none-match"), stored.version):
        return Response(status_code=304, headers={"ETag": etag(stored.version)})
    if stored is not None and stored.related == MANY:
        hold(request, gateway.large.take(connection.id))
        stored = await served.table.find(gateway.pool, connection.id, resource_id, base_url)
    if stored is None:
        raise NotFound(f"{served.type.name} not found")
    return json_response(rendered(gateway, served, stored, projection), 200, {"ETag": etag(stored.version)})


async def search(request: Request) -> Answer:
    """GET of the collection: a ListResponse."""
    connection = await authenticate(request, Scope.READ)
    return await listing(request, connection, ListQuery.from_params(request.query_params.multi_items()))


async def search_by_post(request: Request) -> Answer:
    """POST to `.search`: the same, with the query in the body, where no log keeps it (threat T40)."""
    connection = await authenticate(request, Scope.READ)
    query, _ = await read(request, connection, served_of(request, connection), ListQuery.from_search_request)
    return await listing(request, connection, query)


async def listing(request: Request, connection: Connection, query: ListQuery) -> Answer:
    """The page that `query` asks for, of this connection's resources."""
    served, gateway = served_of(request, connection), gateway_of(request)
    where = None
    if query.filter is not None:
        compiler = Compiler(served.type, served.table.layout, gateway.base_url)
        where = compiler.where(compile_filter(served.type, query.filter))
    related_from = gateway.base_url if query.projection.wants(served.table.relation.attribute) else None
    if query.cursor is not None:
        return await walk(request, connection, query, where, related_from)
    page = await served.table.page(
        gateway.pool,
        connection.id,
        where,
        order=order_of(served, query),
        offset=query.start_index - 1,
        limit=query.count,
        base_url=related_from,
    )
    envelope = list_response([], page.total, query.start_index, len(page.resources))
    return listed(request, connection, query.projection, envelope, [(served, stored) for stored in page.resources])


async def search_everything(request: Request) -> Answer:
    """POST to `.search` at the root: resources of every type, one type after the other (RFC 7644 section 3.4.3).

    An attribute that a type does not have is absent in all of its resources.
    """
    connection, gateway = await authenticate(request, Scope.READ), gateway_of(request)
    types = list(connection.served.values())
    query, _ = await read(request, connection, types[0], ListQuery.from_search_request)
    if query.sort_by is not None or query.cursor is not None:
        raise InvalidValue(
            "A search of everything has index pages in natural order; sort, or walk by cursor, at /Users/.search and "
            "/Groups/.search."
        )
    offset, total = query.start_index - 1, 0
    found: list[tuple[Served, Stored]] = []
    for served in types:
        where = None
        if query.filter is not None:
            predicate = compile_filter(served.type, query.filter, unknown_as_absent=True)
            where = Compiler(served.type, served.table.layout, gateway.base_url).where(predicate)
        wants_related = query.projection.wants(served.table.relation.attribute)
        page = await served.table.page(
            gateway.pool,
            connection.id,
            where,
            order=None,
            offset=max(0, offset - total),
            limit=query.count - len(found),
            base_url=gateway.base_url if wants_related else None,
        )
        found += [(served, stored) for stored in page.resources]
        total += page.total
    envelope = list_response([], total, query.start_index, len(found))
    return listed(request, connection, query.projection, envelope, found)


async def walk(
    request: Request,
    connection: Connection,
    query: ListQuery,
    where: Where | None,
    related_from: str | None,
) -> Answer:
    """The page after the cursor (RFC 9865), the first one after an empty cursor."""
    served, gateway = served_of(request, connection), gateway_of(request)
    asked, now = asked_by(connection.id, served.endpoint, query), time.time()
    so_far = gateway.cursors.read(query.cursor or "", asked, now)
    target, is_descending = sort_target(served, query), query.sort_order == "descending"
    step = await served.table.step(
        gateway.pool,
        connection.id,
        where,
        order=walk_order(target, served.table.layout, is_descending=is_descending) if target else None,
        after=so_far.after,
        limit=query.count,
        total=so_far.total,
        base_url=related_from,
    )
    next_cursor = gateway.cursors.issue(Walk(step.total, step.last), asked, now) if step.has_more else None
    envelope = list_response([], step.total, items_per_page=len(step.resources), next_cursor=next_cursor)
    return listed(request, connection, query.projection, envelope, [(served, stored) for stored in step.resources])


def listed(
    request: Request,
    connection: Connection,
    projection: Projection,
    envelope: dict[str, Any],
    found: Sequence[tuple[Served, Stored]],
) -> Answer:
    """The ListResponse `envelope` filled with what was found; what is too large for a page is read while it is sent."""
    gateway = gateway_of(request)
    if not any(stored.related == MANY for _, stored in found):
        resources = [rendered(gateway, served, stored, projection) for served, stored in found]
        return json_response({**envelope, "Resources": resources})
    hold(request, gateway.large.take(connection.id))

    async def parts() -> AsyncIterator[bytes]:
        yield orjson.dumps(envelope).removesuffix(b"]}")
        separator = b""
        for served, stored in found:
            whole: Stored | None = stored
            if stored.related == MANY:
                whole = await served.table.find(gateway.pool, connection.id, stored.id, gateway.base_url)
            if whole is not None:  # else it was deleted just now
                yield separator
                yield orjson.dumps(rendered(gateway, served, whole, projection))
                separator = b","
        yield b"]}"

    return StreamedResponse(parts(), {}, gateway.settings.gateway_send_deadline)


def order_of(served: Served, query: ListQuery) -> str | None:
    """The sort key as SQL, None for the natural order; missing values come last, descending first."""
    target = sort_target(served, query)
    if target is None:
        return None
    return sort_key(target, served.table.layout) + (" DESC" if query.sort_order == "descending" else "")


def sort_target(served: Served, query: ListQuery) -> Target | None:
    """What `sortBy` names; raises InvalidPath when it names nothing."""
    if query.sort_by is None:
        return None
    target = find_target(served.type, query.sort_by)
    if target is None:
        raise InvalidPath("sortBy names an attribute that this resource type does not have.")
    return target


async def read[T](
    request: Request, connection: Connection, served: Served, meaning: Callable[[Any], T]
) -> tuple[T, RequestSummary]:
    """What `meaning` makes of the parsed body, and what the provisioning log may keep of the request."""
    gateway = gateway_of(request)
    # Only the body of a PATCH tells whether it is a deactivation.
    with gateway.reading.take(connection.id, urgent=request.method == "PATCH"):
        document, data = await read_body(
            request,
            served.body_limit,
            served.advice,
            gateway.settings.gateway_read_deadline,
            admit=lambda: hold(request, gateway.large.take(connection.id)),
        )
    try:
        content = await apart(len(data), meaning, document)
    except PayloadTooLarge as error:
        raise PayloadTooLarge(f"{error.detail} Instead, {served.advice}.") from error
    return content, summarize(request.method, template(request), document, data)


async def change(
    request: Request,
    connection: Connection,
    projection: Projection,
    operation: Operation,
    summary: RequestSummary,
    **content: Any,
) -> Response:
    """Submit a change of the resource that the path names, at the version that If-Match asks for."""
    served, changes = served_of(request, connection), gateway_of(request).changes
    if_match = request.headers.get("if-match")
    resource_id = resource_id_of(request, served)
    change = changes.change(connection, served.name, operation, resource_id, summary, if_match=if_match, **content)
    return await submit(request, served, projection, change)


async def submit(request: Request, served: Served, projection: Projection, change: Change) -> Response:
    """Submit a change and answer with its outcome; raises the ScimError that the outcome stands for."""
    gateway = gateway_of(request)
    note_preview(request, change)
    outcome = await gateway.changes.submit(change)
    if outcome.status >= 400:
        raise error_of(outcome.status, outcome.scim_type, outcome.detail or "The change was refused.")
    stored = stored_of(outcome)
    if stored is None:
        return Response(status_code=204)
    headers = {"ETag": etag(stored.version)}
    if outcome.status == 201:
        headers["Location"] = gateway.location(served, str(stored.id))
    if change.operation is Operation.PATCH and not served.answers_patch and projection.included is None:
        return Response(status_code=204, headers=headers)
    try:
        stored, projection = await with_related(gateway, served, projection, change, stored)
    except TooMany:
        return Response(status_code=204, headers=headers)
    return json_response(rendered(gateway, served, stored, projection), outcome.status, headers)


def note_preview(request: Request, change: Change) -> None:
    """Have the answer say which change it was, when it only rehearses one."""
    if change.dry_run:
        request.scope[PREVIEWED] = change.id


async def with_related(
    gateway: Gateway, served: Served, projection: Projection, change: Change, stored: Stored
) -> tuple[Stored, Projection]:
    """What an outcome does not carry: members, groups, as Postgres has them by now. Raises TooMany.

    The change is done: when Postgres cannot be asked, the answer goes without them.
    """
    attribute = served.table.relation.attribute
    if change.dry_run:  # Postgres has them as they are, not as they would be
        return stored, Projection(projection.included, projection.excluded | {attribute})
    is_new_user = change.operation is Operation.CREATE and change.members is None and stored.id == change.resource_id
    if is_new_user or not projection.wants(attribute):
        return stored, projection
    limit = served.answer_limit(change.operation)
    if limit is not None and stored.id in gateway.oversized:
        raise TooMany
    try:
        related = await gateway.related.of(change.connection_id, served.table, stored.id, limit)
    except TooMany:
        gateway.oversized.add(stored.id)
        raise
    except Unavailable:
        return stored, Projection(projection.included, projection.excluded | {attribute})
    return dataclasses.replace(stored, related=related), projection


def stored_of(outcome: Outcome) -> Stored | None:
    """The resource that an outcome carries, None for a deletion."""
    if outcome.resource is None or outcome.created is None or outcome.last_modified is None:
        return None
    version = outcome.resource_version or 1
    return Stored(outcome.resource_id, outcome.resource, version, outcome.created, outcome.last_modified)


def rendered(gateway: Gateway, served: Served, stored: Stored, projection: Projection) -> dict[str, Any]:
    """The resource as clients see it: what `projection` selects."""
    resource_id, resource = str(stored.id), stored.resource
    if stored.related is not None:
        attribute = served.table.relation.attribute
        resource = {**resource, attribute: related_values(stored.related, attribute, projection)}
    document = render(
        served.type,
        resource,
        id=resource_id,
        created=stored.created_at,
        last_modified=stored.last_modified,
        version=stored.version,
        location=gateway.location(served, resource_id),
    )
    return projection.apply(served.type, document)


def related_values(text: str, attribute: str, projection: Projection) -> Any:
    """The JSON array as it goes into the answer; parsed only when `projection` looks inside."""
    looks_inside = any(name.startswith(attribute + ".") for name in (projection.included or ()))
    looks_inside |= any(name.startswith(attribute + ".") for name in projection.excluded)
    return orjson.loads(text) if looks_inside else orjson.Fragment(text)


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
