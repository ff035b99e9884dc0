from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scim.errors import InvalidValue, ScimError
from scim.schema import (
    CORE_GROUP,
    CORE_USER,
    ENTERPRISE_USER,
    ENTERPRISE_USER_SCHEMA,
    GROUP,
    GROUP_SCHEMA,
    USER,
    USER_SCHEMA,
    Attribute,
    schema_from_json,
)

# RFC 7643 section 8.7.1: name, type, multi-valued, mutability, sub-attributes.
USER_ATTRIBUTES = """
    userName string - readWrite
    name complex - readWrite formatted familyName givenName middleName honorificPrefix honorificSuffix
    displayName string - readWrite
    nickName string - readWrite
    profileUrl reference - readWrite
    title string - readWrite
    userType string - readWrite
    preferredLanguage string - readWrite
    locale string - readWrite
    timezone string - readWrite
    active boolean - readWrite
    password string - writeOnly
    emails complex many readWrite value display type primary
    phoneNumbers complex many readWrite value display type primary
    ims complex many readWrite value display type primary
    photos complex many readWrite value display type primary
    addresses complex many readWrite formatted streetAddress locality region postalCode country type primary
    groups complex many readOnly value $ref display type
    entitlements complex many readWrite value display type primary
    roles complex many readWrite value display type primary
    x509Certificates complex many readWrite value display type primary
"""
ENTERPRISE_ATTRIBUTES = """
    employeeNumber string - readWrite
    costCenter string - readWrite
    organization string - readWrite
    division string - readWrite
    department string - readWrite
    manager complex - readWrite value $ref displayName
"""
GROUP_ATTRIBUTES = """
    displayName string - readWrite
    members complex many readWrite value $ref type
"""


def summary(attribute: Attribute) -> str:
    plural = "many" if attribute.multi_valued else "-"
    subs = [sub.name for sub in attribute.sub_attributes]
    return " ".join([attribute.name, attribute.type, plural, attribute.mutability, *subs])


@pytest.mark.parametrize(
    ("schema", "table"),
    [(USER_SCHEMA, USER_ATTRIBUTES), (ENTERPRISE_USER_SCHEMA, ENTERPRISE_ATTRIBUTES), (GROUP_SCHEMA, GROUP_ATTRIBUTES)],
    ids=["User", "EnterpriseUser", "Group"],
)
def test_the_schemas_are_those_of_rfc_7643(schema: Any, table: str):
    assert [summary(attribute) for attribute in schema.attributes] == [
        line.strip() for line in table.strip().splitlines()
    ]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("userName", {"required": True, "case_exact": False, "uniqueness": "server"}),
        ("externalId", {"case_exact": True, "mutability": "readWrite"}),
        ("id", {"case_exact": True, "mutability": "readOnly", "returned": "always", "uniqueness": "server"}),
        ("password", {"mutability": "writeOnly", "returned": "never"}),
        ("groups.value", {"mutability": "readOnly"}),
        ("x509Certificates.value", {"type": "binary", "case_exact": True}),
        ("photos.value", {"type": "reference", "reference_types": ("external",)}),
        ("emails.type", {"canonical_values": ("work", "home", "other")}),
        ("meta", {"mutability": "readOnly", "returned": "default"}),
        ("meta.version", {"case_exact": True}),
    ],
)
def test_users_have_these_characteristics(path: str, expected: dict[str, Any]):
    name, _, sub = path.partition(".")
    attribute = USER.attribute(name)
    leaf = attribute.sub_attribute(sub) if attribute and sub else attribute
    assert {key: getattr(leaf, key) for key in expected} == expected


def test_members_are_immutable():
    members = GROUP.attribute("members")
    assert members is not None
    assert {sub.name: sub.mutability for sub in members.sub_attributes} == {
        "value": "immutable", "$ref": "immutable", "type": "immutable",
    }  # fmt: skip


@pytest.mark.parametrize("name", ["userName", "username", "USERNAME", "UserName"])
def test_names_are_found_in_any_case(name: str):
    assert USER.attribute(name) is USER_SCHEMA.attribute("userName") is USER.find(CORE_USER.upper(), name)


