"""What PATCH does to a resource, from the request as a client sends it."""

import copy
import json
from contextlib import suppress
from pathlib import Path as File
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scim.errors import InvalidFilter, InvalidPath, InvalidValue, Mutability, NoTarget, PayloadTooLarge, ScimError
from scim.patch import (
    MemberChange,
    Operation,
    Path,
    apply_patch,
    member_changes_from_json,
    member_changes_to_json,
    operations_from_json,
    operations_to_json,
    parse_patch,
    split_members,
)
from scim.resource import parse_resource
from scim.schema import ENTERPRISE_USER, GROUP, PATCH_OP, USER, Attribute, ResourceType, Schema

type Json = dict[str, Any]

ENT = ENTERPRISE_USER
MARA: Json = {
    "userName": "ada@example.com",
    "externalId": "ext-1",
    "name": {"formatted": "Mara Quill", "familyName": "Quill", "givenName": "Mara"},
    "displayName": "Mara Quill",
    "active": True,
    "emails": [{"value": "ada@example.com", "type": "work", "primary": True}],
    "phoneNumbers": [{"type": "work", "value": "555-0100"}],
    ENT: {"department": "Tooling", "manager": {"value": "user-9"}},
}
TEAM: Json = {"displayName": "Team", "members": [{"value": "user-1"}, {"value": "user-2"}]}
IDS = {"User": "user-1", "Group": "group-1"}


def op(name: str, path: str | None = None, *value: Any) -> Json:
    return {"op": name} | ({"path": path} if path is not None else {}) | ({"value": value[0]} if value else {})


def operations_of(rt: ResourceType, *sent: Json) -> list[Operation]:
    return parse_patch(rt, {"schemas": [PATCH_OP], "Operations": list(sent)}, resource_id=IDS[rt.id])


def patched(resource: Json, *sent: Json, rt: ResourceType = USER) -> Json:
    """`resource` after a request, which has passed through the log."""
    before = copy.deepcopy(resource)
    operations = operations_of(rt, *sent)
    recorded = json.loads(json.dumps(operations_to_json(operations)))
    assert operations_from_json(rt, recorded) == operations
    try:
        return apply_patch(rt, resource, operations)
    finally:
        assert resource == before


def user(**attributes: Any) -> Json:
    return {"userName": "ada", **attributes}


def emails(*values: Json) -> Json:
    return user(emails=list(values))


WORK = {"value": "w@x", "type": "work"}
HOME = {"value": "h@x", "type": "home"}


# --- recordings of Okta and Entra ------------------------------------------------------------------------------------

RECORDED = json.loads((File(__file__).parent / "idp_patches.json").read_text())


@pytest.mark.parametrize("case", RECORDED, ids=[f"{case['case']}-{number}" for number, case in enumerate(RECORDED)])
def test_a_recorded_request_does_what_its_client_means(case: Json):
    """`changes` names each attribute that differs: before, after (null: unassigned)."""
    rt, before = (GROUP, TEAM) if case["resourceType"] == "Group" else (USER, MARA)
    before = {name: value for name, value in before.items() if name not in case.get("without", ())}
    if "refused" in case:
        with pytest.raises(ScimError) as caught:
            operations_of(rt, *case["operations"])
        assert caught.value.scim_type == case["refused"]
        return
    assert operations_to_json(operations_of(rt, *case["operations"])) == case["canonical"]

    after = patched(before, *case["operations"], rt=rt)

    assert {
        name: [before.get(name), after.get(name)] for name in before | after if before.get(name) != after.get(name)
    } == (case["changes"])
    assert (after is before) is (not case["changes"])


# --- before, request, after ------------------------------------------------------------------------------------------

