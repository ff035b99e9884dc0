"""An OpenAPI 3.1 document of a SCIM server, generated from the schemas that it serves.

It says what our own answers look like, exactly, and what a well-behaved client sends. What is taken beyond that, the
dialects of identity providers, is in no schema; unknown attributes are ignored (docs/scim.md).
"""

from collections.abc import Iterable, Mapping
from typing import Any

from scim.bulk import MAX_OPERATIONS
from scim.discovery import Features
from scim.listing import MAX_COUNT
from scim.schema import COMMON_ATTRIBUTES, Attribute, ResourceType, Schema
from scim.urns import (
    BULK_REQUEST,
    BULK_RESPONSE,
    ERROR,
    LIST_RESPONSE,
    PATCH_OP,
    RESOURCE_TYPE,
    SCHEMA,
    SEARCH_REQUEST,
    SERVICE_PROVIDER_CONFIG,
)

type Document = dict[str, Any]

MEDIA_TYPE = "application/scim+json"
_ACCEPTED = (MEDIA_TYPE, "application/json")
_TYPES = {"boolean": "boolean", "decimal": "number", "integer": "integer"}

# What any request may be answered with, and what one with a body may.
_ALWAYS = {
    400: "The request is malformed; `scimType` says how.",
    401: "The bearer token is missing, unknown, expired or revoked.",
    403: "The token is good and does not allow this.",
    404: "There is no such resource in this connection.",
    414: "The URL is too long.",
    429: "This connection or address sends too much; nothing was changed.",
    431: "There are too many header fields.",
    500: "A bug; quote the X-Request-Id.",
    503: "Not accepted, or the outcome is not known in time: `detail` says which.",
}
_OF_BODIES = {
    408: "The body did not arrive in time.",
    413: "The body, or a count in it, is over the limit; `detail` says what to do.",
    415: "The body is neither application/scim+json nor application/json, or it is compressed.",
}
_CONFLICT = {409: "An attribute that must be unique is taken."}
_PRECONDITION = {412: "The resource is not at the version that If-Match names."}


def openapi_document(resource_types: Iterable[ResourceType], base_url: str, features: Features) -> Document:
    """The document of a server at `base_url` with these resource types."""
    types = list(resource_types)
    schemas = {**_MESSAGES, **{rt.name: resource_schema(rt) for rt in types}}
    schemas |= {f"{rt.name}List": _list_of(_ref(rt.name)) for rt in types}
    schemas["ResourceList"] = _list_of({"anyOf": [_ref(rt.name) for rt in types]})
    paths: dict[str, Document] = {}
    for rt in types:
        paths |= _resource_paths(rt)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "SCIM 2.0",
            "version": "2.0",
            "description": "Users and groups of one connection (RFC 7643, 7644, 9865).",
        },
        "servers": [{"url": base_url}],
        "security": [{"bearer": []}],
        "paths": {**paths, **_common_paths(features)},
        "components": {
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
            "schemas": schemas,
            "parameters": _PARAMETERS,
        },
    }


def resource_schema(rt: ResourceType) -> Document:
    """A resource as JSON Schema: what is always there is required, what the server owns is `readOnly`."""
    properties = {attribute.name: attribute_schema(attribute) for attribute in COMMON_ATTRIBUTES}
    properties["schemas"] |= {"minItems": 1, "examples": [[rt.schema.id]], "contains": {"const": rt.schema.id}}
    properties |= _properties(rt.schema.attributes)
    properties |= {extension.id: _extension_schema(extension) for extension in rt.extensions}
    required = ["schemas", "id", "meta", *rt.required]
    return {"type": "object", "description": rt.description, "properties": properties, "required": required}


def attribute_schema(attribute: Attribute) -> Document:
    """One attribute as JSON Schema."""
    schema = _value_schema(attribute)
    if attribute.multi_valued:
        schema = {"type": "array", "items": schema, "maxItems": attribute.max_values}
    if attribute.description:
        schema["description"] = attribute.description
    if attribute.read_only:
        schema["readOnly"] = True
    if attribute.returned == "never":
        schema["writeOnly"] = True
    return schema


