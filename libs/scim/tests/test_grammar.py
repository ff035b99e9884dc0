from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scim.errors import InvalidFilter, InvalidPath, ScimError
from scim.grammar import (
    MAX_LENGTH,
    And,
    AttributePath,
    Compare,
    Filter,
    Literal,
    Not,
    Or,
    PatchPath,
    Present,
    ValuePath,
    attribute_path,
    parse_filter,
    parse_path,
    to_text,
)
from scim.schema import ENTERPRISE_USER

read = parse_filter.__wrapped__  # without its cache


def name(attribute: str, sub_attribute: str | None = None) -> AttributePath:
    return AttributePath(None, attribute, sub_attribute)


# --- reading ---------------------------------------------------------------------------------------------------------

READ: list[tuple[str, Filter]] = [
    ('userName eq "bjensen"', Compare(name("userName"), "eq", "bjensen")),
    ('name.familyName co "O\'Malley"', Compare(name("name", "familyName"), "co", "O'Malley")),
    ('USERNAME EQ "a"', Compare(name("USERNAME"), "eq", "a")),
    ("title pr", Present(name("title"))),
    ("title PR", Present(name("title"))),
    ("active eq true", Compare(name("active"), "eq", True)),
    ("active eq False", Compare(name("active"), "eq", False)),
    ("title eq null", Compare(name("title"), "eq", None)),
    ("age gt 3", Compare(name("age"), "gt", 3)),
    ("age gt -1.5e2", Compare(name("age"), "gt", -150.0)),
    (r'a eq "\"\\\/é\n"', Compare(name("a"), "eq", '"\\/é\n')),
    (r'a eq "\ud83d\ude00"', Compare(name("a"), "eq", "😀")),
    ("  a   pr ", Present(name("a"))),
    ("(a pr)", Present(name("a"))),
    ("not (a pr)", Not(Present(name("a")))),
    ("NOT(a pr)", Not(Present(name("a")))),
    ("a pr AND b pr", And((Present(name("a")), Present(name("b"))))),
    ("emails[type eq 1]", ValuePath(name("emails"), Compare(name("type"), "eq", 1))),
    ("members[$ref pr]", ValuePath(name("members"), Present(name("$ref")))),
]


@pytest.mark.parametrize(("text", "tree"), READ)
def test_a_filter_is_read_as_its_tree(text: str, tree: Filter):
    assert read(text) == tree


def test_row_53_and_binds_tighter_than_or_and_not_than_both():
    assert to_text(read("a pr or b pr and c pr")) == "a pr or b pr and c pr"
    assert read("a pr or b pr and c pr") == read("a pr or (b pr and c pr)")
    assert read("a pr or b pr and c pr") != read("(a pr or b pr) and c pr")
    assert read("not (a pr) and b pr") == And((Not(Present(name("a"))), Present(name("b"))))
    assert read("not (a pr and b pr)") == Not(And((Present(name("a")), Present(name("b")))))


def test_row_24_the_dots_of_a_urn_do_not_split_the_path():
    tree = read(f'{ENTERPRISE_USER}:manager.value eq "1"')

    assert tree == Compare(AttributePath(ENTERPRISE_USER, "manager", "value"), "eq", "1")


def test_entra_compares_a_sub_attribute_behind_a_value_path():
    assert read('emails[type eq "work"].value eq "x"') == read('emails[type eq "work" and value eq "x"]')
    assert read('emails[type eq "work" or primary eq true].value sw "x"') == read(
        'emails[(type eq "work" or primary eq true) and value sw "x"]'
    )
    assert read('emails[type eq "work"].value pr') == read('emails[type eq "work" and value pr]')


@pytest.mark.parametrize(
    "text", ["akadmin", "ada@example.com", "8f14e45f-ceea-467f-a830-9a4b2c5d6e7f", "007", "jürgen"]
)
def test_a_plain_word_without_quotes_is_a_string(text: str):
    """authentik before 2025.10 and the examples of Entra's documentation."""
    assert read(f"userName eq {text}") == Compare(name("userName"), "eq", text)


