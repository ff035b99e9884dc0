"""A log and a transactional store, as Kafka and Postgres promise to be, and what must hold of every commit."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

from contracts import CHANGES, Change
from provisioner.batch import decide_all
from provisioner.records import Record, decode
from provisioner.results import Results
from provisioner.state import Connection, Directory

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


def at(seconds: float) -> datetime:
    """The moment of a virtual time."""
    return EPOCH + timedelta(seconds=seconds)


class FenceFailed(Exception):
    """The offset or the epoch is not the claim's any more."""


class Duplicate(Exception):
    """A change has an outcome already: Postgres would refuse its row."""


@dataclass(frozen=True, slots=True)
class Claim:
    next_offset: int
    epoch: int
    owner: str


@dataclass(slots=True)
class Log:
    """One partition of `scim.changes`."""

    records: list[Record] = field(default_factory=list)

    def append(self, change: Change) -> None:
        value = change.model_dump_json(exclude_none=True).encode()
        self.records.append(Record(CHANGES.name, 0, len(self.records), None, value))

    def change(self, offset: int) -> Change:
        change = decode(self.records[offset])
        assert isinstance(change, Change)
        return change


@dataclass(slots=True)
class Store:
    """The committed directory, its outcomes, and the partition's offset; a flush is all or nothing."""

    log: Log
    directory: Directory
    next_offset: int = 0
    epoch: int = 0
    outcomes: dict[UUID, bytes] = field(default_factory=dict)
    applied_at: dict[int, datetime] = field(default_factory=dict)
    """By offset, for the replay: whether a create came late depends on it."""
    violations: list[str] = field(default_factory=list)

    def claim(self, owner: str) -> Claim:
        self.epoch += 1
        return Claim(self.next_offset, self.epoch, owner)

    def load(self) -> Directory:
        return snapshot(self.directory)

    def current(self, held: Claim) -> Claim:
        return replace(held, next_offset=self.next_offset, epoch=self.epoch)

    def advance(self, held: Claim, end: int) -> None:
        """The fence alone; raises FenceFailed."""
        if (self.next_offset, self.epoch) != (held.next_offset, held.epoch):
            raise FenceFailed
        self.next_offset = end

    def flush(
        self, held: Claim, end: int, directory: Directory, results: Results, now: datetime, *, is_fenced: bool = True
    ) -> None:
        """Commit what a batch decided on `directory`, or raise FenceFailed or Duplicate and change nothing."""
        if is_fenced and (self.next_offset, self.epoch) != (held.next_offset, held.epoch):
            raise FenceFailed
        new = {change.id: reply for change, _, reply in results.decided}
        if new.keys() & self.outcomes.keys():
            raise Duplicate
        self._check_claim(held, end)
        self.next_offset = end
        self.directory = snapshot(directory)
        self.outcomes |= new
        for offset in range(held.next_offset, end):
            self.applied_at.setdefault(offset, now)

    def _check_claim(self, held: Claim, end: int) -> None:
        """P9: nobody commits whose claim another has taken over, and the offset never goes back."""
        if held.epoch != self.epoch or end < self.next_offset:
            changes = ", ".join(map(describe, map(self.log.change, range(held.next_offset, end))))
            self.violations.append(
                f"P9: {held.owner} committed offsets {held.next_offset} to {end} under epoch {held.epoch} while epoch "
                f"{self.epoch} stood at offset {self.next_offset}: {changes}"
            )


def snapshot(directory: Directory) -> Directory:
    """A copy that shares the rows, which are values, and none of the collections nor those in them."""
    copied = copy.copy(directory)
    for name, value in vars(directory).items():
        if isinstance(value, dict | list | set):
            value = value.copy()
        if isinstance(value, dict):
            for key, inner in value.items():
                if isinstance(inner, dict | set):
                    value[key] = inner.copy()
        setattr(copied, name, value)
    return copied


def new_directory(connection: Connection, token_id: UUID) -> Directory:
    return Directory(connections=[connection], live_tokens=[token_id])


def replayed(start: Directory, records: Sequence[Record], applied_at: dict[int, datetime]) -> Directory:
    """The directory that the log makes when it is applied from the start, one change at a time."""
    directory = snapshot(start)
    for record in records:
        decide_all(directory, [(record, decode(record))], applied_at[record.offset])
    return directory


def describe(change: Change) -> str:
    """A change in a word: what it does to what."""
    content = change.resource or change.patch or change.members or ""
    return f"{change.operation} {change.resource_type} {str(change.resource_id)[-6:]} {content}"
