"""Names and settings of the Kafka topics (design section 4)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta

MAX_RECORD_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic as `directory-sync topics` creates it; `partitions` never changes once a cluster holds data."""

    name: str
    partitions: int
    retention: timedelta
    config: Mapping[str, str] = field(default_factory=dict)

    def settings(self) -> dict[str, str]:
        """The topic's configuration in Kafka's own words."""
        retention_ms = str(int(self.retention.total_seconds() * 1000))
        return {"retention.ms": retention_ms, "max.message.bytes": str(MAX_RECORD_BYTES), **self.config}


CHANGES = Topic("scim.changes", 12, timedelta(days=7))
# Outcomes are read within seconds; short segments let the broker drop them soon.
OUTCOMES = Topic("scim.outcomes", 12, timedelta(minutes=10), {"segment.ms": "60000"})
# Best effort: what the gateways refused by themselves, on its way into the provisioning log.
REFUSALS = Topic("scim.refusals", 3, timedelta(days=1))
EVENTS = Topic("directory.events", 12, timedelta(days=7))
DEAD_LETTERS = Topic("scim.changes.dlq", 3, timedelta(days=30))

TOPICS = (CHANGES, OUTCOMES, REFUSALS, EVENTS, DEAD_LETTERS)
