"""Bulk requests (RFC 7644 section 3.7): from the message to operations in the order in which they are to be decided.

A POST gets its id here, from the caller's `mint`, so that `bulkId:` references resolve before anything is created:
forward ones (the create is moved before who refers to it) and circular ones (managers of each other) alike.

A malformed message is refused as a whole. A malformed operation is refused alone: it keeps its place, with its error,
because it counts for `failOnErrors`. Who refers to a refused create is refused with it.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from scim.errors import InvalidPath, InvalidSyntax, InvalidValue, PayloadTooLarge, ScimError
from scim.urns import BULK_REQUEST, BULK_RESPONSE

MAX_OPERATIONS = 100
MAX_BULK_ID = 256  # characters
MAX_PATH = 1_024  # characters

type Method = Literal["POST", "PUT", "PATCH", "DELETE"]

_METHODS: Mapping[str, Method] = {"POST": "POST", "PUT": "PUT", "PATCH": "PATCH", "DELETE": "DELETE"}
_REFERENCE = "bulkId:"
_QUOTED_REFERENCE = re.compile(r'"bulkId:([^"\\]*)"')


class Endpoint(Protocol):
    """A resource type as its own endpoint reads it; both methods raise ScimError."""

    def resource_content(self, document: Any) -> Any:
        """What the body of a POST or PUT means."""

    def patch_content(self, document: Any, resource_id: str) -> Any:
        """What the body of a PATCH means."""


@dataclass(slots=True)
class BulkOperation[T: Endpoint]:
    """One operation; `position` is its place in the request, from 0.

    `resource_id` is the target's, or the new one's for a POST. `data` is as sent, `content` what the endpoint made of
    it. With an `error` it is refused: then only what could be read is there.
    """

    position: int
    method: Method | None = None
    endpoint: T | None = None
    resource_id: str | None = None
    bulk_id: str | None = None
    version: str | None = None
    data: Any = None
    content: Any = None
    error: ScimError | None = None
    refers_to: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class BulkRequest[T: Endpoint]:
    """Operations in the order in which they are to be decided, until `fail_on_errors` of them were refused."""

    operations: list[BulkOperation[T]]
    fail_on_errors: int | None = None


def parse_bulk[T: Endpoint](
    document: Any, endpoints: Mapping[str, T], mint: Callable[[], str], max_operations: int = MAX_OPERATIONS
) -> BulkRequest[T]:
    """Read a BulkRequest message; `endpoints` by their path, such as `/Users`.

    Raises InvalidSyntax or InvalidValue for a malformed message, PayloadTooLarge for too many operations.
    """
    message = _message_of(document)
    items = _items_of(message, max_operations)
    operations = [_operation_of(position, item, endpoints) for position, item in enumerate(items)]
    creates = _creates_of(operations)
    for create in creates.values():
        create.resource_id = mint()
    for operation in operations:
        _read_content(operation, creates)
    _refuse_referents(operations, creates)
    return BulkRequest(_in_order(operations, creates), _fail_on_errors(message.get("failonerrors")))


def bulk_response(operations: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The BulkResponse message."""
    return {"schemas": [BULK_RESPONSE], "Operations": list(operations)}


# --- the message ----------------------------------------------------------------------------------------------------


def _message_of(document: Any) -> dict[str, Any]:
    if not isinstance(document, dict):
        raise InvalidSyntax("A bulk request is a JSON object.")
    message = _lower_names(document)
    schemas = message.get("schemas")
    if not isinstance(schemas, list) or BULK_REQUEST.lower() not in [str(urn).lower() for urn in schemas]:
        raise InvalidSyntax(f"The schemas of a bulk request must hold {BULK_REQUEST}.")
    return message


def _items_of(message: Mapping[str, Any], max_operations: int) -> list[Any]:
    items = message.get("operations")
    if not isinstance(items, list) or not items:
        raise InvalidSyntax("Operations must be a list with at least one operation.")
    if len(items) > max_operations:
        raise PayloadTooLarge(f"A bulk request may hold at most {max_operations} operations (maxOperations).")
    return items


def _fail_on_errors(value: Any) -> int | None:
    if value is None:
        return None
    if type(value) is not int or value < 1:
        raise InvalidValue("failOnErrors must be an integer of 1 or more.")
    return value


def _lower_names(item: Mapping[str, Any]) -> dict[str, Any]:
    return {name.lower(): value for name, value in item.items()}


# --- one operation --------------------------------------------------------------------------------------------------


def _operation_of(position: int, item: Any, endpoints: Mapping[str, Any]) -> BulkOperation:
    """The operation without its content; what is malformed in it is its `error`."""
    operation = BulkOperation(position)
    try:
        _read_frame(operation, item, endpoints)
    except ScimError as error:
        operation.error = error
    return operation


def _read_frame(operation: BulkOperation, item: Any, endpoints: Mapping[str, Any]) -> None:
    if not isinstance(item, dict):
        raise InvalidSyntax("An operation is a JSON object.")
    given = _lower_names(item)
    operation.bulk_id = _text(given.get("bulkid"), "bulkId", MAX_BULK_ID)
    method = given.get("method")
    operation.method = _METHODS.get(method.upper()) if isinstance(method, str) else None
    path = _text(given.get("path"), "path", MAX_PATH) or ""
    name, slash, resource_id = path.removeprefix("/").partition("/")
    operation.endpoint = endpoints.get(f"/{name}")
    operation.resource_id = resource_id or None
    operation.version = _text(given.get("version"), "version", MAX_BULK_ID)
    operation.data = given.get("data")
    _check_frame(operation, has_id=bool(slash))


