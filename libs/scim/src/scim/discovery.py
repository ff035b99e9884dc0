"""What the server says about itself (RFC 7643 sections 5 to 7, RFC 9865 section 3), generated from the schemas."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from scim.errors import NotFound
from scim.listing import DEFAULT_COUNT, MAX_COUNT, list_response
from scim.schema import Attribute, ResourceType, Schema
from scim.urns import RESOURCE_TYPE, SCHEMA, SERVICE_PROVIDER_CONFIG

type Document = dict[str, Any]

_WITH_CASE = frozenset({"string", "reference", "binary"})


@dataclass(frozen=True, slots=True)
class Features:
    """What the server around this library offers."""

    patch: bool = True
    bulk: bool = True
    bulk_max_operations: int = 100
    bulk_max_payload_size: int = 1_048_576  # bytes
    filter: bool = True
    filter_max_results: int = MAX_COUNT
    change_password: bool = False
    sort: bool = True
    etag: bool = True
    cursor: bool = True
    default_page_size: int = DEFAULT_COUNT
    max_page_size: int = MAX_COUNT
    cursor_timeout: int | None = None  # seconds
    documentation_uri: str | None = None


def service_provider_config(base_url: str, features: Features | None = None) -> Document:
    """The ServiceProviderConfig document; `base_url` is that of the SCIM endpoints."""
    features = features or Features()
    document: Document = {"schemas": [SERVICE_PROVIDER_CONFIG]}
    if features.documentation_uri:
        document["documentationUri"] = features.documentation_uri
    return document | {
        "patch": {"supported": features.patch},
        "bulk": {
            "supported": features.bulk,
            "maxOperations": features.bulk_max_operations if features.bulk else 0,
            "maxPayloadSize": features.bulk_max_payload_size if features.bulk else 0,
        },
        "filter": {"supported": features.filter, "maxResults": features.filter_max_results},
        "changePassword": {"supported": features.change_password},
        "sort": {"supported": features.sort},
        "etag": {"supported": features.etag},
        "pagination": _pagination(features),
        "authenticationSchemes": [
            {
                "type": "oauthbearertoken",
                "name": "OAuth Bearer Token",
                "description": "A token of the connection, in the Authorization header.",
                "specUri": "https://www.rfc-editor.org/info/rfc6750",
                "primary": True,
            }
        ],
        "meta": _meta("ServiceProviderConfig", base_url, "/ServiceProviderConfig"),
    }


def schema_document(schema: Schema, base_url: str) -> Document:
    """One schema as `GET /Schemas/{urn}` answers it."""
    return {
        "schemas": [SCHEMA],
        "id": schema.id,
        "name": schema.name,
        "description": schema.description,
        "attributes": [attribute_document(attribute) for attribute in schema.attributes],
        "meta": _meta("Schema", base_url, f"/Schemas/{schema.id}"),
    }


def attribute_document(attribute: Attribute) -> Document:
    """One attribute with its characteristics (RFC 7643 section 7)."""
    document: Document = {
        "name": attribute.name,
        "type": attribute.type,
        "multiValued": attribute.multi_valued,
        "description": attribute.description,
        "required": attribute.required,
        "mutability": attribute.mutability,
        "returned": attribute.returned,
        "uniqueness": attribute.uniqueness,
    }
    if attribute.type in _WITH_CASE:
        document["caseExact"] = attribute.case_exact
    if attribute.canonical_values:
        document["canonicalValues"] = list(attribute.canonical_values)
    if attribute.reference_types:
        document["referenceTypes"] = list(attribute.reference_types)
    if attribute.is_complex:
        document["subAttributes"] = [attribute_document(sub) for sub in attribute.sub_attributes]
    return document


def resource_type_document(rt: ResourceType, base_url: str) -> Document:
    """One resource type as `GET /ResourceTypes/{name}` answers it."""
    return {
        "schemas": [RESOURCE_TYPE],
        "id": rt.id,
        "name": rt.name,
        "endpoint": rt.endpoint,
        "description": rt.description,
        "schema": rt.schema.id,
        "schemaExtensions": [{"schema": extension.id, "required": False} for extension in rt.extensions],
        "meta": _meta("ResourceType", base_url, f"/ResourceTypes/{rt.id}"),
    }


def schemas_list(rts: Iterable[ResourceType], base_url: str) -> Document:
    """The answer to `GET /Schemas`: each schema once, on one page."""
    return _page([schema_document(schema, base_url) for schema in _schemas(rts).values()])


def resource_types_list(rts: Iterable[ResourceType], base_url: str) -> Document:
    """The answer to `GET /ResourceTypes`, on one page."""
    return _page([resource_type_document(rt, base_url) for rt in rts])


def find_schema(rts: Iterable[ResourceType], urn: str, base_url: str) -> Document:
    """The answer to `GET /Schemas/{urn}`, the URN in any case; raises NotFound."""
    schema = _schemas(rts).get(urn.lower())
    if schema is None:
        raise NotFound("There is no schema of that URN.")
    return schema_document(schema, base_url)


def find_resource_type(rts: Iterable[ResourceType], name: str, base_url: str) -> Document:
    """The answer to `GET /ResourceTypes/{name}`; raises NotFound."""
    for rt in rts:
        if name in (rt.id, rt.name):
            return resource_type_document(rt, base_url)
    raise NotFound("There is no resource type of that name.")


def _schemas(rts: Iterable[ResourceType]) -> dict[str, Schema]:
    return {schema.id.lower(): schema for rt in rts for schema in (rt.schema, *rt.extensions)}


def _page(documents: Sequence[Document]) -> Document:
    return list_response(documents, len(documents), 1)


def _pagination(features: Features) -> Document:
    pagination: Document = {
        "cursor": features.cursor,
        "index": True,
        "defaultPaginationMethod": "index",
        "defaultPageSize": features.default_page_size,
        "maxPageSize": features.max_page_size,
    }
    if features.cursor and features.cursor_timeout is not None:
        pagination["cursorTimeout"] = features.cursor_timeout
    return pagination


def _meta(resource_type: str, base_url: str, path: str) -> Document:
    return {"resourceType": resource_type, "location": base_url.rstrip("/") + path}
