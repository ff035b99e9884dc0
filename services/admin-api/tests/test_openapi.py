"""The description of the API."""

from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from admin_stand import new_client

PATH = "/api/v1/admin/openapi.json"


@pytest.fixture(scope="module")
async def document(app: FastAPI) -> dict[str, Any]:
    async with new_client(app) as client:
        answer: httpx.Response = await client.get(PATH)
    assert answer.status_code == 200
    return answer.json()


def operations(document: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return [
        (f"{method.upper()} {path}", operation)
        for path, of_path in document["paths"].items()
        for method, operation in of_path.items()
    ]


def test_every_operation_is_described_with_its_answer_and_its_refusals(document: dict[str, Any]) -> None:
    assert operations(document)
    for name, operation in operations(document):
        assert operation["description"], name
        assert operation["tags"], name
        assert "422" not in operation["responses"], name
        [success] = [status for status in operation["responses"] if status[0] in "23"]
        if success in ("200", "201"):
            assert operation["responses"][success]["content"], name
        refused = [status for status in operation["responses"] if status[0] in "45"]
        for status in refused:
            schema = operation["responses"][status]["content"]["application/json"]["schema"]
            assert schema == {"$ref": "#/components/schemas/Refusal"}, name
        if "security" in operation:
            assert "401" in refused, name
        if "{" in name:
            assert "404" in refused, name


def test_operations_have_names_of_their_own(document: dict[str, Any]) -> None:
    names = [operation["operationId"] for _, operation in operations(document)]

    assert len(names) == len(set(names)), sorted(name for name in names if names.count(name) > 1)


def test_nothing_refers_to_what_is_not_there(document: dict[str, Any]) -> None:
    def references(value: Any) -> set[str]:
        if isinstance(value, dict):
            own = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
            return own.union(*map(references, value.values()))
        return set().union(*map(references, value)) if isinstance(value, list) else set()

    known = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    assert references(document) <= known


def test_requests_and_answers_have_examples(document: dict[str, Any]) -> None:
    """At least the refusals, and the bodies that people write by hand."""
    schemas = document["components"]["schemas"]
    assert schemas["Refusal"]["examples"]
    for name in ("NewMapping", "NewRole", "NewKey", "NewOrganization", "NewAccount"):
        properties = schemas[name]["properties"]
        assert any("examples" in described for described in properties.values()), name