CASES: list[tuple[Json, list[Json], Json]] = [
    # single values
    (user(), [op("add", "title", "x")], user(title="x")),
    (user(title="x"), [op("add", "title", "y")], user(title="y")),
    (user(title="x"), [op("remove", "title")], user()),
    (user(title="x"), [op("replace", "title", None)], user()),
    (user(), [op("remove", "title")], user()),
    (user(active=True), [op("replace", "active", "False")], user(active=False)),
    (user(), [op("replace", "userName", "Bob")], {"userName": "Bob"}),
    # complex
    (user(), [op("add", "name.familyName", "R")], user(name={"familyName": "R"})),
    (user(name={"familyName": "R", "givenName": "A"}), [op("remove", "name.familyName")],
     user(name={"givenName": "A"})),
    (user(name={"familyName": "R"}), [op("remove", "name.familyName")], user()),
    (user(name={"familyName": "R"}), [op("remove", "name")], user()),
    (user(name={"familyName": "R"}), [op("replace", "name", {"familyName": None, "givenName": "A"})],
     user(name={"givenName": "A"})),
    # extensions
    (user(), [op("add", f"{ENT}:department", "x")], user(**{ENT: {"department": "x"}})),
    (user(**{ENT: {"department": "x"}}), [op("remove", f"{ENT}:department")], user()),
    (user(**{ENT: {"department": "x", "division": "y"}}), [op("remove", ENT)], user()),
    (user(**{ENT: {"department": "x", "division": "y"}}), [op("replace", None, {ENT: {"division": "z"}})],
     user(**{ENT: {"department": "x", "division": "z"}})),
    (user(**{ENT: {"manager": {"value": "m", "$ref": "../m"}}}), [op("replace", f"{ENT}:manager", "n")],
     user(**{ENT: {"manager": {"value": "n"}}})),
    (user(**{ENT: {"manager": {"value": "m", "$ref": "../m"}}}), [op("replace", f"{ENT}:manager", {"value": "m"})],
     user(**{ENT: {"manager": {"value": "m", "$ref": "../m"}}})),
    (user(**{ENT: {"manager": {"value": "m", "$ref": "../m"}}}), [op("remove", f"{ENT}:manager.value")], user()),
    # multi-valued: add
    (user(), [op("add", "emails", [WORK])], emails(WORK)),
    (emails(WORK), [op("add", "emails", [HOME, WORK])], emails(WORK, HOME)),
    (emails(WORK), [op("add", "emails", [{"value": "W@X"}])], emails(WORK)),
    (emails(WORK), [op("add", "emails", [WORK | {"type": "other"}])], emails(WORK, WORK | {"type": "other"})),
    (emails(WORK), [op("add", "emails", [WORK | {"primary": True}])], emails(WORK | {"primary": True})),
    (emails(WORK | {"primary": True}), [op("add", "emails", [WORK | {"primary": False}])],
     emails(WORK | {"primary": True})),
    (emails(WORK), [op("add", "emails", [HOME, HOME])], emails(WORK, HOME)),
    # multi-valued: replace
    (emails(WORK), [op("replace", "emails", [HOME])], emails(HOME)),
    (emails(WORK), [op("replace", "emails", HOME)], emails(HOME)),
    (emails(WORK), [op("replace", "emails", [])], user()),
    (emails(WORK), [op("replace", "emails", [{"type": "work"}])], user()),
    # multi-valued: remove
    (emails(WORK, HOME), [op("remove", "emails")], user()),
    (emails(WORK, HOME), [op("remove", "emails", [{"value": "W@x"}])], emails(HOME)),
    (emails(WORK, HOME), [op("remove", "emails", [WORK | {"display": "old"}, HOME])], user()),
    (emails(WORK), [op("remove", "emails", [WORK | {"type": "home"}])], emails(WORK)),
    (emails(WORK), [op("remove", "emails", [{"value": "other@x"}])], emails(WORK)),
    (user(addresses=[{"locality": "Bath", "type": "work"}, {"region": "SOM"}]),
     [op("remove", "addresses", [{"locality": "bath"}])], user(addresses=[{"region": "SOM"}])),
    # value paths
    (emails(WORK, HOME), [op("replace", 'emails[type eq "work"].value', "n@x")], emails(WORK | {"value": "n@x"}, HOME)),
    (emails(WORK, HOME), [op("replace", 'emails[type eq "work"].type', "home")], emails(WORK | {"type": "home"}, HOME)),
    (emails(WORK, HOME), [op("remove", 'emails[type eq "work"]')], emails(HOME)),
    (emails(WORK, HOME), [op("remove", 'emails[not (type eq "work")]')], emails(WORK)),
    (emails(WORK, HOME), [op("remove", 'emails[value co "@"]')], user()),
    (emails(WORK), [op("remove", 'emails[type eq "none"]')], emails(WORK)),
    (emails(WORK, HOME), [op("remove", 'emails[type eq "work"].type')], emails({"value": "w@x"}, HOME)),
    (emails(WORK), [op("remove", 'emails[type eq "work"].value')], user()),
    (emails(WORK | {"primary": True}), [op("replace", 'emails[type eq "work"].value', "")], user()),
    (emails(WORK | {"display": "W"}), [op("replace", 'emails[type eq "work"]', {"value": "n@x"})],
     emails({"value": "n@x", "type": "work"})),
    (emails(WORK | {"display": "W"}), [op("replace", 'emails[type eq "work"]', {"value": "n@x", "type": "home"})],
     emails({"value": "n@x", "type": "home"})),
    (emails(WORK | {"display": "W"}), [op("add", 'emails[type eq "work"]', {"value": "n@x"})],
     emails(WORK | {"value": "n@x", "display": "W"})),
    (user(), [op("add", 'emails[type eq "work"]', {"value": "n@x"})], emails({"value": "n@x", "type": "work"})),
    (user(), [op("replace", 'emails[type eq "work"].value', "n@x")], emails({"value": "n@x", "type": "work"})),
    (user(), [op("add", 'emails[type eq "work" and primary eq true].value', "n@x")],
     emails({"value": "n@x", "type": "work", "primary": True})),
    (emails(WORK, HOME), [op("replace", "emails.type", "other")],
     emails(WORK | {"type": "other"}, HOME | {"type": "other"})),
    (user(), [op("add", "emails.value", "n@x")], emails({"value": "n@x"})),
    (emails(WORK, HOME), [op("remove", "emails.type")], emails({"value": "w@x"}, {"value": "h@x"})),
    (emails(WORK, WORK | {"type": "home"}), [op("remove", "emails.type")], emails({"value": "w@x"})),
    # primary
    (emails(WORK | {"primary": True}, HOME), [op("replace", 'emails[type eq "home"].primary', "True")],
     emails(WORK | {"primary": False}, HOME | {"primary": True})),
    (emails(WORK | {"primary": True}), [op("replace", 'emails[type eq "home"].primary', True)],
     emails(WORK | {"primary": True})),
    (emails(WORK | {"primary": True}), [op("add", 'emails[type eq "home"].primary', True),
                                        op("add", 'emails[type eq "home"].value', "h@x")],
     emails(WORK | {"primary": False}, HOME | {"primary": True})),
    (user(roles=[{"value": "a", "primary": True}]), [op("replace", 'roles[primary eq "True"].value', "b")],
     user(roles=[{"value": "b", "primary": True}])),
]  # fmt: skip


