"""Whole resources: from any client's spelling to the canonical form, and from there to what we answer.

A canonical resource has names as the schema spells them, no unassigned value, nothing read-only, no password, and
extensions under their URN (docs/scim.md lists the dialects).
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from scim.errors import InvalidSyntax, InvalidValue
from scim.schema import CORE_GROUP, CORE_USER, SCHEMAS, Attribute, ResourceType, Schema
from scim.values import canonical_value, without_duplicates

__all__ = ["canonical_value", "parse_resource", "render", "schemas_of", "without_duplicates"]

type Resource = dict[str, Any]

_CORE_URNS = frozenset({CORE_USER.lower(), CORE_GROUP.lower()})
_IGNORED = frozenset({"readOnly", "writeOnly"})  # the only core writeOnly attribute is `password` (threat T39)


def parse_resource(rt: ResourceType, document: Any) -> Resource:
    """The canonical resource that a POST or PUT body means.

    Unknown and read-only attributes are ignored (RFC 7644 section 3.3). Raises InvalidSyntax for a body of the wrong
    shape, InvalidValue naming the attribute for a value that does not fit, PayloadTooLarge for too many values.
    """
    if type(document) is not dict:
        raise InvalidSyntax(f"A {rt.name} is a JSON object.")
    _check_schemas(rt, document)
    resource: Resource = {}
    for name, value in document.items():
        attribute = rt.attribute(name)
        if attribute is not None:
            _assign(resource, attribute, value)
        elif ":" in name:
            _assign_qualified(rt, resource, name, value)
        else:
            _assign_unqualified(rt, resource, name, value)
    _check_required(rt, resource)
    return resource


def schemas_of(rt: ResourceType, resource: Resource) -> list[str]:
    """The core URN, and that of each extension that `resource` has data of."""
    return [rt.schema.id, *(extension.id for extension in rt.extensions if extension.id in resource)]


def render(
    rt: ResourceType,
    resource: Resource,
    *,
    id: str,
    created: datetime | str,
    last_modified: datetime | str,
    version: int,
    location: str,
    groups: Sequence[dict[str, Any]] | None = None,
) -> Resource:
    """The representation that a client sees; `groups` are a user's, when they are known.

    Times are instants (a datetime must be aware) or text that is already xsd:dateTime.
    """
    rendered: Resource = {"schemas": schemas_of(rt, resource), "id": id, **resource}
    if groups is not None:
        rendered["groups"] = list(groups)
    if "members" not in rendered and rt.attribute("members"):
        rendered["members"] = []  # Entra's and Okta's samples show it; SCIMple's tests fail without it
    rendered["meta"] = {
        "resourceType": rt.name,
        "created": _instant(created),
        "lastModified": _instant(last_modified),
        "location": location,
        "version": f'W/"{version}"',
    }
    return rendered


def _instant(time: datetime | str) -> str:
    if isinstance(time, str):
        return time
    in_utc = time if time.tzinfo is UTC else time.astimezone(UTC)
    return in_utc.isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def _check_schemas(rt: ResourceType, document: dict[str, Any]) -> None:
    """`schemas` must be there; what it names is not decisive, except that it must not be another resource type.

    Clients send legacy and vendor URNs (scim-behaviour.md section 2), and leave out those of extensions they use.
    """
    schemas = document.get("schemas")
    if schemas is None:
        schemas = next((value for name, value in document.items() if name.lower() == "schemas"), None)
    if type(schemas) is str and schemas:
        schemas = [schemas]
    if not schemas:
        raise InvalidValue(f"schemas is required: it must hold {rt.schema.id}.")
    if type(schemas) is not list or not all(type(urn) is str for urn in schemas):
        raise InvalidValue("schemas must be a list of URNs.")
    if rt.schema.id not in schemas:
        urns = {urn.lower() for urn in schemas}
        if rt.schema.id.lower() not in urns and urns & _CORE_URNS:
            raise InvalidValue(f"schemas names another resource type; this endpoint takes {rt.schema.id}.")


def _assign(target: Resource, attribute: Attribute, value: Any) -> None:
    if attribute.mutability in _IGNORED or attribute is SCHEMAS:
        return
    canonical = canonical_value(attribute, value)
    if canonical is None:
        return
    if attribute.name in target:
        canonical = _merged(attribute, target[attribute.name], canonical)
    target[attribute.name] = canonical


def _merged(attribute: Attribute, one: Any, other: Any) -> dict[str, Any]:
    """Two spellings may each bring sub-attributes (`name`, `name.givenName`), never the same one twice (T28)."""
    if type(one) is dict and type(other) is dict and not one.keys() & other.keys():
        return {**one, **other}
    raise InvalidSyntax(f"{attribute.name} appears more than once, in different spellings.")


def _assign_unqualified(rt: ResourceType, resource: Resource, name: str, value: Any) -> None:
    """`name` has dots, or is that of an extension's attribute, as Entra writes `manager`; ignored when unknown."""
    head = name.partition(".")[0]
    if rt.attribute(head):
        _assign_path(resource, rt, name, value)
        return
    for extension in rt.extensions:
        if extension.attribute(head):
            _assign_extension(resource, extension, name, value)
            return


def _assign_qualified(rt: ResourceType, resource: Resource, name: str, value: Any) -> None:
    """`name` is a URN, or a URN with an attribute; ignored when it leads to nothing known."""
    urn, path = rt.split_urn(name)
    if urn is None and path:
        _assign_path(resource, rt, path, value)
    elif urn is None:
        for core_name, item in _members_of(rt.schema, value):
            _assign_path(resource, rt, core_name, item)
    elif extension := rt.extension(urn):
        _assign_extension(resource, extension, path, value)


def _assign_extension(resource: Resource, extension: Schema, path: str, value: Any) -> None:
    target = resource.get(extension.id, {})
    for name, item in [(path, value)] if path else _members_of(extension, value):
        _assign_path(target, extension, name, item)
    if target:
        resource[extension.id] = target


def _members_of(schema: Schema, value: Any) -> Any:
    if value is None or value == "":
        return ()
    if type(value) is not dict:
        raise InvalidValue(f"{schema.id} must be an object.")
    return value.items()


def _assign_path(target: Resource, schema: ResourceType | Schema, path: str, value: Any) -> None:
    """An attribute of `schema` or, when `path` has a dot, one sub-attribute; ignored when unknown."""
    name, dot, sub_name = path.partition(".")
    attribute = schema.attribute(name)
    if attribute is not None and not dot:
        _assign(target, attribute, value)
    elif attribute is not None and attribute.sub_attribute(sub_name):
        _assign(target, attribute, {sub_name: value})


def _check_required(rt: ResourceType, resource: Resource) -> None:
    for name in rt.required:
        value = resource.get(name)
        if value is None or (type(value) is str and not value.strip()):
            raise InvalidValue(f"{name} is required and must not be blank.")
    for extension in rt.extensions:
        values = resource.get(extension.id)
        if values is not None:
            for name in extension.required:
                if name not in values:
                    raise InvalidValue(f"{name} is required when {extension.id} is given.")
