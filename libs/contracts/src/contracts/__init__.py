"""What crosses a process boundary: changes, outcomes, topics. Data only."""

from contracts.changes import (
    CHANGE_ID_HEADER,
    CHANGE_VERSION,
    TRACEPARENT_HEADER,
    Change,
    Json,
    MemberChange,
    Operation,
    Outcome,
    Refusal,
    RequestSummary,
    ResourceType,
)
from contracts.tokens import SCIM_TOKEN
from contracts.topics import CHANGES, DEAD_LETTERS, MAX_RECORD_BYTES, OUTCOMES, TOPICS, Topic

__all__ = [
    "CHANGES",
    "CHANGE_ID_HEADER",
    "CHANGE_VERSION",
    "DEAD_LETTERS",
    "MAX_RECORD_BYTES",
    "OUTCOMES",
    "SCIM_TOKEN",
    "TOPICS",
    "TRACEPARENT_HEADER",
    "Change",
    "Json",
    "MemberChange",
    "Operation",
    "Outcome",
    "Refusal",
    "RequestSummary",
    "ResourceType",
    "Topic",
]