def _value_schema(attribute: Attribute) -> Document:
    if attribute.is_complex:
        schema: Document = {"type": "object", "properties": _properties(attribute.sub_attributes)}
        return schema | ({"required": list(attribute.required_subs)} if attribute.required_subs else {})
    schema = {"type": _TYPES.get(attribute.type, "string")}
    if attribute.type == "dateTime":
        schema["format"] = "date-time"
    if attribute.type == "binary":
        schema["contentEncoding"] = "base64"
    if attribute.canonical_values:
        schema["examples"] = list(attribute.canonical_values)
    return schema


def _properties(attributes: Iterable[Attribute]) -> Document:
    return {attribute.name: attribute_schema(attribute) for attribute in attributes}


def _extension_schema(extension: Schema) -> Document:
    schema: Document = {"type": "object", "description": extension.description}
    schema["properties"] = _properties(extension.attributes)
    return schema | ({"required": list(extension.required)} if extension.required else {})


# --- paths ----------------------------------------------------------------------------------------------------------


def _resource_paths(rt: ResourceType) -> dict[str, Document]:
    resource, found = _ref(rt.name), _ref(f"{rt.name}List")
    conflicts = {**_CONFLICT, **_PRECONDITION}
    shape, by_id = _parameters("attributes", "excludedAttributes"), _parameters("id")
    conditional = _parameters("ifMatch")
    name = rt.name
    return {
        rt.endpoint: {
            "get": _operation(f"list{name}s", _ok(found), parameters=_QUERY),
            "post": _operation(
                f"create{name}", _ok(resource, 201, "ETag", "Location"), _CONFLICT, parameters=shape, body=resource
            ),
        },
        f"{rt.endpoint}/.search": {"post": _operation(f"search{name}s", _ok(found), body=_ref("SearchRequest"))},
        f"{rt.endpoint}/{{id}}": {
            "parameters": by_id,
            "get": _operation(
                f"get{name}",
                _ok(resource, 200, "ETag") | _empty(304, "The client has this version."),
                parameters=[*shape, *_parameters("ifNoneMatch")],
            ),
            "put": _operation(
                f"replace{name}",
                _ok(resource, 200, "ETag"),
                conflicts,
                parameters=[*shape, *conditional],
                body=resource,
            ),
            "patch": _operation(
                f"patch{name}",
                _ok(resource, 200, "ETag") | _empty(204, "Done; the connection, or the size, asks for no answer."),
                conflicts,
                parameters=[*shape, *conditional],
                body=_ref("PatchOp"),
            ),
            "delete": _operation(f"delete{name}", _empty(204, "It is gone."), conflicts, parameters=conditional),
        },
    }


def _common_paths(features: Features) -> dict[str, Document]:
    filtered = {403: "Discovery endpoints cannot be filtered."}
    by_id = _parameters("id")
    paths: dict[str, Document] = {
        "/.search": {"post": _operation("searchEverything", _ok(_ref("ResourceList")), body=_ref("SearchRequest"))},
        "/ServiceProviderConfig": {
            "get": _operation("getServiceProviderConfig", _ok(_ref("ServiceProviderConfig")), filtered)
        },
    }
    for plural, name in (("Schemas", "Schema"), ("ResourceTypes", "ResourceType")):
        paths[f"/{plural}"] = {"get": _operation(f"list{plural}", _ok(_list_of(_ref(name))), filtered)}
        one = _operation(f"get{name}", _ok(_ref(name)), filtered)
        paths[f"/{plural}/{{id}}"] = {"parameters": by_id, "get": one}
    if features.bulk:
        paths["/Bulk"] = {"post": _operation("bulk", _ok(_ref("BulkResponse")), body=_ref("BulkRequest"))}
    reason = {501: "A connection's token acts for no user, so /Me names nobody (RFC 7644 section 3.11)."}
    methods = ("get", "post", "put", "patch", "delete")
    paths["/Me"] = {method: _operation(f"{method}Me", {}, reason) for method in methods}
    return paths


