"""PATCH (RFC 7644 section 3.5.2) over canonical resources: `parse_patch` reads a request, `apply_patch` applies it.

Between the two, operations travel as JSON (`operations_to_json`). Nothing here touches Python attributes: names are
keys of plain dicts, resolved against the schema (threat T35).
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from scim.dialects import MAX_OPERATIONS, equalities, parse_patch
from scim.errors import InvalidPath, InvalidValue, Mutability, NoTarget, PayloadTooLarge
from scim.filter import Target, element_holds, resolve_element_filter, text_key
from scim.operations import (
    MemberChange,
    Operation,
    Path,
    member_changes_from_json,
    member_changes_to_json,
    operations_from_json,
    operations_to_json,
    split_members,
)
from scim.schema import Attribute, ResourceType
from scim.values import without_duplicates

__all__ = [
    "MAX_OPERATIONS", "MemberChange", "Operation", "Path", "apply_patch", "member_changes_from_json",
    "member_changes_to_json", "operations_from_json", "operations_to_json", "parse_patch", "split_members",
]  # fmt: skip

type Resource = dict[str, Any]
type Element = dict[str, Any]

_LABELS = frozenset({"type", "primary"})


def apply_patch(resource_type: ResourceType, resource: Resource, operations: Iterable[Operation]) -> Resource:
    """`resource` after all `operations`, in order; the very same object when they alter nothing.

    Both are canonical, and `resource` is never modified: a refusal leaves nothing half done. Raises NoTarget when an
    operation selects nothing, Mutability when a required attribute would be unassigned or an immutable one changed,
    InvalidValue when the result would have two primary values, InvalidPath for an attribute unknown to the schema,
    PayloadTooLarge for more values than an attribute may have.
    """
    draft = _Draft(resource_type, resource)
    for operation in operations:
        draft.apply(operation)
    result = draft.result()
    return resource if result == resource else result


class _Draft:
    """A resource in the making: containers are copied when they are first written, values are never modified."""

    def __init__(self, resource_type: ResourceType, resource: Resource) -> None:
        self._resource_type = resource_type
        self._core: Resource = dict(resource)
        self._extensions: dict[str, Resource] = {}
        self._touched: dict[tuple[str | None, str], Attribute] = {}

    def apply(self, operation: Operation) -> None:
        path = operation.path
        attribute = self._resource_type.find(path.schema_urn, path.attribute)
        if attribute is None:
            raise InvalidPath("The path names an attribute that this resource type does not have.")
        container = self._container(path.schema_urn)
        old = container.get(attribute.name)
        new = _changed(attribute, old, operation)
        if attribute.mutability == "immutable" and old is not None and new != old:
            raise Mutability(f"{attribute.name} cannot be changed once it has a value.")
        _put(container, attribute.name, new)
        self._touched[path.schema_urn, attribute.name] = attribute

    def result(self) -> Resource:
        """The canonical resource; checks what only the end of a request can tell."""
        for (urn, name), attribute in self._touched.items():
            container = self._container(urn)
            _put(container, name, _finished(attribute, container.get(name)))
            if urn is None and attribute.required and name not in container:
                raise Mutability(f"{name} is required and cannot be removed.")
        for urn, container in self._extensions.items():
            self._check_extension(urn, container)
            _put(self._core, urn, container)
        return self._core

    def _check_extension(self, urn: str, container: Resource) -> None:
        extension = self._resource_type.extension(urn)
        for name in extension.required if extension and container else ():
            if name not in container:
                raise InvalidValue(f"{name} is required when {urn} is given.")

    def _container(self, urn: str | None) -> Resource:
        if urn is None:
            return self._core
        if urn not in self._extensions:
            self._extensions[urn] = dict(self._core.get(urn) or {})
        return self._extensions[urn]


def _put(container: Resource, name: str, value: Any) -> None:
    if value is None or value in ({}, []):
        container.pop(name, None)
    else:
        container[name] = value


def _changed(attribute: Attribute, old: Any, operation: Operation) -> Any:
    """The attribute's value after one operation; None when it is unassigned then."""
    if attribute.multi_valued:
        new = _changed_list(attribute, old or [], operation)
        if len(new) > max(attribute.max_values, len(old or ())):
            raise PayloadTooLarge(f"{attribute.name} may hold at most {attribute.max_values:,} values.")
        return new
    if attribute.is_complex:
        return _changed_object(attribute, old or {}, operation)
    return None if operation.op == "remove" else operation.value


