"""The records of `scim.changes`, and reading the change that one holds."""

from dataclasses import dataclass
from uuid import NAMESPACE_URL, UUID, uuid5

import orjson
from pydantic import ValidationError

from contracts import CHANGE_VERSION, Change


@dataclass(frozen=True, slots=True)
class Record:
    """One Kafka record of `scim.changes`."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    sent_at: int = 0  # Unix milliseconds


@dataclass(frozen=True, slots=True)
class Poison:
    """A record that cannot be applied, with what is known of it."""

    record: Record
    error: str
    change: Change | None = None

    @property
    def id(self) -> UUID:
        """The same for the same record, so that a redelivery does not quarantine it twice."""
        return uuid5(NAMESPACE_URL, f"kafka:{self.record.topic}/{self.record.partition}/{self.record.offset}")


class NewerVersion(Exception):
    """A record from a newer release: a mistake in the order of a roll-out, not poison. The consumer must stop."""


type Item = tuple[Record, Change | Poison]


def decode(record: Record) -> Change | Poison:
    """The record's change; raises NewerVersion."""
    try:
        return Change.model_validate_json(record.value or b"")
    except ValidationError as error:
        return _undecodable(record, error)


def _undecodable(record: Record, error: ValidationError) -> Poison:
    try:
        seen = orjson.loads(record.value or b"")
    except orjson.JSONDecodeError:
        return Poison(record, "not JSON")
    if not isinstance(seen, dict):
        return Poison(record, "not a JSON object")
    version = seen.get("version")
    if isinstance(version, int) and version > CHANGE_VERSION:
        raise NewerVersion(
            f"record {record.topic}/{record.partition}@{record.offset} has version {version}, "
            f"this release knows up to {CHANGE_VERSION}: deploy the newer provisioner"
        )
    where = sorted({".".join(str(part) for part in problem["loc"]) for problem in error.errors(include_input=False)})
    return Poison(record, f"not a change: {', '.join(where)[:500]}")
