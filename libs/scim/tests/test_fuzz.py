"""Whatever bytes come in, a parser answers or refuses with a ScimError, and never with a 500.

A bounded part runs with the tests, from examples that Hypothesis mutates. `make fuzz` runs this file as a program: it
lets atheris look for inputs that reach new code.
"""

import importlib
import json
import sys
import tempfile
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    # Modules are instrumented when they are first imported. Where atheris has no wheel there is no `make fuzz`.
    with importlib.import_module("atheris").instrument_imports(include=["scim"]):
        importlib.import_module("scim.bulk")
        importlib.import_module("scim.patch")

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scim.bulk import parse_bulk
from scim.errors import ScimError
from scim.filter import compile_filter, matches
from scim.grammar import parse_filter, parse_path
from scim.patch import apply_patch, operations_from_json, operations_to_json, parse_patch
from scim.resource import parse_resource, render
from scim.schema import CORE_USER, ENTERPRISE_USER, GROUP, PATCH_OP, USER, ResourceType
from scim.strictjson import loads
from scim.urns import BULK_REQUEST

ADA = {
    "userName": "ada",
    "name": {"givenName": "Ada"},
    "emails": [{"type": "work", "value": "ada@example.com", "primary": True}],
    ENTERPRISE_USER: {"manager": {"value": "1"}},
}
SHOWN = render(USER, ADA, id="1", created="2026-01-02T03:04:05Z", last_modified="2026-01-02T03:04:05Z", version=1,
               location="https://example.com/1")  # fmt: skip


class Endpoint:
    """Reads a body as the library does."""

    def __init__(self, resource_type: ResourceType) -> None:
        self._type = resource_type

    def resource_content(self, document: Any) -> Any:
        return parse_resource(self._type, document)

    def patch_content(self, document: Any, resource_id: str) -> Any:
        return parse_patch(self._type, document, resource_id=resource_id)


ENDPOINTS = {"/Users": Endpoint(USER), "/Groups": Endpoint(GROUP)}


def read_json(data: bytes) -> None:
    value = loads(data)
    assert value == json.loads(data.decode().removeprefix("\ufeff"))


def read_resource(data: bytes) -> None:
    resource = parse_resource(USER, loads(data))
    assert parse_resource(USER, {"schemas": [CORE_USER], **resource}) == resource


def read_filter(data: bytes) -> None:
    text = data.decode(errors="replace")
    parsed = parse_filter(text)
    assert parse_filter(str(parsed)) == parsed
    matches(USER, parsed, SHOWN)
    compile_filter(USER, text)


def read_path(data: bytes) -> None:
    parse_path(data.decode(errors="replace"))


def read_patch(data: bytes) -> None:
    operations = parse_patch(USER, loads(data), resource_id="1")
    assert operations_from_json(USER, operations_to_json(operations)) == operations
    apply_patch(USER, ADA, operations)


def read_bulk(data: bytes) -> None:
    ids = map(str, count())
    for operation in parse_bulk(loads(data), ENDPOINTS, ids.__next__).operations:
        assert operation.error or operation.content is not None or operation.method == "DELETE"


def _patch(**operation: Any) -> dict[str, Any]:
    return {"schemas": [PATCH_OP], "Operations": [operation]}


USER_DOCUMENT = {"schemas": [CORE_USER, ENTERPRISE_USER], "id": "7", **ADA}
EXAMPLES: dict[str, tuple[Callable[[bytes], None], list[Any]]] = {
    "json": (read_json, [USER_DOCUMENT, [1.5, -2, "\u00e9\\ud83d\\ude00", None, True]]),
    "resource": (read_resource, [USER_DOCUMENT, {"schemas": [CORE_USER], "userName": "a", "name.givenName": "x"}]),
    "filter": (
        read_filter,
        [
            'userName eq "ada" and not (emails[type eq "work" and value co "@"] or title pr)',
            f'{ENTERPRISE_USER}:manager.value ne "1"',
            'meta.created gt "2026-01-02T03:04:05+02:00" or active eq true',
        ],
    ),
    "path": (read_path, ['emails[type eq "work"].value', f"{ENTERPRISE_USER}:manager.value", "name.givenName"]),
    "patch": (
        read_patch,
        [
            _patch(op="Replace", path='emails[type eq "work"].value', value="x@example.com"),
            _patch(op="add", value={"name.familyName": "L", f"{ENTERPRISE_USER}:manager": "2", "active": "False"}),
            _patch(op="remove", path="emails", value=[{"value": "ada@example.com"}]),
        ],
    ),
    "bulk": (
        read_bulk,
        [
            {
                "schemas": [BULK_REQUEST],
                "failOnErrors": 1,
                "Operations": [
                    {"method": "POST", "path": "/Users", "bulkId": "a", "data": USER_DOCUMENT},
                    {"method": "PATCH", "path": "/Groups/bulkId:g",
                     "data": _patch(op="add", path="members", value=[{"value": "bulkId:a"}])},
                    {"method": "DELETE", "path": "/Users/1", "version": 'W/"1"'},
                ],
            }
        ],
    ),
}  # fmt: skip


def seeds(examples: list[Any]) -> list[bytes]:
    return [(example if isinstance(example, str) else json.dumps(example)).encode() for example in examples]


def accepts_or_refuses(target: Callable[[bytes], None], data: bytes) -> None:
    try:
        target(data)
    except ScimError as error:
        assert 400 <= error.status < 500  # noqa: PT017


@st.composite
def mutations(draw: st.DrawFn, seed: bytes) -> bytes:
    """`seed` with some slices of it, or of anything, put elsewhere."""
    data = seed
    for _ in range(draw(st.integers(0, 4))):
        start, end = sorted((draw(st.integers(0, len(data))), draw(st.integers(0, len(data)))))
        own = st.builds(lambda a, b, data=data: data[a:b], st.integers(0, len(data)), st.integers(0, len(data)))
        odd = st.sampled_from([b'"', b"{}", b"[]", b"null", b"0", b"true", b"\\u0000", b"\xff", b"(", b" or ", b"."])
        data = data[:start] + draw(own | odd | st.binary(max_size=4)) + data[end:]
    return data


@pytest.mark.parametrize("name", EXAMPLES)
@settings(max_examples=400, deadline=None)
@given(data=st.data())
def test_t29_t33_a_parser_accepts_or_refuses_and_never_breaks(name: str, data: st.DataObject):
    target, examples = EXAMPLES[name]
    seed = data.draw(st.sampled_from(seeds(examples)))
    accepts_or_refuses(target, data.draw(mutations(seed)))


def main() -> None:
    """Arguments: a target's name, then libFuzzer's options, such as `-max_total_time=60`."""
    target, examples = EXAMPLES[sys.argv.pop(1)]
    with tempfile.TemporaryDirectory() as corpus:
        for number, seed in enumerate(seeds(examples)):
            Path(corpus, str(number)).write_bytes(seed)
        fuzzer = importlib.import_module("atheris")
        fuzzer.Setup([*sys.argv, corpus], lambda data: accepts_or_refuses(target, data))
        fuzzer.Fuzz()


if __name__ == "__main__":
    main()
