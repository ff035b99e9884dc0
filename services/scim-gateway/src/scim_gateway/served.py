"""The resource types that this gateway serves: handlers ask here instead of branching."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import orjson

import contracts
from contracts import MemberChange, Operation
from scim.operations import MEMBERS, operations_to_json, split_members
from scim.patch import parse_patch
from scim.resource import parse_resource
from scim.schema import GROUP, USER, ResourceType, schema_from_json
from scim_gateway.store.groups import GROUPS
from scim_gateway.store.resources import Table
from scim_gateway.store.users import USERS

type Content = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Served:
    """A resource type, its name in changes, where it is read from, and how large a body may be (bytes).

    `advice` is what to do beyond `body_limit`. A PATCH is answered with the resource unless it has more related values
    (members) than `patch_answer_limit`, or the connection does not want it (`answers_patch`).
    """

    type: ResourceType
    name: contracts.ResourceType
    table: Table
    body_limit: int
    advice: str
    patch_answer_limit: int | None = None
    answers_patch: bool = True

    @property
    def endpoint(self) -> str:
        """The path under the base, such as `/Users`."""
        return self.type.endpoint

    def resource_content(self, document: Any) -> Content:
        """What a change carries of a POST or PUT body."""
        resource = parse_resource(self.type, document)
        if self.type.attribute(MEMBERS) is None:
            return {"resource": resource}
        values = dict.fromkeys(member["value"] for member in resource.pop(MEMBERS, ()))
        return {"resource": resource, "members": [MemberChange(op="replace", values=tuple(values))]}

    def patch_content(self, document: Any, resource_id: str) -> Content:
        """What a change carries of a PATCH body: membership apart from the rest, so that a group is never loaded."""
        members, others = split_members(parse_patch(self.type, document, resource_id=resource_id))
        content: Content = {"patch": operations_to_json(others)}
        if members:
            content["members"] = [MemberChange(op=change.op, values=change.values) for change in members]
        return content

    def answer_limit(self, operation: Operation) -> int | None:
        """Up to how many related values the answer to a change holds the resource; None: however many."""
        return self.patch_answer_limit if operation is Operation.PATCH else None


SERVED = (
    Served(USER, contracts.ResourceType.USER, USERS, 1024 * 1024, "send less in one request"),
    Served(
        GROUP,
        contracts.ResourceType.GROUP,
        GROUPS,
        8 * 1024 * 1024,
        "send the members in several PATCH requests, each of which adds some",
        patch_answer_limit=1000,
    ),
)

type Catalog = Mapping[str, Served]
"""What one organization is served, by endpoint."""


@lru_cache(maxsize=1024)
def catalog(extensions: tuple[tuple[str, str], ...] = (), *, answers_group_patch: bool = True) -> Catalog:
    """SERVED as one connection has it: with its organization's own schemas, pairs of resource type and schema document
    (JSON), and with or without an answer to a PATCH of what can have many members.

    Equal settings give the same objects, by whose identity compiled filters and paths are cached.
    """
    return {
        served.endpoint: replace(
            _extended(served, extensions), answers_patch=answers_group_patch or served.patch_answer_limit is None
        )
        for served in SERVED
    }


@lru_cache(maxsize=1024)
def _extended(served: Served, extensions: tuple[tuple[str, str], ...]) -> Served:
    schemas = [schema_from_json(orjson.loads(text)) for name, text in extensions if name == served.type.name]
    return replace(served, type=served.type.with_extensions(*schemas)) if schemas else served
