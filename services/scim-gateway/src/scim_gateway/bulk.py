"""POST /Bulk (RFC 7644 section 3.7): one change that holds a change for each operation, one outcome for each."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import orjson
from starlette.requests import Request
from starlette.responses import Response

import contracts
from contracts import Change, Operation, Outcome, Refusal
from scim.bulk import BulkOperation, bulk_response, parse_bulk
from scim.errors import NotFound, ScimError, error_of
from scim_gateway.answers import json_response
from scim_gateway.auth import Connection, Scope, authenticate
from scim_gateway.body import read_body
from scim_gateway.gateway import Gateway, gateway_of
from scim_gateway.masking import summarize
from scim_gateway.resources import etag, note_preview, template
from scim_gateway.served import Served
from servicekit.ids import uuid7

type Part = BulkOperation[Served]

MAX_PAYLOAD = 1024 * 1024  # bytes
_ADVICE = "send fewer operations in one request"
_OPERATIONS = {
    "POST": Operation.CREATE,
    "PUT": Operation.REPLACE,
    "PATCH": Operation.PATCH,
    "DELETE": Operation.DELETE,
}


async def bulk(request: Request) -> Response:
    """POST: 200 with a BulkResponse, also when every operation was refused."""
    connection = await authenticate(request, Scope.WRITE)
    gateway = gateway_of(request)
    with gateway.reading.take(connection.id):
        document, data = await read_body(request, MAX_PAYLOAD, _ADVICE, gateway.settings.gateway_read_deadline)
    parsed = parse_bulk(document, connection.served, lambda: str(uuid7()))
    summary = summarize(request.method, template(request), document, data)
    for part in parsed.operations:
        _require_known_id(part)
    if all(part.error for part in parsed.operations):
        counted = parsed.operations[: parsed.fail_on_errors]
        return json_response(bulk_response(_results(gateway, counted, [_refused(part) for part in counted])))
    parts = [_change(gateway, connection, part) for part in parsed.operations]
    change = gateway.changes.change(
        connection,
        contracts.ResourceType.BULK,
        Operation.BULK,
        uuid7(),
        summary,
        changes=parts,
        fail_on_errors=parsed.fail_on_errors,
    )
    note_preview(request, change)
    outcome = await gateway.changes.submit(change)
    if outcome.status >= 400:
        raise error_of(outcome.status, outcome.scim_type, outcome.detail or "The bulk request was refused.")
    return json_response(bulk_response(_results(gateway, parsed.operations, outcome.outcomes or ())))


def _require_known_id(part: Part) -> None:
    """What is no id of ours is the id of nothing, as in the path of a request."""
    if part.error is None and _uuid(part.resource_id) is None:
        name = part.endpoint.type.name if part.endpoint else "Resource"
        part.error = NotFound(f"{name} not found")


def _change(gateway: Gateway, connection: Connection, part: Part) -> Change:
    """What the ordinary endpoint would publish; a refused operation goes along, to be counted and logged."""
    data = orjson.dumps(part.data)
    summary = summarize(part.method or "", part.endpoint.endpoint if part.endpoint else "", part.data, data)
    operation = _OPERATIONS[part.method] if part.method else Operation.BULK
    resource_type = part.endpoint.name if part.endpoint else contracts.ResourceType.BULK
    resource_id = _uuid(part.resource_id) or uuid7()
    content: dict[str, Any] = part.content or {}
    if part.error is not None:
        content = {"refusal": _refusal(part.error)}
    elif part.method == "POST":
        content = {**content, "fingerprint": gateway.changes.fingerprint(content)}
    else:
        content = {**content, "if_match": part.version}
    change = gateway.changes.change(connection, resource_type, operation, resource_id, summary, **content)
    return change.model_copy(update={"reply_partition": None})  # the whole has one answer


def _refusal(error: ScimError) -> Refusal:
    return Refusal(status=error.status, scim_type=error.scim_type, detail=error.detail)


# --- the answer -------------------------------------------------------------------------------------------------------


def _refused(part: Part) -> Outcome:
    """The outcome of an operation of which nothing was published."""
    error = part.error or NotFound("Resource not found")
    return Outcome(
        change_id=uuid7(),
        resource_type=contracts.ResourceType.BULK,
        resource_id=_uuid(part.resource_id) or uuid7(),
        status=error.status,
        scim_type=error.scim_type,
        detail=error.detail,
    )


def _results(gateway: Gateway, parts: Sequence[Part], outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """A result for each operation that was decided, in the order of the request."""
    decided = sorted(zip(parts, outcomes, strict=False), key=lambda pair: pair[0].position)
    return [_result(gateway, part, outcome) for part, outcome in decided]


def _result(gateway: Gateway, part: Part, outcome: Outcome) -> dict[str, Any]:
    """`status` is text; a POST that failed has no location (RFC 7644 section 3.7)."""
    is_error = outcome.status >= 400
    result: dict[str, Any] = {"status": str(outcome.status)}
    if part.method:
        result["method"] = part.method
    if part.bulk_id:
        result["bulkId"] = part.bulk_id
    if part.endpoint and _uuid(part.resource_id) and not (is_error and part.method == "POST"):
        result["location"] = gateway.location(part.endpoint, str(outcome.resource_id))
    if outcome.resource_version is not None:
        result["version"] = etag(outcome.resource_version)
    if is_error:
        result["response"] = error_of(outcome.status, outcome.scim_type, outcome.detail or "It was refused.").body()
    return result


def _uuid(text: str | None) -> UUID | None:
    """The id, when it is one in our spelling."""
    try:
        parsed = UUID(text or "")
    except ValueError:
        return None
    return parsed if str(parsed) == text else None