def _check_frame(operation: BulkOperation, *, has_id: bool) -> None:
    if operation.method is None:
        raise InvalidValue("method must be POST, PUT, PATCH or DELETE.")
    if operation.endpoint is None:
        raise InvalidPath("path must name a collection or a resource of it, such as /Users or /Users/{id}.")
    if operation.method == "POST":
        if has_id:
            raise InvalidPath("The path of a POST must be a collection, without an id.")
        if operation.bulk_id is None:
            raise InvalidValue("bulkId is required for a POST.")
    elif operation.resource_id is None or "/" in operation.resource_id:
        raise InvalidPath(f"The path of a {operation.method} must end in the id of a resource.")
    if operation.method != "DELETE" and not isinstance(operation.data, dict):
        raise InvalidSyntax(f"data must be an object for {operation.method}.")


def _text(value: Any, name: str, limit: int) -> str | None:
    if value is None or value == "":
        return None
    if not isinstance(value, str) or len(value) > limit:
        raise InvalidValue(f"{name} must be text of at most {limit} characters.")
    return value


def _creates_of(operations: Iterable[BulkOperation]) -> dict[str, BulkOperation]:
    """The POSTs by their bulkId; those that share one are refused, for nobody knows which of them is meant."""
    creates = [operation for operation in operations if operation.method == "POST" and operation.bulk_id]
    times = Counter(create.bulk_id for create in creates)
    for create in creates:
        if times[create.bulk_id] > 1 and create.error is None:
            create.error = InvalidValue("bulkId must be unique in a bulk request.")
    return {create.bulk_id: create for create in creates if create.bulk_id}


def _read_content(operation: BulkOperation, creates: Mapping[str, BulkOperation]) -> None:
    if operation.error is not None:
        return
    references = _References(creates)
    try:
        if operation.method != "POST":
            operation.resource_id = references.resolved(operation.resource_id)
        operation.content = _content_of(operation, references)
    except ScimError as error:
        operation.error = error
    operation.refers_to = references.found


def _content_of(operation: BulkOperation, references: "_References") -> Any:
    assert operation.endpoint is not None
    if operation.method == "DELETE":
        return None
    data = references.resolved(operation.data)
    if operation.method == "PATCH":
        return operation.endpoint.patch_content(data, operation.resource_id or "")
    return operation.endpoint.resource_content(data)


# --- references -----------------------------------------------------------------------------------------------------


class _References:
    """Replaces `bulkId:` references by the ids of what they name, and remembers which were `found`."""

    def __init__(self, creates: Mapping[str, BulkOperation]) -> None:
        self._creates = creates
        self.found: set[str] = set()

    def resolved(self, value: Any, name: str = "") -> Any:
        """A copy of `value`, which stands under `name`; raises InvalidValue for an unknown bulkId.

        A reference is a whole text, or a quoted one in the filter of a PATCH's path.
        """
        if isinstance(value, dict):
            return {key: self.resolved(item, key) for key, item in value.items()}
        if isinstance(value, list):
            return [self.resolved(item, name) for item in value]
        if not isinstance(value, str):
            return value
        if value.startswith(_REFERENCE):
            return self._id_of(value.removeprefix(_REFERENCE))
        if name.lower() == "path" and _REFERENCE in value:
            return _QUOTED_REFERENCE.sub(lambda match: f'"{self._id_of(match[1])}"', value)
        return value

    def _id_of(self, bulk_id: str) -> str:
        create = self._creates.get(bulk_id)
        if create is None or create.resource_id is None:
            raise InvalidValue("A bulkId reference names no POST of this bulk request.")
        self.found.add(bulk_id)
        return create.resource_id


def _refuse_referents(operations: Sequence[BulkOperation], creates: Mapping[str, BulkOperation]) -> None:
    """Refuse whoever refers to a refused create, directly or through others."""
    is_settled = False
    while not is_settled:
        is_settled = True
        for operation in operations:
            if operation.error is None and any(creates[bulk_id].error for bulk_id in operation.refers_to):
                operation.error = InvalidValue("A bulkId reference names a POST that was refused.")
                is_settled = False


def _in_order(operations: Sequence[BulkOperation], creates: Mapping[str, BulkOperation]) -> list[BulkOperation]:
    """As given, except that a create stands before the first that refers to it; in a circle, one cannot."""
    ordered: dict[int, BulkOperation] = {}
    seen: set[int] = set()
    waiting = list(reversed(operations))
    while waiting:
        operation = waiting[-1]
        seen.add(operation.position)
        ahead = [creates[bulk_id] for bulk_id in operation.refers_to if creates[bulk_id].position not in seen]
        if ahead:
            waiting.append(min(ahead, key=lambda create: create.position))
        else:
            ordered.setdefault(operation.position, operation)
            waiting.pop()
    return list(ordered.values())
