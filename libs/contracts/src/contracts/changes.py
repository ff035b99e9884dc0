"""Change and outcome: what gateway and provisioner tell each other (design section 4).

Both are the JSON value of one Kafka record. A reader ignores members that it does not know, so members can be added;
anything else needs a new `version`, and a reader stops at a version newer than its own.
"""

from datetime import datetime
from enum import StrEnum
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict

CHANGE_VERSION = 2
OUTCOME_VERSION = 1
REFUSED_REQUEST_VERSION = 1

# Headers of a record on `scim.changes` and `scim.outcomes`.
CHANGE_ID_HEADER = "change-id"
TRACEPARENT_HEADER = "traceparent"
# Header field of the HTTP answer to a preview: by it the outcome is found, which says more than SCIM can.
PREVIEW_HEADER = "Directory-Change-Id"

Json = dict[str, Any]


NO_CONNECTION = UUID(int=0)
"""The connection of a change that concerns none."""


class Operation(StrEnum):
    """What a change asks for."""

    CREATE = "create"
    REPLACE = "replace"
    PATCH = "patch"
    DELETE = "delete"
    BULK = "bulk"
    APPLY = "apply"


class ResourceType(StrEnum):
    """What a change is about: a SCIM resource, several in one Bulk request, or what an admin asks for.

    An admin's changes are the deletion of a connection, an account's CREATE and PATCH, the re-applying (APPLY) of group
    mappings, and the discarding (DELETE) of a hold.
    """

    USER = "User"
    GROUP = "Group"
    BULK = "Bulk"
    CONNECTION = "Connection"
    ACCOUNT = "Account"
    GROUP_MAPPING = "GroupMapping"
    HOLD = "Hold"


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


class AccountRequest(Message):
    """What an admin asks of an account; what is None or empty stays as it is. Roles and connections are named by id.

    `link` gives the connection the right to change the account, which also grants an open link request; `reject_link`
    turns one down. `email` and `display_name` are for CREATE, and for accounts that no connection manages.
    """

    email: str | None = None
    display_name: str | None = None
    active: bool | None = None
    break_glass: bool | None = None
    grant: tuple[UUID, ...] = ()
    revoke: tuple[UUID, ...] = ()
    link: UUID | None = None
    unlink: UUID | None = None
    reject_link: UUID | None = None


class MappingRequest(Message):
    """Which group mappings to apply to the members that there are: those of one group name, or (None) all.

    In a dry run, `role_id` with `connection_id` is a mapping that is not there yet, `without` one that is taken away.
    """

    scim_group_name: str | None = None
    role_id: UUID | None = None
    connection_id: UUID | None = None
    without: UUID | None = None


class Change(Message):
    """One mutating request: requested, not yet true.

    `resource` holds a canonical SCIM resource (create, replace), `patch` the canonical operations (patch); a group's
    membership is in neither of them but in `members`, in order. A Bulk request holds its operations as `changes`, to be
    decided in that order until `fail_on_errors` of them were refused; one that could not be read has a `refusal`. Times
    are the gateway's, in UTC; `deadline` is when it stops waiting for the outcome.

    Version 1 is a SCIM request or the deletion of a connection. Version 2 is whatever a release that knows only version
    1 would get wrong: an admin's `account` or `mapping` request, the change of a `hold_id` that is confirmed (applied
    past the guard), and a `dry_run`, which changes nothing and whose outcome tells the `effects`.
    """

    version: Literal[1, 2] = 1
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
    account: AccountRequest | None = None
    mapping: MappingRequest | None = None
    hold_id: UUID | None = None
    dry_run: bool | None = None
    if_match: str | None = None
    fingerprint: str | None = None
    received_at: datetime
    deadline: datetime
    reply_partition: int | None = None
    request: RequestSummary | None = None
    traceparent: str | None = None


class AccountEffect(Message):
    """An account before and after a change; None where it was not, or is not, there."""

    account_id: UUID
    before: Json | None = None
    after: Json | None = None


class GrantEffect(Message):
    """A role that an account gained or lost; `group_id` is its source, None for a manual grant."""

    account_id: UUID
    role_id: UUID
    group_id: UUID | None = None
    gained: bool


class Effects(Message):
    """What a change did to accounts and their roles, or would do; `grants` names at most MAX_EFFECTS."""

    accounts: tuple[AccountEffect, ...] = ()
    grants: tuple[GrantEffect, ...] = ()
    gained: int = 0
    lost: int = 0


MAX_EFFECTS = 1000


class Outcome(Message):
    """The final SCIM answer to a change: `status` is the HTTP status.

    A success carries the resource as it is now (canonical attributes, without id and meta); a refusal carries
    `scim_type` and `detail` of the SCIM error. A group comes without its members; a Bulk request's outcome holds one
    outcome for each operation that was decided, in order. Dry runs and re-applied mappings tell their `effects`.
    `similar` is there when a gateway refused the request by itself: how many more it refused since it last told of one.
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
    dry_run: bool | None = None
    effects: Effects | None = None
    similar: int | None = None


class RefusedRequest(Message):
    """A request of a connection that the gateway refused by itself: no change, but an entry of the provisioning log.

    `outcome` is that entry; its `change_id` is an id of its own, its `resource_id` 0 when the request named none.
    `operation` is one of a change's, or "read".
    """

    version: Literal[1] = REFUSED_REQUEST_VERSION
    organization_id: UUID
    connection_id: UUID
    token_id: UUID
    actor: str
    operation: str
    outcome: Outcome
    received_at: datetime
    request: RequestSummary
