"""Filters (RFC 7644 section 3.4.2.2): from text to a predicate over resources, and the in-memory interpreter.

`parse_filter` reads the grammar, `compile_filter` ties every path to the schema and every literal to its attribute's
type, `holds` interprets the result. A store compiles the same `Predicate` to SQL; both must agree on this table.

    A path has a list of values: one per element of a multi-valued attribute (None where an element lacks the
    sub-attribute), at most one otherwise; "", [], {} and null are no value (RFC 7643 section 2.5). Inside a value
    path the list is that of the single element.

    pr             some value is there
    eq co sw ew    some value satisfies the comparison
    gt ge lt le
    ne x           no values at all, or some value (None included) differs from x
    eq null        not pr                          ne null        pr
    not            the opposite: two-valued logic, no unknown
    path[filter]   some element satisfies the whole filter; no elements: false; a single complex value is one element
    And(())        true                            Or(())         false

    attribute's type      compared as                                             operators beside pr
    string, reference     text: `text_key` on both sides, then code points        all
    binary                the base64 text, code points                            eq ne co sw ew
    boolean               boolean; the literal may be "True" or "false" (Entra)   eq ne
    integer, decimal      number                                                  eq ne gt ge lt le
    dateTime              instant; without an offset it is UTC                    eq ne gt ge lt le
    complex               its `value` sub-attribute, where it has one             those of `value`

`text_key` folds case unless the attribute is caseExact, and is the key by which identifiers are unique, so a lookup
finds exactly what a create would collide with. co, sw and ew take their literal literally: no wildcards. A number
without quotes compared with text is its digits.

Any other combination is 400 `invalidFilter`, and so is an attribute that the resource type does not have (a filter
that silently finds nothing makes clients create duplicates) or that is never returned, such as `password` (an
oracle: threat T7, RFC 7644 section 7.5.2).
"""

import operator
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from scim.errors import InvalidFilter
from scim.grammar import (
    And,
    AttributePath,
    Compare,
    Filter,
    Literal,
    Not,
    Or,
    Present,
    ValuePath,
    parse_filter,
    to_text,
)
from scim.keys import fold, fold_name
from scim.schema import Attribute, ResourceType