@pytest.mark.parametrize(
    ("before", "sent", "after"), CASES, ids=[f"{number}-{c[1][0]}" for number, c in enumerate(CASES)]
)
def test_before_request_after(before: Json, sent: list[Json], after: Json):
    result = patched(before, *sent)

    assert result == after
    assert (result is before) is (after == before)
    assert parse_resource(USER, {"schemas": [USER.schema.id], **result}) == result


@pytest.mark.parametrize(
    ("before", "sent", "error"),
    [
        (emails(WORK), op("replace", 'emails[type ne "work"].value', "x@x"), NoTarget),
        (emails(WORK), op("replace", 'emails[type eq "home" and primary eq true].value', "x@x"), NoTarget),
        (emails(WORK), op("add", 'emails[type sw "h"].value', "x@x"), NoTarget),
        (emails(WORK), op("replace", 'emails[type sw "h"]', {"value": "x@x"}), NoTarget),
        (emails(WORK, HOME), op("replace", 'emails[value co "@"].primary', True), InvalidValue),
        (user(), op("remove", "userName"), Mutability),
        (user(), op("replace", "userName", ""), Mutability),
        (user(), op("replace", "userName", None), Mutability),
    ],
)
def test_a_request_that_cannot_be_applied_is_refused(before: Json, sent: Json, error: type[ScimError]):
    with pytest.raises(error):
        patched(before, sent)


