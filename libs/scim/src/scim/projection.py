"""`attributes` and `excludedAttributes`: which part of a resource a client wants (RFC 7644 section 3.9)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from scim.errors import InvalidPath, InvalidValue
from scim.filter import Target, find_target
from scim.grammar import attribute_path
from scim.schema import Attribute, ResourceType
from scim.urns import CORE_GROUP, CORE_USER, LEGACY_CORE

MAX_NAMES = 100
MAX_TEXT = 4_096  # characters of one parameter

# A part of a resource, by name; None is all of what is under that name.
type _Tree = dict[str, "_Tree | None"]

_CORE_URNS = (CORE_USER.lower(), CORE_GROUP.lower(), *sorted(LEGACY_CORE))


@dataclass(frozen=True, slots=True)
class Projection:
    """What to return: `included` (None: the default set) without `excluded`.

    RFC 7644 calls the two parameters exclusive of each other; when a client sends both, both hold. Names are in
    lower case without the URN of a core schema. Unknown ones select nothing, as section 3.9 asks.
    """

    included: frozenset[str] | None = None
    excluded: frozenset[str] = frozenset()

    @classmethod
    def parse(
        cls,
        attributes: str | Sequence[str] | None = None,
        excluded_attributes: str | Sequence[str] | None = None,
    ) -> "Projection":
        """Read the two parameters: comma-separated text, or the list of a search request; empty is as if absent.

        Raises InvalidPath for what is no attribute name, InvalidValue for too many or of the wrong type.
        """
        included = _names(attributes, "attributes")
        excluded = _names(excluded_attributes, "excludedAttributes")
        return cls(included or None, excluded) if included or excluded else EVERYTHING

    def wants(self, name: str) -> bool:
        """Whether any of the core attribute `name` is returned, so that the server need not load what is not."""
        name = name.lower()
        if name in self.excluded:
            return False
        if self.included is None:
            return True
        dotted = name + "."
        return any(path == name or path.startswith(dotted) or path in _CORE_URNS for path in self.included)

    def apply(self, rt: ResourceType, rendered: dict[str, Any]) -> dict[str, Any]:
        """The part of `rendered` to send; `id`, `schemas` and all that is returned "always" stay."""
        if self is EVERYTHING and not rt.hides_attributes:
            return rendered
        kept, dropped = _plan(rt, self)
        if kept is not None:
            rendered = _keep(rendered, kept)
        return _drop(rendered, dropped) if dropped else rendered


EVERYTHING = Projection()


def _names(value: str | Sequence[str] | None, parameter: str) -> frozenset[str]:
    if value is None:
        return frozenset()
    names = value.split(",", MAX_NAMES) if isinstance(value, str) else value
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise InvalidValue(f"{parameter} must be a list of attribute names.")
    if len(names) > MAX_NAMES or sum(map(len, names)) > MAX_TEXT:
        raise InvalidValue(f"{parameter} may hold at most {MAX_NAMES} names and {MAX_TEXT} characters.")
    return frozenset(_name(text, parameter) for name in names if (text := name.strip()))


def _name(text: str, parameter: str) -> str:
    if attribute_path(text) is None:
        raise InvalidPath(f"{parameter} holds something that is not an attribute name.")
    name = text.lower()
    for urn in _CORE_URNS:
        name = name.removeprefix(urn + ":")
    return name


# --- per resource type -----------------------------------------------------------------------------------------------


@lru_cache(maxsize=256)
def _plan(rt: ResourceType, projection: Projection) -> tuple[_Tree | None, _Tree]:
    """What to keep (None: everything) and then what to drop."""
    included = None if projection.included is None else _included(rt, projection.included)
    dropped = _hidden(rt, included or {})
    for name in projection.excluded:
        _exclude(rt, dropped, name)
    if included is not None:
        _add_always(rt, included)
    return included, dropped


def _included(rt: ResourceType, names: Iterable[str]) -> _Tree:
    tree: _Tree = {}
    for name in sorted(names):
        _include(rt, tree, name)
    return tree


def _include(rt: ResourceType, tree: _Tree, name: str) -> None:
    extension = rt.extension(name)
    if extension is not None:
        tree[extension.id] = None
    elif rt.is_core_urn(name):
        tree.update(dict.fromkeys(attribute.name for attribute in rt.schema.attributes))
    else:
        target = _target(rt, name)
        branch = _branch(tree, target.extension) if target else None
        if target is not None and branch is not None:
            _graft(branch, target.attribute, target.sub_attribute)
            for other in target.attribute.sub_attributes:
                if other.returned == "always":
                    _graft(branch, target.attribute, other)


def _target(rt: ResourceType, name: str) -> Target | None:
    path = attribute_path(name)
    return find_target(rt, path) if path else None


def _branch(tree: _Tree, urn: str | None) -> _Tree | None:
    """Where the attributes of a schema hang; None when all of that schema is in already."""
    return tree if urn is None else tree.setdefault(urn, {})


def _graft(branch: _Tree, attribute: Attribute, sub: Attribute | None) -> None:
    if sub is None:
        branch[attribute.name] = None
    elif (leaves := branch.setdefault(attribute.name, {})) is not None:
        leaves[sub.name] = None


def _add_always(rt: ResourceType, tree: _Tree) -> None:
    tree.update({"schemas": None, "id": None})
    for urn, attribute in _extension_attributes(rt):
        branch = tree.setdefault(urn, {}) if attribute.returned == "always" else None
        if branch is not None:
            branch[attribute.name] = None


def _exclude(rt: ResourceType, tree: _Tree, name: str) -> None:
    extension = rt.extension(name)
    if extension is not None:
        for attribute in extension.attributes:
            _drop_attribute(tree, extension.id, attribute, None)
        return
    target = _target(rt, name)
    if target is not None:
        _drop_attribute(tree, target.extension, target.attribute, target.sub_attribute)


def _drop_attribute(tree: _Tree, urn: str | None, attribute: Attribute, sub: Attribute | None) -> None:
    if (sub or attribute).returned == "always":
        return
    branch = _branch(tree, urn)
    if branch is not None:
        _graft(branch, attribute, sub)


def _hidden(rt: ResourceType, included: _Tree) -> _Tree:
    """What is returned never, or only on request and not `included` by its own name."""
    tree: _Tree = {}
    if not rt.hides_attributes:
        return tree
    for urn, attribute in _extension_attributes(rt):
        asked = included.get(urn) or {}
        if _is_withheld(attribute, attribute.name in asked):
            _drop_attribute(tree, urn, attribute, None)
        asked_subs = asked.get(attribute.name) or {}
        for sub in attribute.sub_attributes:
            if _is_withheld(sub, sub.name in asked_subs):
                _drop_attribute(tree, urn, attribute, sub)
    return tree


def _is_withheld(attribute: Attribute, asked: bool) -> bool:
    return attribute.returned == "never" or (attribute.returned == "request" and not asked)


def _extension_attributes(rt: ResourceType) -> Iterable[tuple[str, Attribute]]:
    for extension in rt.extensions:
        for attribute in extension.attributes:
            yield extension.id, attribute


# --- on a value ------------------------------------------------------------------------------------------------------


def _keep(value: dict[str, Any], tree: _Tree) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for name, item in value.items():
        if name in tree:
            leaves = tree[name]
            part = item if leaves is None else _each(item, leaves, _keep)
            if leaves is None or part:
                result[name] = part
    return result


def _drop(value: dict[str, Any], tree: _Tree) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for name, item in value.items():
        if name not in tree:
            result[name] = item
        elif (leaves := tree[name]) is not None and (part := _each(item, leaves, _drop)):
            result[name] = part
    return result


def _each(item: Any, leaves: _Tree, change: Any) -> Any:
    """`change` on an object, or on each object of a list, without those that it leaves empty."""
    if isinstance(item, list):
        return [part for element in item if (part := change(element, leaves))]
    return change(item, leaves)
