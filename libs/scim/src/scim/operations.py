"""Canonical PATCH operations: what `parse_patch` makes of any client's dialect, and what travels through the log.

    add, replace  a, a.b           value            assign
    add, replace  complex a        sub-attributes   assign these, keep the others
    add           multi-valued a   list             append what is not there yet
    replace       multi-valued a   list             the list takes the place of all values
    add, replace  a[f].b           value            assign in every element that f selects
    add, replace  multi-valued a.b value            assign in every element
    add           a[f]             sub-attributes   assign these in every element that f selects
    replace       a[f]             sub-attributes   they take the place of every element that f selects
    remove        a, a.b, a[f](.b) none             unassign; nothing selected: no change
    remove        multi-valued a   list             remove these values only

When nothing is selected, `create_if_missing` makes an element from the filter's equalities and the value; without it
the operation fails with `noTarget`. Paths have a URN for extension attributes only; no value is "unassigned".
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, cast

from scim.errors import InvalidPath, InvalidSyntax
from scim.filter import Filter, find_target
from scim.grammar import AttributePath, parse_path
from scim.schema import ResourceType

MEMBERS = "members"

type OperationName = Literal["add", "replace", "remove"]


@dataclass(frozen=True, slots=True)
class Path:
    """A target with names as the schema spells them; `schema_urn` is None for core attributes."""

    schema_urn: str | None
    attribute: str
    value_filter: Filter | None = None
    sub_attribute: str | None = None

    def __str__(self) -> str:
        selection = f"[{self.value_filter}]" if self.value_filter else ""
        suffix = f".{self.sub_attribute}" if self.sub_attribute else ""
        return f"{AttributePath(self.schema_urn, self.attribute)}{selection}{suffix}"


@dataclass(frozen=True, slots=True)
class Operation:
    """One canonical operation (see the module's table); `value` is None exactly when the operation takes none."""

    op: OperationName
    path: Path
    value: Any = None
    create_if_missing: bool = False


@dataclass(frozen=True, slots=True)
class MemberChange:
    """Members to add, to remove, or that take the place of all; ids in the order given, each once."""

    op: OperationName
    values: tuple[str, ...]


def split_members(operations: Iterable[Operation]) -> tuple[list[MemberChange], list[Operation]]:
    """Separate membership from the rest, each in its order, so a large group is never loaded to add one."""
    members: list[MemberChange] = []
    others: list[Operation] = []
    for operation in operations:
        if operation.path.attribute == MEMBERS and operation.path.schema_urn is None:
            members.append(_member_change(operation))
        else:
            others.append(operation)
    return members, others


def operations_to_json(operations: Iterable[Operation]) -> list[dict[str, Any]]:
    """Operations as JSON values: `{op, path, value?, createIfMissing?}`."""
    return [_to_json(operation) for operation in operations]


def operations_from_json(resource_type: ResourceType, items: Sequence[Any]) -> list[Operation]:
    """What `operations_to_json` gave; raises InvalidPath when the schema no longer has an attribute."""
    return [_from_json(resource_type, item) for item in items]


def member_changes_to_json(changes: Iterable[MemberChange]) -> list[dict[str, Any]]:
    """Member changes as JSON values: `{op, values}`."""
    return [{"op": change.op, "values": list(change.values)} for change in changes]


def member_changes_from_json(items: Iterable[dict[str, Any]]) -> list[MemberChange]:
    """What `member_changes_to_json` gave."""
    return [MemberChange(item["op"], tuple(item["values"])) for item in items]


def _member_change(operation: Operation) -> MemberChange:
    if operation.op == "remove" and operation.value is None:
        return MemberChange("replace", ())
    values = dict.fromkeys(member["value"] for member in operation.value)
    return MemberChange(operation.op, tuple(values))


def _to_json(operation: Operation) -> dict[str, Any]:
    item: dict[str, Any] = {"op": operation.op, "path": str(operation.path)}
    if operation.value is not None:
        item["value"] = operation.value
    if operation.create_if_missing:
        item["createIfMissing"] = True
    return item


def _from_json(resource_type: ResourceType, item: Any) -> Operation:
    try:
        op, text = item["op"], item["path"]
    except (KeyError, TypeError) as error:
        raise InvalidSyntax("A recorded operation has no op or no path.") from error
    if op not in ("add", "replace", "remove") or not isinstance(text, str):
        raise InvalidSyntax("A recorded operation has an unknown op, or a path that is not text.")
    path = _recorded_path(resource_type, text)
    return Operation(cast(OperationName, op), path, item.get("value"), item.get("createIfMissing") is True)


@lru_cache(maxsize=1024)
def _recorded_path(resource_type: ResourceType, text: str) -> Path:
    parsed = parse_path(text)
    target = find_target(resource_type, parsed.path)
    if target is None:
        raise InvalidPath("A recorded operation has a path that the schema does not know.")
    sub_attribute = parsed.sub_attribute or parsed.path.sub_attribute
    return Path(target.extension, target.attribute.name, parsed.value_filter, sub_attribute)