# --- rows of scim-behaviour.md: what the tables above do not name ----------------------------------------------------


def test_row_06_nothing_else_changes():
    assert patched(MARA, op("replace", None, {"active": False})) == MARA | {"active": False}


@pytest.mark.parametrize(
    ("sent", "left"),
    [
        ([op("Remove", "members", [{"value": "user-2"}])], ["user-1"]),
        ([op("remove", "members", [{"value": "user-1"}, {"value": "user-2"}])], []),
        ([op("remove", "members", [{"value": "user-9"}])], ["user-1", "user-2"]),
        ([op("remove", 'members[value eq "user-1"]')], ["user-2"]),
        ([op("remove", "members")], []),
        ([op("add", "members", [{"value": "user-1", "type": "User", "display": "x"}])], ["user-1", "user-2"]),
        ([op("add", None, {"members": [{"value": "user-3"}]})], ["user-1", "user-2", "user-3"]),
        ([op("add", "members", [{"value": "user-3"}]), op("remove", "members", [{"value": "user-3"}])],
         ["user-1", "user-2"]),
        ([op("replace", "members", [{"value": "user-3"}])], ["user-3"]),
    ],
)  # fmt: skip
def test_rows_08_to_12_and_65_exactly_the_members_that_are_meant(sent: list[Json], left: list[str]):
    after = patched(TEAM, *sent, rt=GROUP)

    assert [member["value"] for member in after.get("members", [])] == left
    assert after["displayName"] == "Team"
    assert (after is TEAM) is (left == ["user-1", "user-2"])


def test_row_09_two_values_in_a_remove_do_not_shift_each_other():
    team = {"displayName": "T", "members": [{"value": name} for name in "abcdef"]}
    after = patched(team, op("remove", "members", [{"value": "b"}, {"value": "c"}]), rt=GROUP)
    assert [member["value"] for member in after["members"]] == list("adef")


def test_row_17_row_18_dotted_keys_set_nested_values_and_keep_siblings():
    after = patched(MARA, op("replace", None, {"name.familyName": "R", f"{ENT}:employeeNumber": "1"}))

    assert after["name"] == MARA["name"] | {"familyName": "R"}
    assert after[ENT] == MARA[ENT] | {"employeeNumber": "1"}
    assert after.keys() == MARA.keys()


def test_row_20_three_adds_build_one_address():
    work = 'addresses[type eq "work"]'
    sent = [
        op("Add", f"{work}.locality", "Bath"),
        op("Add", f"{work}.country", "GB"),
        op("Add", f"{work}.postalCode", "1"),
    ]

    after = patched(user(), *sent)

    assert after["addresses"] == [{"type": "work", "locality": "Bath", "country": "GB", "postalCode": "1"}]


def test_row_32_a_refusal_leaves_nothing_half_done():
    before = copy.deepcopy(MARA)
    operations = operations_of(USER, op("replace", "title", "x"), op("replace", 'emails[type sw "z"].value', "y"))

    with pytest.raises(NoTarget):
        apply_patch(USER, before, operations)

    assert before == MARA


def test_row_33_operations_on_one_attribute_apply_in_order():
    sent = [op("Remove", "displayName"), op("Add", "displayName", "Two"), op("Replace", "displayName", "Three")]
    assert patched(MARA, *sent)["displayName"] == "Three"
    assert patched(TEAM, *sent, rt=GROUP)["displayName"] == "Three"
    with pytest.raises(Mutability):
        patched(TEAM, *sent[1:], sent[0], rt=GROUP)