def _finished(attribute: Attribute, value: Any) -> Any:
    """What only the whole request decides: an element may get its type first and its value later."""
    if value is None or not (attribute.is_complex or attribute.multi_valued):
        return value
    if not attribute.multi_valued:
        _check_required_subs(attribute, value)
        return value
    if attribute.is_complex:
        value = [element for element in value if not _is_label(attribute, element)]
        for element in value:
            _check_required_subs(attribute, element)
    return without_duplicates(attribute, value)


def _is_label(attribute: Attribute, element: Element) -> bool:
    """Whether `element` says no more than its type: that is how a client's last word on an email is "none"."""
    return element.keys() <= _LABELS and attribute.sub_attribute("primary") is not None


def _check_required_subs(attribute: Attribute, value: Element) -> None:
    for name in attribute.required_subs:
        if name not in value:
            raise Mutability(f"{attribute.name}.{name} is required and cannot be removed.")


# --- single complex attributes ---------------------------------------------------------------------------------------


def _changed_object(attribute: Attribute, old: Element, operation: Operation) -> Element | None:
    sub_name = operation.path.sub_attribute
    if operation.op != "remove":
        return _merged(old, operation.value if sub_name is None else {sub_name: operation.value})
    if sub_name is None:
        return None
    rest = {name: value for name, value in old.items() if name != sub_name}
    # A reference is nothing without the id that it spells out.
    return None if rest.keys() <= {"$ref"} and attribute.sub_attribute("value") else rest


def _merged(old: Element, parts: Element) -> Element:
    if parts.get("value", old.get("value")) != old.get("value"):
        old = {name: value for name, value in old.items() if name != "$ref"}  # it leads to the old value
    return {**old, **parts}


# --- multi-valued attributes -----------------------------------------------------------------------------------------


def _changed_list(attribute: Attribute, old: list[Any], operation: Operation) -> list[Any]:
    path = operation.path
    if path.value_filter is not None or path.sub_attribute is not None:
        return _changed_elements(attribute, old, operation)
    if operation.op == "add":
        return _with(attribute, old, operation.value)
    if operation.op == "replace":
        return operation.value
    return [] if operation.value is None else _without(attribute, old, operation.value)


def _changed_elements(attribute: Attribute, old: list[Element], operation: Operation) -> list[Element]:
    selects = _selector(attribute, operation.path)
    chosen = [bool(selects(element)) for element in old]
    if operation.op == "remove":
        return _cleared(old, chosen, operation.path.sub_attribute)
    if not any(chosen):
        if not operation.create_if_missing:
            raise NoTarget(f"No value of {attribute.name} matches the filter in the path.")
        old, chosen = [*old, {}], [*chosen, True]
    rewrite = _rewriter(attribute, operation)
    new = [rewrite(element) if is_chosen else element for element, is_chosen in zip(old, chosen, strict=True)]
    return _one_primary(attribute, old, new)


def _selector(attribute: Attribute, path: Path) -> Callable[[Element], bool]:
    if path.value_filter is None:
        return lambda element: True
    predicate = resolve_element_filter(Target(path.schema_urn, attribute), path.value_filter)
    return lambda element: element_holds(predicate, element)


def _cleared(old: list[Element], chosen: list[bool], sub_name: str | None) -> list[Element]:
    """`old` without the chosen elements, or without one sub-attribute of them."""
    if sub_name is None:
        return [element for element, is_chosen in zip(old, chosen, strict=True) if not is_chosen]
    cleared = [
        {name: value for name, value in element.items() if name != sub_name} if is_chosen else element
        for element, is_chosen in zip(old, chosen, strict=True)
    ]
    return [element for element in cleared if element]


def _rewriter(attribute: Attribute, operation: Operation) -> Callable[[Element], Element]:
    """What an add or replace makes of a chosen element; an empty one is new."""
    path, value = operation.path, operation.value
    known = equalities(attribute, path.value_filter) if path.value_filter is not None else None
    if path.sub_attribute is not None:
        parts = {path.sub_attribute: value}
        return lambda element: {**(element or known or {}), **parts}
    if operation.op == "add":
        return lambda element: {**(element or known or {}), **value}
    # Replacing addresses[type eq "work"] by an object that does not repeat the type does not change the type.
    return lambda element: {**(known or {}), **value}


