"""The AsyncAPI document is that of the code, and nothing in it breaks who is deployed."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from contracts import TOPICS
from contracts.asyncapi import breaks, document, main, schemas

DOCUMENT = Path(__file__).parents[3] / "docs" / "asyncapi.json"
RECORDED = sorted((Path(__file__).parent / "schemas").glob("*.json"))


def test_the_committed_document_is_current():
    assert json.loads(DOCUMENT.read_text()) == document(), "run `make asyncapi`"


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
def test_nothing_breaks_who_knows_the_recorded_schemas(path: Path):
    assert breaks(json.loads(path.read_text()), schemas()) == []


def test_every_topic_is_a_channel_and_every_reference_leads_somewhere():
    whole = document()

    assert {channel["address"] for channel in whole["channels"].values()} == {topic.name for topic in TOPICS}
    for reference in references(whole):
        found: Any = whole
        for name in reference.removeprefix("#/").split("/"):
            found = found[name]


def references(part: Any) -> list[str]:
    if isinstance(part, list):
        return [reference for each in part for reference in references(each)]
    if not isinstance(part, dict):
        return []
    own = [part["$ref"]] if isinstance(part.get("$ref"), str) else []
    return own + [reference for each in part.values() for reference in references(each)]


def changed(edit: Callable[[dict[str, Any]], object]) -> list[str]:
    """What breaks when the schemas are edited."""
    after = copy.deepcopy(schemas())
    edit(after)
    return breaks(schemas(), after)


def raise_version(schema: dict[str, Any], to: int) -> None:
    schema["Change"]["properties"]["version"]["enum"].append(to)


def test_an_optional_member_may_be_added():
    assert changed(lambda new: new["Change"]["properties"].update(note={"type": "string"})) == []


def test_words_for_people_may_change():
    assert changed(lambda new: new["Change"].update(description="another")) == []


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (lambda new: new.pop("Refusal"), "Refusal is gone"),
        (lambda new: new["Change"]["properties"].pop("actor"), "Change.actor is gone"),
        (lambda new: new["Change"]["properties"].update(actor={"type": "integer"}), "Change.actor changes its type"),
        (lambda new: new["Change"]["required"].append("token_id"), "Change.token_id is required now"),
        (lambda new: new["Change"]["required"].remove("actor"), "Change.actor is not required any more"),
        (lambda new: new["Operation"]["enum"].append("merge"), "Operation gains ['merge'], which an older reader"),
        (lambda new: new["Operation"]["enum"].remove("bulk"), "Operation loses ['bulk']"),
    ],
    ids=["gone schema", "gone member", "other type", "required now", "optional now", "new value", "lost value"],
)
def test_what_an_older_reader_or_writer_would_get_wrong_is_named(edit: Callable[[dict[str, Any]], object], says: str):
    (problem, *others) = changed(edit)

    assert problem.startswith(says)
    assert others == []


def test_with_a_new_version_values_may_be_added():
    def edit(new: dict[str, Any]) -> None:
        new["Operation"]["enum"].append("merge")
        raise_version(new, 3)

    assert changed(edit) == []


def test_a_document_that_breaks_a_promise_is_not_written(tmp_path: Path):
    before = document()
    before["components"]["schemas"]["Change"]["properties"]["colour"] = {"type": "string"}
    path = tmp_path / "asyncapi.json"
    path.write_text(json.dumps(before))

    with pytest.raises(SystemExit, match="Change.colour is gone"):
        main(path)
    assert json.loads(path.read_text()) == before