MALFORMED = [
    "", " ", "userName", "userName eq", 'userName eq "', 'userName eq "a', 'userName "a"', 'a is "a"', '"a" eq 1',
    'userName eq "a" "b"', 'userName eq "a" title pr', "and", "a pr and", "or a pr", "a pr or or b pr", "not a pr",
    "not", "not (a pr", "(a pr", "a pr)", "()", "a pr ()", "[a pr]", "a[b pr", "a]b pr[", "a[]", "a[b pr]]",
    "a[b[c pr]]", "a[b.c pr]", "a[urn:x:b pr]", "a.b[c pr]", "a[b pr].", "a[b pr].c", "a[b pr].c.d pr", "a[b pr]c pr",
    "a..b pr", "a.b.c pr", ".a pr", "a. pr", "1a pr", "__class__ pr", "a.__class__ pr", "a;drop pr", "urn: pr", ":a pr",
    "a eq and", "a eq (1)", "a eq [1]", "a eq 'x'", "a eq ;x", "a eq 1e999", "a eq 99999999999999999999", "a eq -",
    r'a eq "\x"', r'a eq "\ud800"', r'a eq "\u0000"', 'a eq "\x00"', 'a eq "\x85"', "a\x00 pr", "a = 1", "a eq 1 or",
]  # fmt: skip


@pytest.mark.parametrize("text", MALFORMED)
def test_row_52_a_malformed_filter_is_invalid_filter(text: str):
    with pytest.raises(InvalidFilter):
        read(text)


def test_t30_no_literal_holds_a_character_that_no_text_can_hold():
    for escape in (r"\u0000", r"\u0007", r"\u0085", r"\udfff", r"\ud800x"):
        with pytest.raises(InvalidFilter):
            read(f'userName eq "a{escape}b"')


# --- bounds ----------------------------------------------------------------------------------------------------------

BOMBS = [
    "(" * 8_000, "not (" * 10_000, "not(" * 10_000, "a.b." * 8_000, "and" * 10_000, " and " * 10_000, "a[" * 8_000,
    "(" * 2_000, "not (" * 400, "a.b." * 500, "and " * 500, "a[" * 1_000, "a[b[" * 500, "urn:" * 500, ":" * 2_000,
    '"' * 2_000, '\\"' * 1_000, '"\\' * 1_000, "a eq " + '"' + "\\\\" * 1_000, " " * 2_000, "." * 2_000, "-" * 2_000,
    "a eq " + "9" * 2_000, "a eq 1" + "e" * 2_000 + "'", "a eq " + "\\u0000" * 300, "x" * 2_000 + " pr)",
    "a pr or " * 250,
]  # fmt: skip


@pytest.mark.parametrize("text", BOMBS, ids=range(len(BOMBS)))
def test_t33_t34_hostile_filters_are_refused_within_5_ms(text: str, cpu_seconds):
    def refused(parse: Callable[[str], object]) -> None:
        with pytest.raises(ScimError):
            parse(text)

    for parse in (read, parse_path.__wrapped__):
        assert cpu_seconds(lambda parse=parse: refused(parse)) < 0.005


def test_t33_the_bounds_are_where_they_are_said_to_be():
    assert read("(" * 16 + "a pr" + ")" * 16)
    assert read(" or ".join(["a pr"] * 50))
    assert read("a pr".ljust(MAX_LENGTH))
    for text in ("(" * 17 + "a pr" + ")" * 17, " or ".join(["a pr"] * 51), "a pr".ljust(MAX_LENGTH + 1)):
        with pytest.raises(InvalidFilter):
            read(text)


def test_a_filter_at_the_depth_limit_can_be_printed_and_read_again():
    text = "(" * 14 + "a[b pr or c pr].d pr" + ")" * 14
    assert read(to_text(read(text))) == read(text)


@pytest.mark.parametrize("text", MALFORMED + BOMBS, ids=lambda text: text[:12])
def test_t33_t36_no_error_repeats_the_filter(text: str):
    canary = "zqxcanary"
    with pytest.raises(ScimError) as caught:
        read(f"{canary} {text} {canary}")
    assert canary not in caught.value.detail


# --- PATCH paths -----------------------------------------------------------------------------------------------------