def test_row_36_replacing_a_complex_attribute_keeps_what_is_not_named():
    assert patched(MARA, op("replace", "name", {"familyName": "R"}))["name"] == MARA["name"] | {"familyName": "R"}


def test_row_37_a_new_primary_email_ends_the_old_one():
    new = {"value": "new@x", "type": "home", "primary": True}
    for sent in (op("add", "emails", [new]), op("add", None, {"emails": [new]})):
        assert patched(MARA, sent)["emails"] == [MARA["emails"][0] | {"primary": False}, new]


@pytest.mark.parametrize(
    "sent",
    [op("add", "emails", MARA["emails"]), op("add", "displayName", "Mara Quill"), op("replace", "name", MARA["name"]),
     op("replace", None, MARA), op("add", 'emails[type eq "work"].value', "ada@example.com"),
     op("add", "phoneNumbers", [{"value": "555-0100"}]), op("remove", "title"), op("replace", ENT, MARA[ENT]),
     op("remove", 'emails[type eq "home"]'), op("add", "emails", [{"value": "ADA@EXAMPLE.COM"}])],
)  # fmt: skip
def test_row_38_what_is_already_so_gives_the_same_object(sent: Json):
    assert patched(MARA, sent) is MARA


def test_t22_false_as_text_never_activates():
    assert patched(MARA, op("Replace", "active", "False"))["active"] is False
    assert patched(MARA | {"active": False}, op("replace", None, {"active": "FALSE"}))["active"] is False


def test_t35_no_request_changes_anything_outside_the_resource():
    for path in ("__class__.x", "__init__.__globals__", "emails.__class__"):
        with pytest.raises((InvalidPath, InvalidFilter)):
            patched(MARA, op("replace", path, "x"))
    assert not hasattr(dict, "x")


def test_t37_an_attribute_does_not_grow_without_end():
    many = [{"value": f"{number}@x"} for number in range(1_000)]
    full = patched(user(), op("add", "emails", many))
    with pytest.raises(PayloadTooLarge):
        patched(full, op("add", "emails", [{"value": "one-more@x"}]))
    assert len(patched(full, op("remove", "emails", many[:2]))["emails"]) == 998


# --- mutability and required parts of custom extensions --------------------------------------------------------------

BADGE = "urn:acme:ext:1.0"
BADGED = USER.with_extensions(
    Schema(
        BADGE,
        "Badge",
        "",
        (
            Attribute("number", "integer", required=True),
            Attribute("issued", mutability="immutable"),
            Attribute("tags", multi_valued=True),
            Attribute("doors", "complex", True, sub_attributes=(Attribute("name", required=True), Attribute("floor"))),
            Attribute("seat", "complex", sub_attributes=(Attribute("room", required=True), Attribute("desk"))),
        ),
    )
)


def badge(**attributes: Any) -> Json:
    return user(**{BADGE: {"number": 1, **attributes}})


@pytest.mark.parametrize(
    ("before", "sent", "after"),
    [
        (badge(), op("add", f"{BADGE}:issued", "2026"), badge(issued="2026")),
        (badge(issued="2026"), op("replace", f"{BADGE}:issued", "2026"), badge(issued="2026")),
        (badge(tags=["Red"]), op("add", f"{BADGE}:tags", ["Red", "blue"]), badge(tags=["Red", "blue"])),
        (badge(tags=["Red", "blue"]), op("remove", f"{BADGE}:tags", ["red"]), badge(tags=["blue"])),
        (badge(tags=["Red"]), op("remove", BADGE), user()),
        (badge(), op("add", f"{BADGE}:seat", {"room": "1", "desk": "2"}), badge(seat={"room": "1", "desk": "2"})),
        (badge(seat={"room": "1"}), op("add", f"{BADGE}:seat.desk", "2"), badge(seat={"room": "1", "desk": "2"})),
        (badge(), op("add", f'{BADGE}:doors[name eq "A"].floor', "2"), badge(doors=[{"name": "A", "floor": "2"}])),
    ],
)
def test_a_custom_extension_is_patched_like_any_other(before: Json, sent: Json, after: Json):
    assert patched(before, sent, rt=BADGED) == after


