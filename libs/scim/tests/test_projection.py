from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scim.errors import InvalidPath, InvalidValue, ScimError
from scim.projection import EVERYTHING, Projection
from scim.schema import CORE_GROUP, CORE_USER, ENTERPRISE_USER, GROUP, USER, schema_from_json

RENDERED: dict[str, Any] = {
    "schemas": [CORE_USER, ENTERPRISE_USER],
    "id": "7",
    "externalId": "e7",
    "userName": "ada",
    "name": {"givenName": "Ada", "familyName": "King"},
    "emails": [{"value": "a@x", "type": "work", "primary": True}, {"value": "b@x"}],
    ENTERPRISE_USER: {"department": "R", "manager": {"value": "1", "$ref": "../Users/1"}},
    "groups": [{"value": "g1", "display": "G"}],
    "meta": {"resourceType": "User", "version": 'W/"1"'},
}
ALWAYS = {"schemas": RENDERED["schemas"], "id": "7"}


def without(*names: str) -> dict[str, Any]:
    return {name: value for name, value in RENDERED.items() if name not in names}


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ("userName", {"userName": "ada"}),
        ("USERNAME", {"userName": "ada"}),
        (" userName , externalId ", {"userName": "ada", "externalId": "e7"}),
        (["userName", "externalId"], {"userName": "ada", "externalId": "e7"}),
        (f"{CORE_USER}:userName", {"userName": "ada"}),
        (f"{CORE_USER.upper()}:userName", {"userName": "ada"}),
        ("id", {}),
        ("nope", {}),
        ("nope.value", {}),
        ("name.nope", {}),
        ("urn:example:unknown:attribute", {}),
        ("title", {}),
        ("name", {"name": RENDERED["name"]}),
        ("name.givenName", {"name": {"givenName": "Ada"}}),
        ("Name.GIVENNAME,name.familyName", {"name": RENDERED["name"]}),
        ("name.givenName,name", {"name": RENDERED["name"]}),
        ("name,name.givenName", {"name": RENDERED["name"]}),
        ("emails.value", {"emails": [{"value": "a@x"}, {"value": "b@x"}]}),
        ("emails.type", {"emails": [{"type": "work"}]}),
        ("emails.display", {}),
        ("meta.version", {"meta": {"version": 'W/"1"'}}),
        (ENTERPRISE_USER, {ENTERPRISE_USER: RENDERED[ENTERPRISE_USER]}),
        (f"{ENTERPRISE_USER}:department", {ENTERPRISE_USER: {"department": "R"}}),
        (f"{ENTERPRISE_USER}:manager.value", {ENTERPRISE_USER: {"manager": {"value": "1"}}}),
        (f"{ENTERPRISE_USER}:nope", {}),
        ("department", {ENTERPRISE_USER: {"department": "R"}}),
        ("manager.value", {ENTERPRISE_USER: {"manager": {"value": "1"}}}),
        (CORE_USER, {key: RENDERED[key] for key in ("userName", "name", "emails", "groups")}),
        ("password", {}),
    ],
)
def test_attributes_select_what_is_returned_beside_id_and_schemas(attributes: Any, expected: dict[str, Any]):
    assert Projection.parse(attributes).apply(USER, RENDERED) == ALWAYS | expected


@pytest.mark.parametrize(
    ("excluded", "expected"),
    [
        ("emails", without("emails")),
        ("EMAILS,groups", without("emails", "groups")),
        ("id,schemas", RENDERED),
        ("nope", RENDERED),
        ("name.familyName", RENDERED | {"name": {"givenName": "Ada"}}),
        ("name.familyName,name.givenName", without("name")),
        ("emails.type,emails.primary", RENDERED | {"emails": [{"value": "a@x"}, {"value": "b@x"}]}),
        (ENTERPRISE_USER, without(ENTERPRISE_USER)),
        (f"{ENTERPRISE_USER}:manager", RENDERED | {ENTERPRISE_USER: {"department": "R"}}),
        (f"{CORE_USER}:emails", without("emails")),
        ("meta", without("meta")),
    ],
)
def test_excluded_attributes_are_left_out_except_id_and_schemas(excluded: str, expected: dict[str, Any]):
    assert Projection.parse(None, excluded).apply(USER, RENDERED) == expected


def test_when_both_are_given_both_hold():
    both = Projection.parse("userName,name", "name.familyName")
    assert both.apply(USER, RENDERED) == ALWAYS | {"userName": "ada", "name": {"givenName": "Ada"}}


@pytest.mark.parametrize("nothing", [None, "", " ", ",", " , ", [], [""]])
def test_empty_parameters_are_as_if_absent(nothing: Any):
    assert Projection.parse(nothing, nothing) is EVERYTHING
    assert EVERYTHING.apply(USER, RENDERED) is RENDERED