PATHS: list[tuple[str, PatchPath]] = [
    ("displayName", PatchPath(name("displayName"))),
    ("name.givenName", PatchPath(name("name", "givenName"))),
    (" title ", PatchPath(name("title"))),
    (f"{ENTERPRISE_USER}:manager.value", PatchPath(AttributePath(ENTERPRISE_USER, "manager", "value"))),
    ('emails[type eq "work"]', PatchPath(name("emails"), Compare(name("type"), "eq", "work"))),
    ('emails[type eq "work"].Value', PatchPath(name("emails"), Compare(name("type"), "eq", "work"), "Value")),
    ('emails[value eq "a].b["].type', PatchPath(name("emails"), Compare(name("value"), "eq", "a].b["), "type")),
]


@pytest.mark.parametrize(("text", "path"), PATHS)
def test_a_path_is_read(text: str, path: PatchPath):
    assert parse_path(text) == path


@pytest.mark.parametrize(
    "text",
    ["", " ", ".", "a.", ".a", "a.b.c", "a b", "a[", "a[]", "a[b pr", "a[b pr]c", "a[b pr].", "a[b pr].c.d", "[b pr]",
     "a[b pr][c pr]", "a.b[c pr]", "a[b[c pr]]", "emails[type eq", "__class__.x", "a pr", 'a eq "b"', "a[b pr] and c",
     "/displayName", "a;b", "emails[0]", "(a)", "x" * 3_000],
)  # fmt: skip
def test_row_35_a_malformed_path_is_invalid_path_or_filter(text: str):
    with pytest.raises((InvalidPath, InvalidFilter)):
        parse_path(text)


# --- printing --------------------------------------------------------------------------------------------------------

names = st.from_regex(r"[A-Za-z][A-Za-z0-9_-]{0,8}", fullmatch=True).filter(
    lambda text: text.lower() not in ("and", "or", "not")
)
urns = st.sampled_from([None, ENTERPRISE_USER, "urn:acme:ext:1.0"])
texts = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), max_size=8)
literals: st.SearchStrategy[Literal] = st.one_of(
    texts,
    st.booleans(),
    st.none(),
    st.integers(-(2**53), 2**53),
    st.floats(-(2**53), 2**53, allow_nan=False).filter(lambda number: not number.is_integer()),
)
operators = st.sampled_from(["eq", "ne", "co", "sw", "ew", "gt", "ge", "lt", "le"])


def combined(leaves: st.SearchStrategy[Filter]) -> st.SearchStrategy[Filter]:
    def grow(inner: st.SearchStrategy[Filter]) -> st.SearchStrategy[Filter]:
        several = st.lists(inner, min_size=2, max_size=3).map(tuple)
        return st.one_of(several.map(And), several.map(Or), inner.map(Not))

    return st.recursive(leaves, grow, max_leaves=5)


def leaves(paths: st.SearchStrategy[AttributePath]) -> st.SearchStrategy[Filter]:
    return st.one_of(st.builds(Compare, paths, operators, literals), st.builds(Present, paths))


sub_filters = combined(leaves(st.builds(AttributePath, st.none(), names)))
value_paths = st.builds(ValuePath, st.builds(AttributePath, urns, names), sub_filters)
filters = combined(st.one_of(leaves(st.builds(AttributePath, urns, names, st.none() | names)), value_paths))


@given(filters)
def test_a_printed_filter_is_read_as_the_same_tree(tree: Filter):
    assert read(str(tree)) == tree
    assert str(read(str(tree))) == str(tree)


pieces = st.sampled_from([*'ab.:[]()"\\ $1-', " eq ", " pr ", " and ", " or ", "not ", '"x"', "a[b pr]", "a pr"])


@given(st.lists(pieces, max_size=12).map("".join))
@settings(max_examples=300)
def test_any_text_is_a_filter_that_prints_back_or_is_refused(text: str):
    try:
        tree = read(text)
    except InvalidFilter:
        return
    assert read(to_text(tree)) == tree


@given(st.text())
def test_any_text_is_a_path_or_is_refused(text: str):
    try:
        parse_path(text)
    except (InvalidPath, InvalidFilter):
        return
    assert attribute_path(text.strip()) or "[" in text