@pytest.mark.parametrize("name", ["", "user Name", "emails.value", "__class__", "nope", CORE_USER])
def test_unknown_names_are_none(name: str):
    assert USER.attribute(name) is None
    assert USER.find(None, name) is None
    assert USER.find("urn:unknown", "userName") is None


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("userName", (None, "userName")),
        (f"{CORE_USER}:userName", (None, "userName")),
        (f"{CORE_USER.lower()}:name.givenName", (None, "name.givenName")),
        (CORE_USER, (None, "")),
        (ENTERPRISE_USER, (ENTERPRISE_USER, "")),
        (f"{ENTERPRISE_USER.upper()}:manager.value", (ENTERPRISE_USER, "manager.value")),
        ("urn:scim:schemas:extension:enterprise:1.0:department", (ENTERPRISE_USER, "department")),
        ("urn:scim:schemas:core:1.0:userName", (None, "userName")),
        ("urn:example:Badge:2.0:number", ("urn:example:Badge:2.0", "number")),
        ('emails[type eq "urn:x:y"].value', (None, 'emails[type eq "urn:x:y"].value')),
        (f'{CORE_USER}:emails[value eq "a:b"].value', (None, 'emails[value eq "a:b"].value')),
        ('urn:example:X:list[value eq "a:b"].c', ("urn:example:X", 'list[value eq "a:b"].c')),
        ("", (None, "")),
        ("urn:", ("urn", "")),
    ],
)
def test_a_urn_is_split_from_its_path_at_the_right_colon(path: str, expected: tuple[str | None, str]):
    assert USER.split_urn(path) == expected


@given(st.text(max_size=40) | st.text(alphabet='urn:.[]" aU2', max_size=20))
def test_any_text_can_be_looked_up(text: str):
    urn, path = USER.split_urn(text)
    USER.find(urn, path)
    USER.extension(text)
    USER.is_core_urn(text)


# --- custom schemas --------------------------------------------------------------------------------------------------


def badge(**changes: Any) -> dict[str, Any]:
    return {"id": "urn:example:scim:schemas:Badge", "name": "Badge", "attributes": [{"name": "number"}], **changes}


def with_attribute(**characteristics: Any) -> dict[str, Any]:
    return badge(attributes=[{"name": "number", **characteristics}])


def test_a_custom_schema_extends_a_resource_type():
    schema = schema_from_json(badge())

    rt = USER.with_extensions(schema)

    assert rt.extension("URN:EXAMPLE:SCIM:SCHEMAS:BADGE") is schema
    assert rt.find(schema.id, "NUMBER") == Attribute("number")
    assert USER.extension(schema.id) is None
    assert rt.extension(ENTERPRISE_USER) is ENTERPRISE_USER_SCHEMA


def test_a_schema_is_added_once():
    schema = schema_from_json(badge())
    for rt in (USER.with_extensions(schema), GROUP.with_extensions(schema)):
        with pytest.raises(InvalidValue, match="already"):
            rt.with_extensions(schema)
    with pytest.raises(InvalidValue, match="already"):
        USER.with_extensions(schema, schema_from_json(badge(id=schema.id.upper())))


