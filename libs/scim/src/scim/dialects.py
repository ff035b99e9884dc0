"""PATCH requests (RFC 7644 section 3.5.2): from any client's dialect to canonical operations.

What clients send beside the RFC (scim-behaviour.md section 3; recordings in idp_cases/) and what becomes of it:

| dialect                                                         | canonical                                         |
|-----------------------------------------------------------------|---------------------------------------------------|
| `Add`, `REPLACE`; names in any case (Entra)                     | as the schema spells them                         |
| core URN before a name; `manager` without its URN (Entra)       | without, with                                     |
| no path: object, `name.givenName` and URN keys, value-path keys | one operation per attribute                       |
| path that is a schema's URN, with an object                     | one operation per attribute                       |
| "True", `[false]`, a manager as id, list or object              | typed by the attribute                            |
| `replace` or `add` of null, "" or []                            | `remove`; adding nothing to a list does nothing   |
| `remove` of a multi-valued attribute with a value list          | only these go (Entra, OneLogin, JumpCloud)        |
| `remove members[value eq "…"]`, also joined by `or`             | `remove members` with a value list                |
| `id` equal to the resource's (Okta's group rename)              | dropped; another id is 400 `mutability`           |
| `password` (Okta)                                               | dropped: never stored (T39), the request succeeds |
| read-only or unknown attribute among those of a value           | ignored, as in POST and PUT                       |
| read-only attribute as path                                     | 400 `mutability`                                  |
| unknown attribute as path                                       | 400 `invalidPath`                                 |
| `add a[type eq "x"].b`, no such element                         | `create_if_missing`, any equalities joined by and |
| `replace a[type eq "x"].b`, no such element                     | `create_if_missing` for one equality              |

Paths resolve against the schema only (threat T35), and no error text repeats the input (T36).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast

from scim.errors import (
    InvalidFilter,
    InvalidPath,
    InvalidSyntax,
    InvalidValue,
    Mutability,
    NoTarget,
    PayloadTooLarge,
    ScimError,
)
from scim.filter import And, Compare, Filter, Or, Target, find_target, resolve_element_filter, targets
from scim.grammar import PatchPath, parse_path
from scim.operations import MEMBERS, Operation, OperationName, Path
from scim.schema import Attribute, ResourceType
from scim.urns import PATCH_OP
from scim.values import canonical_sub_value, canonical_value

# What one request may cost whoever applies it: at most about 100 x 1,000 values x 10 comparisons.
MAX_OPERATIONS = 1_000  # canonical ones; operations on members do not count
MAX_MEMBER_OPERATIONS = 10_000  # operations as sent; a client may send one for each member
MAX_SELECTIONS = 100  # operations whose path has a filter; those on members do not count
MAX_PATH_TERMS = 10  # comparisons in such a filter

_ABSENT = object()
_OPS: dict[str, OperationName] = {"add": "add", "replace": "replace", "remove": "remove"}


def parse_patch(resource_type: ResourceType, document: Any, *, resource_id: str | None = None) -> list[Operation]:
    """The canonical operations of a PATCH body, in order; none when it changes nothing that we keep.

    `resource_id` is that of the target: clients repeat it. Raises InvalidSyntax for a malformed message, else
    InvalidPath, InvalidFilter, InvalidValue, NoTarget or Mutability, and PayloadTooLarge for too many operations.
    """
    items = _operations_of(document)
    request = _Request(resource_type, resource_id)
    operations: list[Operation] = []
    for number, item in enumerate(items, 1):
        try:
            operations += request.read(item)
        except ScimError as error:
            if len(items) > 1:
                error.detail = f"Operation {number}: {error.detail}"
                error.args = (error.detail,)
            raise
    _check_cost(operations)
    return operations


def _check_cost(operations: list[Operation]) -> None:
    if sum(operation.path.attribute != MEMBERS for operation in operations) > MAX_OPERATIONS:
        raise PayloadTooLarge(f"A PATCH may hold at most {MAX_OPERATIONS:,} operations.")
    if sum(operation.path.value_filter is not None for operation in operations) > MAX_SELECTIONS:
        raise PayloadTooLarge(f"A PATCH may hold at most {MAX_SELECTIONS} operations with a filter in their path.")


def _operations_of(document: Any) -> list[Any]:
    if not isinstance(document, dict):
        raise InvalidSyntax("A PATCH body must be a JSON object.")
    message = _lower_names(document)
    schemas = message.get("schemas")
    if not isinstance(schemas, list) or PATCH_OP.lower() not in [str(urn).lower() for urn in schemas]:
        raise InvalidSyntax(f"The schemas of a PATCH body must hold {PATCH_OP}.")
    operations = message.get("operations")
    if not isinstance(operations, list) or not operations:
        raise InvalidSyntax("Operations must be a list with at least one operation.")
    if len(operations) > MAX_MEMBER_OPERATIONS:
        raise PayloadTooLarge(f"A PATCH may hold at most {MAX_MEMBER_OPERATIONS:,} operations.")
    return operations


def _lower_names(item: Mapping[str, Any]) -> dict[str, Any]:
    return {name.lower(): value for name, value in item.items()}


@dataclass(frozen=True, slots=True)
class _Aim:
    """A path as sent, resolved: `sub_attribute` of the elements that `value_filter` selects, or of all."""

    extension: str | None
    attribute: Attribute
    value_filter: Filter | None
    sub_attribute: Attribute | None

    @property
    def path(self) -> Path:
        sub_name = self.sub_attribute.name if self.sub_attribute else None
        return Path(self.extension, self.attribute.name, self.value_filter, sub_name)

    @property
    def is_whole(self) -> bool:
        return self.value_filter is None and self.sub_attribute is None


class _Request:
    """Reads the operations of one request, one at a time."""

    def __init__(self, resource_type: ResourceType, resource_id: str | None) -> None:
        self._resource_type = resource_type
        self._resource_id = resource_id

    def read(self, item: Any) -> list[Operation]:
        """The canonical operations that one operation means."""
        if not isinstance(item, dict):
            raise InvalidSyntax("An operation must be a JSON object.")
        item = _lower_names(item)
        name = item.get("op")
        op = _OPS.get(name.lower()) if isinstance(name, str) else None
        if op is None:
            raise InvalidSyntax("op must be add, replace or remove.")
        path, value = item.get("path"), item.get("value", _ABSENT)
        if value is _ABSENT:
            if op != "remove":
                raise InvalidValue(f"The operation {op} needs a value.")
            value = None
        if path is None or path == "":
            return self._without_path(op, value)
        if not isinstance(path, str):
            raise InvalidPath("path must be text.")
        return self._with_path(op, path.strip(), value)

    def _without_path(self, op: OperationName, value: Any) -> list[Operation]:
        if op == "remove":
            raise NoTarget("The operation remove needs a path.")
        return list(self._attributes(op, None, _only(value)))

    def _with_path(self, op: OperationName, path: str, value: Any) -> list[Operation]:
        urn = _schema_named(self._resource_type, path)
        if urn is not None:
            return list(self._whole_schema(op, urn, value))
        aim = _aim(self._resource_type, path)
        if aim is None:
            raise InvalidPath("The path names an attribute that this resource type does not have.")
        self._check_writable(op, aim, value)
        return _canonical(op, aim, value)

    def _whole_schema(self, op: OperationName, urn: str, value: Any) -> Iterator[Operation]:
        extension = self._resource_type.extension(urn)
        if op != "remove" and value is not None and value != "":
            yield from self._attributes(op, urn, _only(value))
        elif extension is None:
            raise Mutability("The core attributes cannot be removed together.")
        elif op != "add":
            for attribute in extension.attributes:
                yield Operation("remove", Path(extension.id, attribute.name))

    def _attributes(self, op: OperationName, urn: str | None, value: Any) -> Iterator[Operation]:
        """One operation for each attribute in `value`; names without a URN are looked up in schema `urn`."""
        if not isinstance(value, dict):
            raise InvalidValue("Without an attribute as its path, an operation needs an object of attributes as value.")
        for name, item in value.items():
            nested = _schema_named(self._resource_type, name)
            if nested is None:
                yield from self._attribute(op, f"{urn}:{name}" if urn and ":" not in name else name, item)
            elif urn is not None:
                raise InvalidPath("A schema cannot stand inside another one.")
            else:
                yield from self._whole_schema(op, nested, item)

    def _attribute(self, op: OperationName, name: str, value: Any) -> list[Operation]:
        """One attribute of a value without path: like POST and PUT it may repeat what the server has rendered."""
        aim = _known_aim(self._resource_type, name)
        if aim is None or (aim.is_whole and aim.attribute.name != "id" and _is_fixed(aim.attribute)):
            return []
        if aim.sub_attribute and aim.sub_attribute.read_only and not aim.attribute.read_only:
            return []
        self._check_writable(op, aim, value)
        return _canonical(op, aim, value)

    def _check_writable(self, op: OperationName, aim: _Aim, value: Any) -> None:
        attribute = aim.attribute
        if attribute.name == "id" and op != "remove" and value is not None and value == self._resource_id:
            return
        if attribute.name == "schemas" and op != "remove" and aim.is_whole:
            return  # it follows from the attributes
        if _is_fixed(attribute) or (aim.sub_attribute and aim.sub_attribute.read_only):
            raise Mutability(f"{attribute.name} cannot be changed: it, or this part of it, is read-only.")


def _is_fixed(attribute: Attribute) -> bool:
    return attribute.read_only or attribute.name == "schemas"


def _schema_named(resource_type: ResourceType, text: str) -> str | None:
    """The URN of the schema that `text` is, and nothing more; None otherwise."""
    if ":" not in text or text.endswith(":"):
        return None
    urn, rest = resource_type.split_urn(text)
    if rest or (urn is not None and resource_type.extension(urn) is None):
        return None
    return urn or resource_type.schema.id


@lru_cache(maxsize=1024)
def _aim(resource_type: ResourceType, text: str) -> _Aim | None:
    """What `text` names, None when it is well-formed and names nothing; raises InvalidPath or InvalidFilter."""
    parsed = parse_path(text)
    target = find_target(resource_type, parsed.path)
    if target is None:
        return None
    if parsed.value_filter is None:
        return _Aim(target.extension, target.attribute, None, target.sub_attribute)
    return _selection(target, parsed, parsed.value_filter)


def _known_aim(resource_type: ResourceType, name: str) -> _Aim | None:
    """`_aim`, and None also for a name in a foreign namespace, whatever its form."""
    try:
        return _aim(resource_type, name)
    except InvalidPath:
        if ":" in name:
            return None
        raise


def _selection(target: Target, parsed: PatchPath, value_filter: Filter) -> _Aim | None:
    if not target.attribute.multi_valued:
        raise InvalidPath(f"{target.attribute.name} has one value; it takes no filter.")
    predicate = resolve_element_filter(target, value_filter)
    if target.attribute.name != MEMBERS and sum(1 for _ in targets(predicate)) > MAX_PATH_TERMS:
        raise InvalidFilter(f"The filter in a path may have at most {MAX_PATH_TERMS} comparisons.")
    if parsed.sub_attribute is None:
        return _Aim(target.extension, target.attribute, value_filter, None)
    sub_attribute = target.attribute.sub_attribute(parsed.sub_attribute)
    return _Aim(target.extension, target.attribute, value_filter, sub_attribute) if sub_attribute else None


def _canonical(op: OperationName, aim: _Aim, value: Any) -> list[Operation]:
    attribute = aim.attribute
    if _is_fixed(attribute) or (attribute.name == "password" and aim.extension is None):
        return []
    if attribute.name == MEMBERS and aim.extension is None:
        return _members(op, aim, value)
    if not attribute.multi_valued:
        value = _only(value)
    if aim.sub_attribute is not None:
        return _sub_attribute(op, aim, aim.sub_attribute, _only(value))
    if aim.value_filter is not None:
        return _elements(op, aim, _only(value))
    if attribute.multi_valued:
        return _values(op, aim, value)
    if attribute.is_complex and op != "remove" and value is not None and value != "":
        return _parts(op, aim, value)
    return _assign(op, aim, None if op == "remove" else canonical_value(attribute, value))


def _assign(op: OperationName, aim: _Aim, value: Any, *, create_if_missing: bool = False) -> list[Operation]:
    if value is None:
        return [Operation("remove", aim.path)]
    return [Operation(op, aim.path, value, create_if_missing)]


def _values(op: OperationName, aim: _Aim, value: Any) -> list[Operation]:
    """A multi-valued attribute as a whole."""
    canonical = canonical_value(aim.attribute, value)
    if op != "remove":
        return [] if op == "add" and canonical is None else _assign(op, aim, canonical)
    if value is None:
        return [Operation("remove", aim.path)]
    if canonical is None and value != []:
        # Never "remove all": what is meant are values, and none of them is one of ours.
        raise InvalidValue(f"The values of {aim.attribute.name} to remove are not recognizable.")
    return [Operation("remove", aim.path, canonical)] if canonical else []


def _parts(op: OperationName, aim: _Aim, value: Any) -> list[Operation]:
    """A single complex attribute: what is named is assigned or unassigned, what is not stays."""
    if not isinstance(value, dict):
        value = canonical_value(aim.attribute, value)
    parts, cleared = _split_parts(aim.attribute, value)
    removals = [Operation("remove", Path(aim.extension, aim.attribute.name, None, name)) for name in cleared]
    return [*removals, *([Operation(op, aim.path, parts)] if parts else [])]


def _sub_attribute(op: OperationName, aim: _Aim, sub_attribute: Attribute, value: Any) -> list[Operation]:
    canonical = None if op == "remove" else canonical_sub_value(aim.attribute, sub_attribute, value)
    return _assign(op, aim, canonical, create_if_missing=_creates(op, aim))


def _elements(op: OperationName, aim: _Aim, value: Any) -> list[Operation]:
    """The elements that a value filter selects, as wholes."""
    if op == "remove" or value is None or value in ("", {}):
        return [] if op == "add" else [Operation("remove", aim.path)]
    if not isinstance(value, dict):
        value = {"value": value}
    parts, _ = _split_parts(aim.attribute, value)
    if not parts:
        raise InvalidValue(f"The value for {aim.attribute.name} holds no sub-attribute of it.")
    return _assign(op, aim, parts, create_if_missing=_creates(op, aim))


def _creates(op: OperationName, aim: _Aim) -> bool:
    if not aim.attribute.multi_valued or op == "remove":
        return False
    if aim.value_filter is None:
        return True
    known = equalities(aim.attribute, aim.value_filter)
    return known is not None and (op == "add" or isinstance(aim.value_filter, Compare))


def equalities(attribute: Attribute, value_filter: Filter) -> dict[str, Any] | None:
    """The sub-attributes of an element that `value_filter` describes; None when it is more than equalities.

    Raises InvalidValue when no element could have such a value.
    """
    items = value_filter.items if isinstance(value_filter, And) else (value_filter,)
    element: dict[str, Any] = {}
    for item in items:
        if not isinstance(item, Compare) or item.operator != "eq":
            return None
        sub_attribute = attribute.sub_attribute(item.path.attribute)
        if sub_attribute is None or sub_attribute.read_only or sub_attribute.name in element:
            return None
        value = canonical_sub_value(attribute, sub_attribute, item.value)
        if value is None:
            return None
        element[sub_attribute.name] = value
    return element


def _split_parts(attribute: Attribute, value: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The canonical sub-attributes in `value`, and the names of those to unassign; others are ignored."""
    parts: dict[str, Any] = {}
    cleared: list[str] = []
    for name, item in value.items():
        sub_attribute = attribute.sub_attribute(name)
        if sub_attribute is None or sub_attribute.read_only:
            continue
        canonical = canonical_sub_value(attribute, sub_attribute, _only(item))
        if canonical is None and sub_attribute.name != "$ref":  # Entra sends `"$ref": null` with every reference
            cleared.append(sub_attribute.name)
        elif canonical is not None:
            parts[sub_attribute.name] = canonical
    return parts, cleared