def _one_primary(attribute: Attribute, old: Sequence[Element], new: list[Element]) -> list[Element]:
    """RFC 7644 section 3.5.2: when a value becomes the primary one, the others cease to be.

    An element without a value yet may still turn out to be nothing, and takes that rank from no one.
    """
    fresh = [
        index
        for index, element in enumerate(new)
        if _is_primary(attribute, element) and not (index < len(old) and _is_primary(attribute, old[index]))
    ]
    if not fresh:
        return new
    if len(fresh) > 1:
        raise InvalidValue(f"{attribute.name} would have more than one primary value.")
    return [
        {**element, "primary": False} if index != fresh[0] and element.get("primary") is True else element
        for index, element in enumerate(new)
    ]


def _is_primary(attribute: Attribute, element: Element) -> bool:
    return element.get("primary") is True and not _is_label(attribute, element)


# --- adding and removing values --------------------------------------------------------------------------------------


def _with(attribute: Attribute, old: list[Any], added: list[Any]) -> list[Any]:
    """`old` and what of `added` is not in it yet; a value that is there can become the primary one."""
    if not attribute.is_complex:
        return without_duplicates(attribute, [*old, *added])
    places = _Places(attribute, old)
    new = list(old)
    for element in added:
        place = places.of(element)
        if place is None:
            places.add(element, len(new))
            new.append(element)
        elif element.get("primary") is True:
            new[place] = {**new[place], "primary": True}
    return _one_primary(attribute, old, new)


class _Places:
    """Where in a list an element stands, found by its `value` so that long lists cost no more."""

    def __init__(self, attribute: Attribute, elements: Sequence[Element]) -> None:
        self._attribute = attribute
        self._by_value: dict[Any, list[tuple[int, Element]]] = {}
        for place, element in enumerate(elements):
            self.add(element, place)

    def add(self, element: Element, place: int) -> None:
        self._by_value.setdefault(_sub_key(self._attribute, "value", element.get("value")), []).append((place, element))

    def of(self, wanted: Element) -> int | None:
        """The place of an element that has all that `wanted` says, its being primary aside; None when there is none."""
        candidates = self._by_value.get(_sub_key(self._attribute, "value", wanted.get("value")), ())
        return next((place for place, element in candidates if self._says(element, wanted)), None)

    def _says(self, element: Element, wanted: Element) -> bool:
        if self._attribute.name == "members":
            return True  # an id is enough, with or without `type` and `display`
        return all(
            _sub_key(self._attribute, name, element.get(name)) == _sub_key(self._attribute, name, value)
            for name, value in wanted.items()
            if name != "primary"
        )


def _sub_key(attribute: Attribute, name: str, value: Any) -> Any:
    return _key(attribute.sub_attribute(name) or attribute, value)


def _key(leaf: Attribute, value: Any) -> Any:
    return text_key(leaf, value) if isinstance(value, str) else value


def _without(attribute: Attribute, old: list[Any], removed: list[Any]) -> list[Any]:
    """`old` without the values in `removed`."""
    if not attribute.is_complex:
        keys = {_key(attribute, value) for value in removed}
        return [value for value in old if _key(attribute, value) not in keys]
    wanted: dict[Any, list[Element]] = {}
    for value in removed:
        wanted.setdefault(_sub_key(attribute, "value", value.get("value")), []).append(value)
    return [element for element in old if not _is_meant(attribute, element, wanted)]


def _is_meant(attribute: Attribute, element: Element, wanted: dict[Any, list[Element]]) -> bool:
    candidates = wanted.get(_sub_key(attribute, "value", element.get("value")), ())
    return any(_names(attribute, candidate, element) for candidate in candidates)


def _names(attribute: Attribute, candidate: Element, element: Element) -> bool:
    """Whether `candidate` means `element`, whose `value` it shares: what it adds for display may be out of date."""
    told = {name: value for name, value in candidate.items() if name == "type" and name in element}
    return all(
        _sub_key(attribute, name, element.get(name)) == _sub_key(attribute, name, value)
        for name, value in (told if "value" in candidate else candidate).items()
    )