def test_every_characteristic_is_read():
    document = with_attribute(
        type="complex",
        multiValued=True,
        required=True,
        mutability="immutable",
        returned="request",
        uniqueness="none",
        description="Badges.",
        subAttributes=[
            {"name": "value", "type": "reference", "referenceTypes": ["User"], "caseExact": False},
            {"name": "type", "canonicalValues": ["red", "blue"]},
            {"name": "$ref", "type": "reference"},
        ],
    )
    (attribute,) = schema_from_json(document).attributes
    assert attribute.is_complex
    assert (attribute.multi_valued, attribute.required, attribute.mutability, attribute.returned) == (
        True, True, "immutable", "request",
    )  # fmt: skip
    value, kind, ref = attribute.sub_attributes
    assert (value.reference_types, value.case_exact) == (("User",), False)
    assert kind.canonical_values == ("red", "blue")
    assert ref.case_exact


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        ([], "JSON object"),
        (None, "JSON object"),
        (badge(id=None), "must be a URN"),
        (badge(id=5), "must be a URN"),
        (badge(id="https://example.com/badge"), "must be a URN"),
        (badge(id="urn:example"), "must be a URN"),
        (badge(id="urn:example:a b"), "must be a URN"),
        (badge(id="urn:example:x\n"), "must be a URN"),
        (badge(id="urn:example:" + "x" * 300), "must be a URN"),
        (badge(id=CORE_USER), "reserved"),
        (badge(id=CORE_GROUP.upper()), "reserved"),
        (badge(id="URN:IETF:params:mine"), "reserved"),
        (badge(id="urn:scim:schemas:extension:mine:1.0"), "reserved"),
        (badge(name=""), "name"),
        (badge(name=None), "name"),
        (badge(name="x" * 1_001), "name"),
        (badge(description=5), "description"),
        (badge(extra=1), "no member 'extra'"),
        (badge(schemas=["urn:x"]), "core:2.0:Schema"),
        (badge(schemas=5), "core:2.0:Schema"),
        (badge(schemas=None), "core:2.0:Schema"),
        (badge(attributes=None), "list with at least one"),
        (badge(attributes=[]), "list with at least one"),
        (badge(attributes={}), "list with at least one"),
        (badge(attributes=[1]), "must be an object"),
        (badge(attributes=[{"name": f"a{n}"} for n in range(201)]), "at most 200"),
        (badge(attributes=[{}]), "name must start"),
        (badge(attributes=[{"name": "1st"}]), "name must start"),
        (badge(attributes=[{"name": "a.b"}]), "name must start"),
        (badge(attributes=[{"name": "__proto__"}]), "name must start"),
        (badge(attributes=[{"name": "$ref"}]), "name must start"),
        (badge(attributes=[{"name": "a"}, {"name": "A"}]), "twice"),
        (badge(attributes=[{"name": "Password"}]), "stores no passwords"),
        (with_attribute(multivalued=True), "unknown characteristic 'multivalued'"),
        (with_attribute(**{"${7*7}": True}), "unknown characteristic of that name"),
        (with_attribute(type="text"), "one of string, boolean"),
        (with_attribute(type=["string"]), "one of string, boolean"),
        (with_attribute(multiValued="yes"), "true or false"),
        (with_attribute(mutability="never"), "one of readWrite"),
        (with_attribute(mutability="writeOnly", returned="never"), "writeOnly"),
        (with_attribute(uniqueness="server"), "uniqueness"),
        (with_attribute(required=True, mutability="readOnly"), "required and readOnly"),
        (with_attribute(referenceTypes=["User"]), "not a reference"),
        (with_attribute(type="boolean", canonicalValues=["a"]), "not a string"),
        (with_attribute(canonicalValues="a"), "list of strings"),
        (with_attribute(canonicalValues=[1]), "list of strings"),
        (with_attribute(subAttributes=[{"name": "a"}]), "not complex"),
        (with_attribute(type="complex"), "list with at least one"),
        (with_attribute(type="complex", subAttributes=[{"name": "a", "type": "complex"}]), "cannot be complex"),
        (with_attribute(type="complex", subAttributes=[{"name": "a", "multiValued": True}]), "not supported"),
    ],
)
def test_a_custom_schema_that_cannot_work_is_refused_with_the_reason(document: Any, reason: str):
    with pytest.raises(InvalidValue, match=reason):
        schema_from_json(document)


def test_a_refusal_says_where_in_the_document_it_is():
    with pytest.raises(InvalidValue, match=r"attributes\[0\] \(site\)\.subAttributes\[1\] \(b\)\.type must be one of"):
        schema_from_json(
            badge(
                attributes=[
                    {"name": "site", "type": "complex", "subAttributes": [{"name": "a"}, {"name": "b", "type": "x"}]}
                ]
            )
        )


KEYS = st.sampled_from(
    ["id", "name", "attributes", "type", "multiValued", "subAttributes", "canonicalValues", "schemas"]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.sampled_from(["complex", "urn:example:x:y"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS | st.text(max_size=4), inner, max_size=5),
    max_leaves=20,
)


@given(JSON | st.dictionaries(KEYS, JSON).map(lambda members: badge(**members)))
def test_any_json_becomes_a_schema_or_a_scim_error(document: Any):
    try:
        USER.with_extensions(schema_from_json(document))
    except ScimError:
        return
