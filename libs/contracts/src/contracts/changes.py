"""Change and outcome: what gateway and provisioner tell each other (design section 4).

Both are the JSON value of one Kafka record. A reader ignores members that it does not know, so members can be added;
anything else needs a new `version`, and a reader stops at a version newer than its own.
"""

from datetime import datetime
from enum import StrEnum
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict

CHANGE_VERSION = 1
OUTCOME_VERSION = 1

# Headers of a record on `scim.changes` and `scim.outcomes`.
CHANGE_ID_HEADER = "change-id"
TRACEPARENT_HEADER = "traceparent"

Json = dict[str, Any]


class Operation(StrEnum):
    """What a change asks for."""

    CREATE = "create"
    REPLACE = "replace"
    PATCH = "patch"
    DELETE = "delete"
    BULK = "bulk"


class ResourceType(StrEnum):
    """What a change is about: a SCIM resource, several in one Bulk request, or the connection itself (its deletion)."""

    USER = "User"
    GROUP = "Group"
    BULK = "Bulk"
    CONNECTION = "Connection"


class Message(BaseModel):
    """Base of both records: immutable, tolerant of unknown members."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class MemberChange(Message):
    """Members to add to a group, to remove from it, or that take the place of all; ids as the client sent them."""

    op: Literal["add", "remove", "replace"]
    values: tuple[str, ...]


class Refusal(Message):
    """An operation of a Bulk request that the gateway could not read: it takes its place, counts and is logged."""

    status: int
    scim_type: str | None = None
    detail: str


class RequestSummary(Message):
    """What the client sent, fit for the provisioning log: passwords and secrets masked, body up to 16 KB."""

    method: str
    path: str
    body: Any = None


class Change(Message):
    """One mutating request: requested, not yet true.

    `resource` holds a canonical SCIM resource (create, replace), `patch` the canonical operations (patch); a group's
    membership is in neither of them but in `members`, in order. A Bulk request holds its operations as `changes`, to be
    decided in that order until `fail_on_errors` of them were refused; one that could not be read has a `refusal`. Times
    are the gateway's, in UTC; `deadline` is when it stops waiting for the outcome.
    """

    version: Literal[1] = CHANGE_VERSION
    id: UUID
    organization_id: UUID
    connection_id: UUID
    token_id: UUID | None = None
    actor: str
    resource_type: ResourceType
    operation: Operation
    resource_id: UUID
    resource: Json | None = None
    patch: list[Json] | None = None
    members: list[MemberChange] | None = None
    changes: list["Change"] | None = None
    fail_on_errors: int | None = None
    refusal: Refusal | None = None
    if_match: str | None = None
    fingerprint: str | None = None
    received_at: datetime
    deadline: datetime
    reply_partition: int | None = None
    request: RequestSummary | None = None
    traceparent: str | None = None


class Outcome(Message):
    """The final SCIM answer to a change: `status` is the HTTP status.

    A success carries the resource as it is now (canonical attributes, without id and meta); a refusal carries
    `scim_type` and `detail` of the SCIM error. A group comes without its members; a Bulk request's outcome holds one
    outcome for each operation that was decided, in order.
    """

    version: Literal[1] = OUTCOME_VERSION
    change_id: UUID
    resource_type: ResourceType
    resource_id: UUID
    status: int
    scim_type: str | None = None
    detail: str | None = None
    resource: Json | None = None
    resource_version: int | None = None
    created: datetime | None = None
    last_modified: datetime | None = None
    outcomes: list["Outcome"] | None = None
