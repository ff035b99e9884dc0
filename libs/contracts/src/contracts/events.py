"""What happened: facts about accounts and groups, told once they are committed (design section 4)."""

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Literal
from uuid import UUID

from contracts.changes import Json, Message

EVENTS_CHAIN_OF_ADMIN = -1
"""The chain of what admin-api writes itself; every other chain is a partition of `scim.changes`."""

_PROVISIONING = "urn:ietf:params:scim:event:prov"
_OURS = "urn:directory-sync:event"


class EventType(StrEnum):
    """Types of events: those of RFC 9967 section 2 where it has one, else our own."""

    CREATED = f"{_PROVISIONING}:create:full"
    REPLACED = f"{_PROVISIONING}:put:full"
    PATCHED = f"{_PROVISIONING}:patch:full"
    DELETED = f"{_PROVISIONING}:delete"
    ACTIVATED = f"{_PROVISIONING}:activate"
    DEACTIVATED = f"{_PROVISIONING}:deactivate"
    ROLES_CHANGED = f"{_OURS}:roles-changed"
    LAST_ADMIN_KEPT = f"{_OURS}:last-admin-kept"
    LINKED = f"{_OURS}:linked"
    UNLINKED = f"{_OURS}:unlinked"
    LINK_REQUESTED = f"{_OURS}:link-requested"
    CONNECTION_CLOSED = f"{_OURS}:connection-closed"
    MAPPINGS_APPLIED = f"{_OURS}:mappings-applied"
    GUARD_TRIPPED = f"{_OURS}:guard-tripped"
    DEACTIVATION_HELD = f"{_OURS}:deactivation-held"
    DEACTIVATION_SKIPPED = f"{_OURS}:deactivation-skipped"


class SubjectType(StrEnum):
    """What an event is about; events of one subject keep their order."""

    ACCOUNT = "Account"
    GROUP = "Group"
    CONNECTION = "Connection"
    ORGANIZATION = "Organization"


EVENT_VERSION = 1
EVENT_ISSUER = "urn:directory-sync"
EVENT_CONTENT_TYPE = "application/cloudevents+json; charset=utf-8"
"""The header `content-type` of a record on `directory.events`."""


class SubjectId(Message):
    """Whom a security event is about: `format` "scim" with the `uri` of a resource, or "opaque" with an `id`."""

    format: Literal["scim", "opaque"]
    uri: str | None = None
    id: str | None = None


class SecurityEvent(Message):
    """The claims of a security event (RFC 8417, RFC 9967): `txn` is the change, `events` one type and its payload."""

    iss: str
    iat: int
    jti: UUID
    txn: UUID | None = None
    sub_id: SubjectId
    events: dict[str, Json]


class Event(Message):
    """A past fact, as a CloudEvent in structured JSON; published at least once, in order for each `subject`.

    A repetition has the same `id`. `sequence` rises within the events of a subject, as text too, so whoever has seen a
    later one can drop an earlier one. `subject` is the id of an account, group, connection or organization.
    """

    specversion: Literal["1.0"] = "1.0"
    version: Literal[1] = EVENT_VERSION
    id: UUID
    source: str
    type: str
    subject: UUID
    time: datetime
    datacontenttype: Literal["application/json"] = "application/json"
    subjecttype: str
    organizationid: UUID
    connectionid: UUID | None = None
    sequence: str
    data: SecurityEvent


_DATA = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False)
_COLUMNS = json.JSONEncoder(separators=(",", ":"))

FIRST_HASH = bytes(32)
"""What stands before the first row of a chain."""


@dataclass(frozen=True, slots=True)
class EventRow:
    """A row of the table `events` without its place in the chain; `data` is JSON, `at` in UTC."""

    id: UUID
    organization_id: UUID
    connection_id: UUID | None
    token_id: UUID | None
    actor: str
    change_id: UUID | None
    type: str
    subject_type: str
    subject_id: UUID
    at: datetime
    data: dict[str, Any] | None


def digest_of(data: dict[str, Any] | None) -> bytes:
    """SHA-256 of the data's JSON with sorted names; it outlives an erasure of the data."""
    return hashlib.sha256(_DATA.encode(data).encode()).digest()


def chained(previous: bytes, row: EventRow, digest: bytes) -> bytes:
    """The hash of `row` behind the hash `previous`: SHA-256 over that, every column but the data, and its digest."""
    columns = (
        row.id,
        row.organization_id,
        row.connection_id,
        row.token_id,
        row.actor,
        row.change_id,
        row.type,
        row.subject_type,
        row.subject_id,
        row.at.astimezone(UTC).isoformat(timespec="microseconds"),
    )
    text = _COLUMNS.encode([None if column is None else str(column) for column in columns])
    return hashlib.sha256(previous + text.encode() + digest).digest()
