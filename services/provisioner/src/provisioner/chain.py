"""The chain of events: what a batch has made known, as rows that follow each other."""

from collections.abc import Iterable
from dataclasses import dataclass
from uuid import uuid5

from contracts import NO_CONNECTION, Change, EventRow, chained, digest_of
from provisioner.rules import Fact


@dataclass(frozen=True, slots=True)
class ChainedEvent:
    """A row of `events` in its place."""

    seq: int
    row: EventRow
    digest: bytes
    hash: bytes


def chain(last: tuple[int, bytes], facts: Iterable[tuple[Change, Fact]]) -> list[ChainedEvent]:
    """The facts as rows behind the chain's `last` number and hash; their ids are the same at every attempt."""
    seq, previous = last
    events: list[ChainedEvent] = []
    for change, fact in facts:
        seq += 1
        row = _event_row(change, fact)
        digest = digest_of(row.data)
        previous = chained(previous, row, digest)
        events.append(ChainedEvent(seq, row, digest, previous))
    return events


def _event_row(change: Change, fact: Fact) -> EventRow:
    return EventRow(
        id=uuid5(change.id, f"{fact.type}/{fact.subject_id}"),
        organization_id=change.organization_id,
        connection_id=None if change.connection_id == NO_CONNECTION else change.connection_id,
        token_id=change.token_id,
        actor=change.actor,
        change_id=change.id,
        type=fact.type.value,
        subject_type=fact.subject_type.value,
        subject_id=fact.subject_id,
        at=change.received_at,
        data=fact.data,
    )