__all__ = [
    "And",
    "AnyElement",
    "AttributePath",
    "Compare",
    "Condition",
    "Filter",
    "Not",
    "Or",
    "Predicate",
    "Present",
    "Target",
    "ValuePath",
    "compile_filter",
    "element_holds",
    "find_target",
    "holds",
    "instant",
    "literal_key",
    "matches",
    "parse_filter",
    "resolve_element_filter",
    "targets",
    "text_key",
    "to_text",
    "validate_filter",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Target:
    """An attribute path resolved against the schema; `extension` is a canonical URN, None for core attributes."""

    extension: str | None
    attribute: Attribute
    sub_attribute: Attribute | None = None

    @property
    def leaf(self) -> Attribute:
        return self.sub_attribute or self.attribute


@dataclass(frozen=True, slots=True)
class Condition:
    """`target operator value`: one row of the table above.

    `value` has the type of the leaf: text as `text_key` makes it, an aware datetime in UTC, a boolean or a number;
    None for `pr`.
    """

    target: Target
    operator: str
    value: str | bool | int | float | datetime | None


@dataclass(frozen=True, slots=True)
class AnyElement:
    """One element of `target` satisfies `predicate`, whose own targets are sub-attributes of that element."""

    target: Target
    predicate: "Predicate"


type Predicate = Condition | AnyElement | And[Predicate] | Or[Predicate] | Not[Predicate]

TRUE: And[Any] = And(())
FALSE: Or[Any] = Or(())


@lru_cache(maxsize=1024)
def compile_filter(resource_type: ResourceType, text: str, *, unknown_as_absent: bool = False) -> Predicate:
    """Parse `text` and tie it to the schema; raises InvalidFilter. Answers are shared: they are immutable.

    `unknown_as_absent` is for a search over several resource types, where an attribute that one type lacks is an
    attribute without a value (RFC 7644 section 3.4.2.1).
    """
    return _Resolver(resource_type, unknown_as_absent).resolve(parse_filter(text))


def resolve_element_filter(target: Target, tree: Filter) -> Predicate:
    """Tie the filter of a value path on `target` to its sub-attributes; raises InvalidFilter."""
    return _ElementResolver(target).resolve(tree)


def validate_filter(resource_type: ResourceType, tree: Filter) -> list[Target]:
    """Every target that `tree` looks at, in order; raises InvalidFilter when one cannot be filtered on."""
    return list(targets(_Resolver(resource_type).resolve(tree)))


def targets(predicate: Predicate) -> Iterator[Target]:
    """The targets of `predicate`, in order and with repetitions."""
    match predicate:
        case Condition(target):
            yield target
        case AnyElement(target, inner):
            yield target
            yield from targets(inner)
        case Not(item):
            yield from targets(item)
        case And(items) | Or(items):
            for item in items:
                yield from targets(item)


def matches(resource_type: ResourceType, tree: Filter, resource: Mapping[str, Any]) -> bool:
    """Whether the rendered `resource` satisfies `tree`; raises InvalidFilter."""
    return holds(_Resolver(resource_type).resolve(tree), resource)


def holds(predicate: Predicate, resource: Mapping[str, Any]) -> bool:
    """Whether `resource` (or, for the predicate of a value path, one element) satisfies `predicate`."""
    match predicate:
        case Condition():
            return _meets(predicate, _values(predicate.target, resource))
        case And(items):
            return all(holds(item, resource) for item in items)
        case Or(items):
            return any(holds(item, resource) for item in items)
        case Not(item):
            return not holds(item, resource)
        case AnyElement(target, inner):
            return any(element_holds(inner, element) for element in _elements(target, resource))


def element_holds(predicate: Predicate, element: Any) -> bool:
    """Whether one element of a multi-valued complex attribute satisfies the predicate of its value path."""
    match predicate:
        case Condition():
            return isinstance(element, Mapping) and _meets(predicate, [element.get(predicate.target.leaf.name)])
        case And(items):
            return all(element_holds(item, element) for item in items)
        case Or(items):
            return any(element_holds(item, element) for item in items)
        case Not(item):
            return not element_holds(item, element)
        case AnyElement():
            return False  # the grammar has no value path inside a value path


def text_key(leaf: Attribute, text: str) -> str:
    """What a stored value of `leaf` is compared by; a store may keep it in a column of its own (collation C)."""
    if leaf.case_exact or leaf.type == "binary":
        return text
    if leaf.identifier == "name":
        return fold_name(text)
    return fold(text.strip(" ") if leaf.identifier == "identity" else text)


def literal_key(leaf: Attribute, operator: str, text: str) -> str:
    """What the literal `text` is compared by: `text_key`, except that a part of a value keeps its outer blanks."""
    if operator not in _PARTIAL or leaf.identifier not in ("name", "identity"):
        return text_key(leaf, text)
    if leaf.identifier == "identity":
        return fold(text)
    before, after = (" " if blank.isspace() else "" for blank in (text[:1], text[-1:]))
    return f"{before}{fold_name(text)}{after}" if text.strip() else before


_PARTIAL = frozenset({"co", "sw", "ew"})
_INSTANT = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt]([0-9:]{8}(?:\.[0-9]+)?)(?:([Zz])|([-+ ])([0-9]{2}:[0-9]{2}))?")


def instant(text: str) -> datetime | None:
    """An xsd:dateTime as an aware time in UTC; None when it is none.

    A blank before the offset is a plus sign that a client forgot to encode in its URL.
    """
    found = _INSTANT.fullmatch(text)
    if found is None:
        return None
    date, time, _, sign, offset = found.groups()
    zone = f"{'-' if sign == '-' else '+'}{offset}" if offset else "+00:00"
    try:
        return datetime.fromisoformat(f"{date}T{time}{zone}").astimezone(UTC)
    except (ValueError, OverflowError):
        return None


