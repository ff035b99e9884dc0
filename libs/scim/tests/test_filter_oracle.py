"""Filters against an outside reading of the RFC: scim2-models, which scim2-server filters with too.

Left out, because its reading differs from ours on purpose:

* a literal that is no value of its attribute (`active eq "true"`, `emails eq "x"`, a word without quotes): it converts
  or refuses by its own models, which want email addresses with a dot; ours follows the dialects (docs/scim.md);
* an element that says only its type: it is present there, and not kept here;
* a complex multi-valued attribute compared as a whole (`phoneNumbers eq "1"`): it takes a validated model's value;
* look-alike, folded and padded identifiers (` ada`, `STRASSE`): it compares by `casefold` alone, ours by the key that
  makes a name unique.
"""

from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import event, example, given, settings
from hypothesis import strategies as st
from scim2_models import EnterpriseUser, Meta, SCIMException, User
from scim2_models.path.filter import ScimFilter

from scim.errors import InvalidFilter
from scim.filter import matches, parse_filter
from scim.schema import ENTERPRISE_USER, USER

Person = User[EnterpriseUser]
THEIRS = ScimFilter[Person]

WORDS = ["a", "A", "ab", "b", "Ab c", "work", "HOME", "a.b@x.org", "2", "true", 'q"\\', "é"]
TIMES = [datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC) + timedelta(hours=hours) for hours in range(3)]
TYPES = ["work", "home", "other"]

words, times = st.sampled_from(WORDS), st.sampled_from(TIMES)
texts = st.fixed_dictionaries({}, optional={"value": words, "type": st.sampled_from(TYPES), "display": words})
users = st.fixed_dictionaries(
    {"userName": words},
    optional={
        "externalId": words,
        "title": words,
        "active": st.booleans(),
        "name": st.fixed_dictionaries({"givenName": words}, optional={"familyName": words}),
        "phoneNumbers": st.lists(texts.map(lambda value: {"value": "1", **value}), min_size=1, max_size=3),
        "created": times,
        "department": words,
    },
)

STRINGS = [
    "userName", "USERNAME", "externalId", "title", "nickName", "name.givenName", "name.familyName", "Name.GivenName",
    "phoneNumbers.value", "phoneNumbers.type", "phoneNumbers.display", f"{ENTERPRISE_USER}:department",
    "urn:ietf:params:scim:schemas:core:2.0:User:title",
]  # fmt: skip
OPERATORS = ["eq", "co", "sw", "ew", "gt", "ge", "lt", "le", "EQ"]


def quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


compared = st.builds(
    "{} {} {}".format, st.sampled_from(STRINGS), st.sampled_from([*OPERATORS, "ne"]), words.map(quoted)
)
present = st.sampled_from([*STRINGS, "active", "name", "phoneNumbers", "meta.created", "emails"]).map("{} pr".format)
booleans = st.builds("active {} {}".format, st.sampled_from(["eq", "ne"]), st.sampled_from(["true", "false"]))
instants = st.builds(
    lambda operator, time, zone: f'meta.created {operator} "{time.isoformat().replace("+00:00", zone)}"',
    st.sampled_from(["eq", "ne", "gt", "ge", "lt", "le"]),
    times,
    st.sampled_from(["Z", "+00:00", "-01:00"]),
)
sub_attributes = st.sampled_from(["value", "type", "display"])
of_elements = st.builds("{} {} {}".format, sub_attributes, st.sampled_from([*OPERATORS, "ne"]), words.map(quoted))


def combined(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        st.builds("not ({})".format, inner),
        st.builds("{} {} {}".format, inner, st.sampled_from(["and", "or", "AND"]), inner),
        st.builds("({})".format, inner),
    )


value_paths = st.recursive(of_elements, combined, max_leaves=3).map("phoneNumbers[{}]".format)
filters = st.recursive(compared | present | booleans | instants | value_paths, combined, max_leaves=5)


def their_user(user: dict[str, Any]) -> Any:
    document = {name: value for name, value in user.items() if name not in ("created", "department")}
    if "department" in user:
        document[ENTERPRISE_USER] = {"department": user["department"]}
    person = Person.model_validate(document)
    person.meta = Meta(resource_type="User", created=user.get("created"))
    return person


def our_user(user: dict[str, Any]) -> dict[str, Any]:
    resource = {name: value for name, value in user.items() if name not in ("created", "department")}
    if "department" in user:
        resource[ENTERPRISE_USER] = {"department": user["department"]}
    meta = {"resourceType": "User", **({"created": user["created"].isoformat()} if "created" in user else {})}
    return {**resource, "meta": meta}


@settings(max_examples=400)
@given(filters, users)
@example('userName eq "A" or title pr and title eq "b"', {"userName": "a"})
@example('not (phoneNumbers[type eq "work" and value eq "b"])', {"userName": "a"})
def test_we_find_whom_scim2_models_finds(text: str, user: dict[str, Any]):
    ours = matches(USER, parse_filter(text), our_user(user))
    event(f"found {ours}")
    assert ours is THEIRS(text).match(their_user(user)), (text, user)


@settings(max_examples=200)
@given(st.text(alphabet='() []"\\.:eqadnotrpuserName1', max_size=30) | filters.map(lambda text: text[:-3]))
def test_what_scim2_models_reads_as_a_filter_we_read_too(text: str):
    try:
        THEIRS(text)
    except SCIMException:
        return
    try:
        matches(USER, parse_filter(text), {"userName": "a"})
    except InvalidFilter as error:
        raise AssertionError(f"theirs reads {text!r}") from error