def _operation(
    operation_id: str,
    answers: Mapping[str, Document],
    errors: Mapping[int, str] | None = None,
    *,
    parameters: list[Document] | None = None,
    body: Document | None = None,
) -> Document:
    refusals = {**_ALWAYS, **(_OF_BODIES if body else {}), **(errors or {})}
    responses = {**answers, **{str(status): _refusal(status, refusals[status]) for status in sorted(refusals)}}
    operation: Document = {"operationId": operation_id, "responses": responses}
    if parameters:
        operation["parameters"] = parameters
    if body:
        operation["requestBody"] = {"required": True, "content": {type_: {"schema": body} for type_ in _ACCEPTED}}
    return operation


def _ok(schema: Document, status: int = 200, *headers: str) -> dict[str, Document]:
    answer: Document = {"description": "Done.", "content": {MEDIA_TYPE: {"schema": schema}}}
    if headers:
        answer["headers"] = {name: {"required": True, "schema": {"type": "string"}} for name in headers}
    return {str(status): answer}


def _empty(status: int, description: str) -> dict[str, Document]:
    return {str(status): {"description": description}}


def _refusal(status: int, description: str) -> Document:
    answer: Document = {"description": description, "content": {MEDIA_TYPE: {"schema": _ref("Error")}}}
    names = {401: "WWW-Authenticate", 429: "Retry-After"}
    if status in names:
        answer["headers"] = {names[status]: {"required": True, "schema": {"type": "string"}}}
    return answer


def _ref(name: str) -> Document:
    return {"$ref": f"#/components/schemas/{name}"}


def _parameters(*names: str) -> list[Document]:
    return [{"$ref": f"#/components/parameters/{name}"} for name in names]


# --- components -----------------------------------------------------------------------------------------------------


def _message(urn: str, required: Iterable[str] = (), **properties: Document) -> Document:
    schemas = {"type": "array", "items": {"type": "string"}, "contains": {"const": urn}, "examples": [[urn]]}
    return {
        "type": "object",
        "properties": {"schemas": schemas, **properties},
        "required": ["schemas", *required],
    }


def _list_of(item: Document) -> Document:
    return _message(
        LIST_RESPONSE,
        ("itemsPerPage", "Resources"),
        totalResults=_COUNT,
        startIndex={"type": "integer", "minimum": 1},
        itemsPerPage=_COUNT,
        nextCursor=_TEXT,
        Resources={"type": "array", "items": item},
    )


def _parameter(name: str, place: str, description: str, schema: Document, **more: Any) -> Document:
    return {"name": name, "in": place, "description": description, "schema": schema, **more}


_TEXT: Document = {"type": "string"}
_COUNT: Document = {"type": "integer", "minimum": 0}
_NAMES: Document = {"type": "array", "items": _TEXT}
_ORDER: Document = {"type": "string", "enum": ["ascending", "descending"]}
_STATUS: Document = {"type": "string", "pattern": "^[1-5][0-9][0-9]$"}
_OBJECT: Document = {"type": "object"}
_LISTED = {"style": "form", "explode": False}