@pytest.mark.parametrize(
    ("before", "sent", "error"),
    [
        (badge(issued="2026"), op("replace", f"{BADGE}:issued", "2027"), Mutability),
        (badge(issued="2026"), op("remove", f"{BADGE}:issued"), Mutability),
        (user(), op("add", f"{BADGE}:issued", "2026"), InvalidValue),
        (badge(tags=["a"]), op("remove", f"{BADGE}:number"), InvalidValue),
        (badge(), op("add", f"{BADGE}:seat.desk", "2"), Mutability),
        (badge(doors=[{"name": "A", "floor": "2"}]), op("remove", f"{BADGE}:doors.name"), Mutability),
    ],
)
def test_a_custom_extension_keeps_its_promises(before: Json, sent: Json, error: type[ScimError]):
    with pytest.raises(error):
        patched(before, sent, rt=BADGED)


def test_an_attribute_that_the_schema_has_lost_is_refused_when_the_log_is_read():
    recorded = operations_to_json(operations_of(BADGED, op("add", f"{BADGE}:number", 1)))
    with pytest.raises(InvalidPath):
        operations_from_json(USER, recorded)


# --- members of a group ----------------------------------------------------------------------------------------------


def test_members_are_separated_from_the_rest_in_order():
    operations = operations_of(
        GROUP,
        op("add", "members", [{"value": "a"}, {"value": "a"}, {"value": "b", "display": "B"}]),
        op("replace", "displayName", "New"),
        op("remove", 'members[value eq "c"]'),
        op("remove", "members", [{"value": "d"}]),
        op("remove", "externalId"),
        op("replace", "members", [{"value": "e"}]),
        op("remove", "members"),
        op("replace", "members", []),
    )

    changes, others = split_members(operations)

    assert changes == [
        MemberChange("add", ("a", "b")),
        MemberChange("remove", ("c",)),
        MemberChange("remove", ("d",)),
        MemberChange("replace", ("e",)),
        MemberChange("replace", ()),
        MemberChange("replace", ()),
    ]
    assert operations_to_json(others) == [op("replace", "displayName", "New"), op("remove", "externalId")]
    assert member_changes_from_json(json.loads(json.dumps(member_changes_to_json(changes)))) == changes


@given(
    st.lists(st.tuples(st.sampled_from(["add", "remove", "replace"]), st.lists(st.sampled_from("abcde"))), min_size=1)
)
def test_member_changes_mean_what_the_operations_mean(steps: list[tuple[str, list[str]]]):
    sent = [op(name, "members", [{"value": value} for value in values]) for name, values in steps]
    operations = operations_of(GROUP, *sent)
    members: dict[str, None] = dict.fromkeys("ab")
    for change in split_members(operations)[0]:
        if change.op == "replace":
            members = dict.fromkeys(change.values)
        elif change.op == "add":
            members |= dict.fromkeys(change.values)
        else:
            members = {value: None for value in members if value not in change.values}

    after = apply_patch(GROUP, {"displayName": "T", "members": [{"value": "a"}, {"value": "b"}]}, operations)

    assert {member["value"] for member in after.get("members", [])} == set(members)


# --- any request -----------------------------------------------------------------------------------------------------