def _only(value: Any) -> Any:
    """`[x]` where one value is due is x (Okta's `[false]`, Entra's manager); [] is no value."""
    if isinstance(value, list) and len(value) < 2:
        return value[0] if value else None
    return value


# --- members of a group: always canonical without a filter, so that they apply without loading the group -------------


def _members(op: OperationName, aim: _Aim, value: Any) -> list[Operation]:
    if aim.sub_attribute is not None or (aim.value_filter is not None and op != "remove"):
        raise Mutability("The parts of a member cannot be changed; add or remove members.")
    if aim.value_filter is None:
        return _values(op, aim, value)
    ids = _ids(aim.value_filter)
    return [Operation("remove", Path(None, MEMBERS), [{"value": member_id} for member_id in dict.fromkeys(ids)])]


def _ids(value_filter: Filter) -> Iterator[str]:
    """The member ids that a filter selects; raises InvalidFilter when that depends on the members there are."""
    match value_filter:
        case Compare(path, "eq", value) if path.attribute.lower() == "value" and value is not None:
            yield str(value)
        case Or(items):
            for item in items:
                yield from _ids(cast(Filter, item))
        case And(items) if len(others := [item for item in items if not _is_type(item)]) == 1:
            yield from _ids(cast(Filter, others[0]))  # an id is either a user's or a group's
        case _:
            raise InvalidFilter('Members are selected by id only, as in members[value eq "…"].')


def _is_type(item: Any) -> bool:
    return isinstance(item, Compare) and item.operator == "eq" and item.path.attribute.lower() == "type"