# --- resolution: names and literals against the schema --------------------------------------------------------------

_TEXT = frozenset({"eq", "ne", "co", "sw", "ew", "gt", "ge", "lt", "le"})
_ORDERED = frozenset({"eq", "ne", "gt", "ge", "lt", "le"})
_OPERATORS: dict[str, frozenset[str]] = {
    "string": _TEXT,
    "reference": _TEXT,
    "binary": frozenset({"eq", "ne", "co", "sw", "ew"}),
    "boolean": frozenset({"eq", "ne"}),
    "integer": _ORDERED,
    "decimal": _ORDERED,
    "dateTime": _ORDERED,
}


class _Resolver:
    """Resolves a filter over resources of one type."""

    def __init__(self, resource_type: ResourceType, unknown_as_absent: bool = False) -> None:
        self._resource_type = resource_type
        self._unknown_as_absent = unknown_as_absent

    def resolve(self, tree: Filter) -> Predicate:
        match tree:
            case Compare(path, op, value):
                target = self._target(path)
                return _comparison(target, op, value) if target else _absent(op, value)
            case Present(path):
                target = self._target(path)
                return Condition(_filterable(target), "pr", None) if target else FALSE
            case ValuePath(path, inner):
                return self._element(path, inner)
            case And(items):
                return And(tuple(self.resolve(item) for item in items))
            case Or(items):
                return Or(tuple(self.resolve(item) for item in items))
            case Not(item):
                return Not(self.resolve(item))

    def _element(self, path: AttributePath, inner: Filter) -> Predicate:
        target = self._target(path)
        return AnyElement(_filterable(target), resolve_element_filter(target, inner)) if target else FALSE

    def _target(self, path: AttributePath) -> Target | None:
        target = find_target(self._resource_type, path)
        if target is None and not self._unknown_as_absent:
            raise InvalidFilter("The filter names an attribute that this resource type does not have.")
        return target


class _ElementResolver(_Resolver):
    """Resolves the filter of a value path: its names are sub-attributes of one attribute."""

    def __init__(self, target: Target) -> None:
        if not target.attribute.is_complex:
            raise InvalidFilter("The filter has '[' after an attribute that has no sub-attributes.")
        self._parent = target

    def _target(self, path: AttributePath) -> Target:
        sub_attribute = self._parent.attribute.sub_attribute(path.attribute)
        if sub_attribute is None:
            raise InvalidFilter("The filter names a sub-attribute that its attribute does not have.")
        return Target(self._parent.extension, self._parent.attribute, sub_attribute)


def find_target(resource_type: ResourceType, path: AttributePath) -> Target | None:
    """What `path` names, None when nothing; a name without URN that the core lacks may be an extension's."""
    found = _find_attribute(resource_type, path.schema_urn, path.attribute)
    if found is None or path.sub_attribute is None:
        return found
    sub_attribute = found.attribute.sub_attribute(path.sub_attribute)
    return Target(found.extension, found.attribute, sub_attribute) if sub_attribute else None


def _find_attribute(resource_type: ResourceType, urn: str | None, name: str) -> Target | None:
    if urn is not None and not resource_type.is_core_urn(urn):
        extension = resource_type.extension(urn)
        attribute = extension.attribute(name) if extension else None
        return Target(extension.id, attribute) if extension and attribute else None
    if attribute := resource_type.attribute(name):
        return Target(None, attribute)
    # Entra's documentation has `manager` without its URN.
    for extension in resource_type.extensions if urn is None else ():
        if attribute := extension.attribute(name):
            return Target(extension.id, attribute)
    return None


def _filterable(target: Target) -> Target:
    for attribute in (target.attribute, target.leaf):
        if attribute.returned == "never" or attribute.mutability == "writeOnly":
            raise InvalidFilter("The filter names an attribute that is never returned.")
    return target


