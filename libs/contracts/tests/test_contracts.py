"""What crosses a process boundary stays readable: golden records of every version, topics as the design has them."""

import json
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import ValidationError

from contracts import (
    CHANGE_VERSION,
    CHANGES,
    MAX_RECORD_BYTES,
    OUTCOMES,
    REFUSALS,
    TOPICS,
    Change,
    Event,
    Outcome,
    RefusedRequest,
)

GOLDEN = Path(__file__).parent / "golden"
MESSAGES = {"change": Change, "outcome": Outcome, "refused": RefusedRequest, "event": Event}


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.json")), ids=lambda path: path.stem)
def test_a_golden_record_is_read_and_written_as_it_was(path: Path):
    message = MESSAGES[path.stem.partition("_")[0]]
    golden = json.loads(path.read_text())

    written = json.loads(message.model_validate(golden).model_dump_json(exclude_none=True))

    assert written == golden


@pytest.mark.parametrize("message", [Change, Outcome])
def test_a_reader_ignores_what_it_does_not_know(message):
    golden = json.loads((GOLDEN / f"{message.__name__.lower()}_v1_user.json").read_text())

    assert message.model_validate(golden | {"added_later": 1}) == message.model_validate(golden)


def test_a_newer_version_is_not_read():
    golden = json.loads((GOLDEN / "change_v1_user.json").read_text())

    with pytest.raises(ValidationError, match="version"):
        Change.model_validate(golden | {"version": CHANGE_VERSION + 1})


def test_topics_are_as_the_design_has_them():
    assert {topic.name: topic.partitions for topic in TOPICS} == {
        "scim.changes": 12,
        "scim.outcomes": 12,
        "scim.refusals": 3,
        "directory.events": 12,
        "scim.changes.dlq": 3,
    }
    assert CHANGES.retention == timedelta(days=7)
    assert REFUSALS.retention == timedelta(days=1)
    assert OUTCOMES.settings() == {
        "retention.ms": "600000",
        "max.message.bytes": str(MAX_RECORD_BYTES),
        "segment.ms": "60000",
    }