TEXTS = ["a@x", "A@x", "b@x", "work", "home", "", "true"]
texts = st.sampled_from(TEXTS)
scalars = st.one_of(texts, st.booleans(), st.none(), st.integers(0, 3))
elements = st.dictionaries(
    st.sampled_from(["value", "type", "primary", "display", "Value", "$ref", "familyName", "locality", "unknown"]),
    scalars,
)
values = st.one_of(scalars, elements, st.lists(scalars | elements, max_size=3))
PATHS = [
    "userName", "title", "active", "name", "name.familyName", "emails", "emails.value", "emails.primary", "addresses",
    "addresses.locality", "externalId", "id", "meta", "groups", "password", "schemas", "nope", "__class__", ENT,
    f"{ENT}:manager", f"{ENT}:manager.value", f"{ENT}:department", "manager", "roles", "x509Certificates",
]  # fmt: skip
SELECTIONS = [
    'type eq "work"', 'type eq "work" and primary eq true', 'not (type eq "work")', "primary eq true", 'value co "@"',
    'value eq "a@x" or type pr', "type eq null",
]  # fmt: skip
paths = st.one_of(
    st.sampled_from(PATHS),
    st.builds(
        "{}[{}]{}".format,
        st.sampled_from(["emails", "addresses", "roles", "name"]),
        st.sampled_from(SELECTIONS),
        st.sampled_from(["", ".value", ".type", ".primary", ".locality"]),
    ),
)
names = st.sampled_from(["add", "Replace", "remove", "REMOVE"])
pathless = st.dictionaries(paths, values, max_size=3)
requests = st.lists(
    st.one_of(
        st.fixed_dictionaries({"op": names, "path": paths, "value": values}),
        st.fixed_dictionaries({"op": names, "path": paths}),
        st.fixed_dictionaries({"op": names, "value": pathless}),
    ),
    min_size=1,
    max_size=4,
)


@st.composite
def users(draw: st.DrawFn) -> Json:
    """A canonical user."""
    resource = {"userName": "ada"}
    for path, value in draw(st.lists(st.tuples(st.sampled_from(PATHS), values), max_size=4)):
        with suppress(ScimError):
            resource = parse_resource(USER, {**resource, path: value, "schemas": [USER.schema.id]})
    return resource


@settings(max_examples=400)
@given(users(), requests)
def test_any_request_is_refused_whole_or_gives_a_canonical_resource(before: Json, sent: list[Json]):
    try:
        after = patched(before, *sent)
    except ScimError as error:
        assert error.status in (400, 413)  # noqa: PT017
        return
    assert parse_resource(USER, {"schemas": [USER.schema.id], **after}) == after
    assert (after == before) is (after is before)


@settings(max_examples=200)
@given(users(), st.sampled_from(["emails", "roles", "addresses", "title", "name", f"{ENT}:manager"]), values)
def test_adding_twice_is_adding_once(before: Json, path: str, value: Any):
    try:
        once = patched(before, op("add", path, value))
    except ScimError:
        return
    assert patched(once, op("add", path, value)) is once


@given(users(), requests)
def test_the_operations_of_a_request_survive_the_log(before: Json, sent: list[Json]):
    try:
        operations = operations_of(USER, *sent)
    except ScimError:
        return
    again = operations_from_json(USER, json.loads(json.dumps(operations_to_json(operations))))
    assert again == operations
    assert [str(operation.path) for operation in again] == [str(operation.path) for operation in operations]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10) | st.sampled_from(PATHS), inner),
    max_leaves=4,
)


@settings(max_examples=200)
@given(
    st.one_of(
        json_values,
        st.builds(
            lambda operations: {"schemas": [PATCH_OP], "Operations": operations},
            st.lists(
                st.fixed_dictionaries({"op": names}, optional={"path": json_values | paths, "value": json_values})
            ),
        ),
    )
)
def test_any_json_is_a_patch_or_is_refused(document: Any):
    try:
        apply_patch(USER, MARA, parse_patch(USER, document, resource_id="user-1"))
    except ScimError as error:
        assert error.status in (400, 413)  # noqa: PT017


def test_a_path_prints_with_its_urn_filter_and_sub_attribute():
    (operation,) = operations_of(
        USER, op("remove", f'{USER.schema.id}:EMAILS[TYPE eq "work" or primary eq True].Value')
    )
    assert operation.path.sub_attribute == "value"
    assert str(operation.path) == 'emails[TYPE eq "work" or primary eq true].value'
    assert str(Path(ENT, "manager", None, "value")) == f"{ENT}:manager.value"