def _comparison(target: Target, op: str, value: Literal) -> Predicate:
    target = _filterable(_comparable(target))
    if value is None:
        return _null_comparison(target, op)
    if op not in _OPERATORS[target.leaf.type]:
        raise InvalidFilter(f"The operator '{op}' does not go with an attribute of type {target.leaf.type}.")
    return Condition(target, op, _typed(target.leaf, op, value))


def _comparable(target: Target) -> Target:
    """`target`, or the `value` of a complex attribute, which stands for the whole (`members eq "…"`)."""
    if not target.leaf.is_complex:
        return target
    value = target.attribute.sub_attribute("value")
    if value is None:
        raise InvalidFilter("The filter compares a complex attribute; name one of its sub-attributes.")
    return Target(target.extension, target.attribute, value)


def _null_comparison(target: Target, op: str) -> Predicate:
    present = Condition(target, "pr", None)
    if op == "eq":
        return Not(present)
    if op == "ne":
        return present
    raise InvalidFilter(f"The operator '{op}' does not go with null.")


def _absent(op: str, value: Literal) -> Predicate:
    return TRUE if op == ("eq" if value is None else "ne") else FALSE


def _typed(leaf: Attribute, op: str, value: str | bool | int | float) -> str | bool | int | float | datetime:
    """`value` as the type that `leaf` is compared as."""
    match leaf.type:
        case "boolean":
            typed = {"true": True, "false": False}.get(str(value).lower()) if isinstance(value, str | bool) else None
        case "integer" | "decimal":
            typed = None if isinstance(value, str | bool) else value
        case "dateTime":
            typed = instant(value) if isinstance(value, str) else None
        case _:
            typed = literal_key(leaf, op, str(value)) if isinstance(value, str) or type(value) is int else None
    if typed is None:
        raise InvalidFilter(f"The filter compares an attribute of type {leaf.type} with a value of another type.")
    return typed


# --- interpretation --------------------------------------------------------------------------------------------------

_COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "eq": operator.eq,
    "co": operator.contains,
    "sw": str.startswith,
    "ew": str.endswith,
    "gt": operator.gt,
    "ge": operator.ge,
    "lt": operator.lt,
    "le": operator.le,
}
_UNASSIGNED: tuple[Any, ...] = (None, "", [], {})


def _meets(condition: Condition, values: list[Any]) -> bool:
    leaf = condition.target.leaf
    if condition.operator == "pr":
        return any(_is_present(value) for value in values)
    comparable = [_stored(leaf, value) for value in values]
    if condition.operator == "ne":
        return not comparable or any(value is None or value != condition.value for value in comparable)
    compare = _COMPARISONS[condition.operator]
    return any(value is not None and compare(value, condition.value) for value in comparable)


def _values(target: Target, resource: Mapping[str, Any]) -> list[Any]:
    elements = _elements(target, resource)
    if target.sub_attribute is None:
        return elements
    name = target.sub_attribute.name
    return [element.get(name) if isinstance(element, Mapping) else None for element in elements]


def _elements(target: Target, resource: Mapping[str, Any]) -> list[Any]:
    container = resource if target.extension is None else resource.get(target.extension) or {}
    value = container.get(target.attribute.name)
    if value in _UNASSIGNED:
        return []
    return value if isinstance(value, list) else [value]


def _is_present(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(item not in _UNASSIGNED for item in value.values())
    return value not in _UNASSIGNED


def _stored(leaf: Attribute, value: Any) -> Any:
    """A stored value as it is compared; None when there is none, or it is not of its attribute's type."""
    match leaf.type:
        case "boolean":
            return value if isinstance(value, bool) else None
        case "integer" | "decimal":
            return value if isinstance(value, int | float) and not isinstance(value, bool) else None
        case "dateTime":
            return instant(value) if isinstance(value, str) else None
        case _:
            return text_key(leaf, value) if isinstance(value, str) and value else None