_SEARCH = {
    "filter": ("A filter (RFC 7644 section 3.4.2.2).", _TEXT | {"maxLength": 2048}),
    "sortBy": ("The attribute to sort by.", _TEXT),
    "sortOrder": ("The order of `sortBy`.", _ORDER),
    "startIndex": ("The first result, from 1.", {"type": "integer"}),
    "count": (f"How many results at most; {MAX_COUNT} are the limit.", {"type": "integer"}),
    "cursor": ("Where to go on (RFC 9865); empty to begin.", _TEXT | {"maxLength": 2048}),
}
_PARAMETERS = {
    "id": _parameter("id", "path", "The id that this server gave.", _TEXT, required=True),
    "attributes": _parameter("attributes", "query", "Only these attributes.", _NAMES, **_LISTED),
    "excludedAttributes": _parameter("excludedAttributes", "query", "All but these.", _NAMES, **_LISTED),
    "ifMatch": _parameter("If-Match", "header", "Only at this version.", _TEXT),
    "ifNoneMatch": _parameter("If-None-Match", "header", "Only when it is not this version.", _TEXT),
    **{name: _parameter(name, "query", text, schema) for name, (text, schema) in _SEARCH.items()},
}
_QUERY = _parameters("attributes", "excludedAttributes", *_SEARCH)

_PATCH_OPERATION: Document = {
    "type": "object",
    "properties": {
        "op": {"type": "string", "enum": ["add", "remove", "replace"]},
        "path": _TEXT | {"examples": ["displayName", 'emails[type eq "work"].value']},
        "value": {"description": "What the path takes; without a path an object of attributes."},
    },
    "required": ["op"],
}
_BULK_OPERATION: Document = {
    "type": "object",
    "properties": {
        "method": {"type": "string", "enum": ["POST", "PUT", "PATCH", "DELETE"]},
        "path": _TEXT | {"examples": ["/Users"]},
        "bulkId": _TEXT,
        "version": _TEXT,
        "data": _OBJECT,
    },
    "required": ["method", "path"],
}
_BULK_RESULT: Document = {
    "type": "object",
    "properties": {
        "method": _TEXT,
        "bulkId": _TEXT,
        "version": _TEXT,
        "location": _TEXT,
        "status": _STATUS,
        "response": _ref("Error"),
    },
    "required": ["status"],
}
_MESSAGES: dict[str, Document] = {
    "Error": _message(ERROR, ("status", "detail"), status=_STATUS, scimType=_TEXT, detail=_TEXT),
    "SearchRequest": _message(
        SEARCH_REQUEST, attributes=_NAMES, excludedAttributes=_NAMES, **{name: of for name, (_, of) in _SEARCH.items()}
    ),
    "PatchOp": _message(
        PATCH_OP, ("Operations",), Operations={"type": "array", "items": _PATCH_OPERATION, "minItems": 1}
    ),
    "BulkRequest": _message(
        BULK_REQUEST,
        ("Operations",),
        failOnErrors={"type": "integer", "minimum": 1},
        Operations={"type": "array", "items": _BULK_OPERATION, "minItems": 1, "maxItems": MAX_OPERATIONS},
    ),
    "BulkResponse": _message(
        BULK_RESPONSE, ("Operations",), Operations={"type": "array", "items": _BULK_RESULT, "maxItems": MAX_OPERATIONS}
    ),
    "ServiceProviderConfig": _message(
        SERVICE_PROVIDER_CONFIG,
        ("patch", "bulk", "filter", "changePassword", "sort", "etag", "pagination", "authenticationSchemes"),
        authenticationSchemes={"type": "array", "items": _OBJECT},
        **dict.fromkeys(("patch", "bulk", "filter", "changePassword", "sort", "etag", "pagination", "meta"), _OBJECT),
    ),
    "Schema": _message(
        SCHEMA,
        ("id", "name", "attributes"),
        id=_TEXT,
        name=_TEXT,
        description=_TEXT,
        attributes={"type": "array", "items": _OBJECT},
        meta=_OBJECT,
    ),
    "ResourceType": _message(
        RESOURCE_TYPE,
        ("id", "name", "endpoint", "schema"),
        id=_TEXT,
        name=_TEXT,
        endpoint=_TEXT,
        description=_TEXT,
        schema=_TEXT,
        schemaExtensions={"type": "array", "items": _OBJECT},
        meta=_OBJECT,
    ),
}