def test_entras_group_read_leaves_the_members_out():
    projection = Projection.parse(None, "members")
    group = {"schemas": [CORE_GROUP], "id": "1", "displayName": "G", "members": [{"value": "7"}]}
    assert projection.apply(GROUP, group) == {"schemas": [CORE_GROUP], "id": "1", "displayName": "G"}
    assert not projection.wants("members")


@pytest.mark.parametrize(
    ("attributes", "excluded", "wanted"),
    [
        (None, None, True),
        ("members", None, True),
        ("MEMBERS.value", None, True),
        (f"{CORE_GROUP}:members", None, True),
        (CORE_GROUP, None, True),
        ("displayName", None, False),
        ("membersOf", None, False),
        (None, "members", False),
        (None, f"{CORE_GROUP}:Members", False),
        (None, "members.display", True),
        ("members", "members", False),
    ],
)
def test_wants_says_whether_members_must_be_loaded(attributes: str | None, excluded: str | None, wanted: bool):
    assert Projection.parse(attributes, excluded).wants("members") is wanted
    assert Projection.parse(attributes, excluded).wants("Members") is wanted


@pytest.mark.parametrize(
    "name",
    [
        "id;drop",
        "a b",
        'emails[type eq "work"]',
        "a..b",
        ".a",
        "a.",
        "a.b.c",
        "'",
        '"',
        "é",
        "a\u0000",
        ":",
        "x" * 4_097,
    ],
)
def test_t32_what_is_no_attribute_name_is_refused(name: str):
    for arguments in ((name, None), (None, name), ([name], None)):
        with pytest.raises((InvalidPath, InvalidValue)) as refusal:
            Projection.parse(*arguments)
        assert name not in refusal.value.detail


@pytest.mark.parametrize("value", [5, {"a": 1}, [1], [None], [["userName"]], True, ",".join(["a"] * 102)])
def test_a_parameter_of_the_wrong_type_or_size_is_refused(value: Any):
    with pytest.raises(InvalidValue):
        Projection.parse(value)


SECRETIVE = USER.with_extensions(
    schema_from_json(
        {
            "id": "urn:example:X",
            "name": "X",
            "attributes": [
                {"name": "open"},
                {"name": "hidden", "returned": "never"},
                {"name": "asked", "returned": "request"},
                {"name": "fixed", "returned": "always"},
                {
                    "name": "box",
                    "type": "complex",
                    "subAttributes": [
                        {"name": "lid"},
                        {"name": "key", "returned": "never"},
                        {"name": "map", "returned": "request"},
                        {"name": "tag", "returned": "always"},
                    ],
                },
            ],
        }
    )
)
BOX = {"lid": "l", "key": "k", "map": "m", "tag": "t"}
HOLDER = {"schemas": [], "id": "1", "urn:example:X": {"open": 1, "hidden": 2, "asked": 3, "fixed": 4, "box": BOX}}


@pytest.mark.parametrize(
    ("attributes", "excluded", "expected"),
    [
        (None, None, {"open": 1, "fixed": 4, "box": {"lid": "l", "tag": "t"}}),
        ("urn:example:X:asked", None, {"asked": 3, "fixed": 4}),
        ("urn:example:X:hidden", None, {"fixed": 4}),
        ("urn:example:X", None, {"open": 1, "fixed": 4, "box": {"lid": "l", "tag": "t"}}),
        ("urn:example:X:box.lid", None, {"fixed": 4, "box": {"lid": "l", "tag": "t"}}),
        ("urn:example:X:box.map", None, {"fixed": 4, "box": {"map": "m", "tag": "t"}}),
        ("urn:example:X:box.key", None, {"fixed": 4, "box": {"tag": "t"}}),
        (None, "urn:example:X", {"fixed": 4}),
        (None, "urn:example:X:fixed,urn:example:X:box", {"open": 1, "fixed": 4}),
        (None, "urn:example:X:box.tag", {"open": 1, "fixed": 4, "box": {"lid": "l", "tag": "t"}}),
        ("userName", None, {"fixed": 4}),
    ],
)
def test_what_is_returned_never_always_or_on_request_is_kept_so(
    attributes: str | None, excluded: str | None, expected: dict[str, Any]
):
    assert Projection.parse(attributes, excluded).apply(SECRETIVE, HOLDER)["urn:example:X"] == expected


NAMES = st.lists(
    st.sampled_from(["userName", "name", "name.givenName", "emails.value", "id", "schemas", "password", "nope",
                     ENTERPRISE_USER, CORE_USER, f"{ENTERPRISE_USER}:manager", f"{ENTERPRISE_USER}:manager.value"])
    | st.text(max_size=6),
    max_size=4,
)  # fmt: skip


@given(NAMES, NAMES)
def test_any_names_give_a_part_of_the_resource_or_a_scim_error(attributes: list[str], excluded: list[str]):
    try:
        projection = Projection.parse(attributes, excluded)
    except ScimError:
        return
    part = projection.apply(USER, RENDERED)
    assert {"id", "schemas"} <= part.keys() <= RENDERED.keys()
    assert projection.apply(USER, part) == part
