import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from scim.errors import InvalidSyntax, InvalidValue, PayloadTooLarge, ScimError
from scim.schema import GROUP, USER, Attribute
from scim.strictjson import LIMITS, MAX_INTEGER, dumps, loads

TEXT = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=30)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-MAX_INTEGER, MAX_INTEGER) | st.floats(-1e300, 1e300) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=20,
)  # fmt: skip


def names_are_unique(value: object) -> bool:
    if isinstance(value, dict):
        unique = len({name.lower() for name in value}) == len(value)
        return unique and all(map(names_are_unique, value.values()))
    return all(map(names_are_unique, value)) if isinstance(value, list) else True


@given(VALUES.filter(names_are_unique), st.booleans())
def test_what_a_standard_writer_writes_is_read_as_it_was(value: object, ascii_only: bool):
    assert loads(json.dumps(value, ensure_ascii=ascii_only).encode()) == value


@given(VALUES)
def test_dumps_writes_what_loads_reads(value: object):
    if names_are_unique(value):
        assert loads(dumps(value)) == value


@given(st.binary(max_size=200) | st.text(alphabet='{}[]",:\\u0dDeE+-.nulltrue 19\n\x00é', max_size=60).map(str.encode))
@example(b"\xff\xfe{\x00}\x00")
@example(b'"\\ud800"')
@example(b"[1e999]")
def test_any_bytes_are_read_or_refused_with_a_scim_error(data: bytes):
    try:
        value = loads(data)
    except ScimError:
        return
    dumps(value).decode()


@pytest.mark.parametrize(
    "body",
    [
        '{"active": true, "active": false}',
        '{"active": true, "Active": false}',
        '{"userName": "a", "USERNAME": "b"}',
        '{"name": {"givenName": "a", "GivenName": "b"}}',
        '{"emails": [{"value": "a", "value": "a"}]}',
        '{"nickName": "a", "nic\\u006bName": "b"}',
        '{"nickName": "a", "nic\u212aName": "b"}',  # the Kelvin sign, whose lower case is k
        '{"${7*7}": 1, "${7*7}": 2}',
    ],
)
def test_t28_a_name_given_twice_in_any_case_is_refused(body: str):
    with pytest.raises(InvalidSyntax, match="more than once"):
        loads(body.encode())


def test_t28_the_refusal_names_the_name_when_it_is_an_ordinary_one():
    with pytest.raises(InvalidSyntax, match="'Active'"):
        loads(b'{"active": true, "Active": false}')


def test_t36_the_refusal_does_not_repeat_a_name_that_is_not():
    with pytest.raises(InvalidSyntax) as refusal:
        loads(b'{"${7*7}": 1, "${7*7}": 2}')
    assert "7" not in refusal.value.detail


@pytest.mark.parametrize("depth", [33, 200, 5_000, 200_000])
@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}"), ('[{"a":', "}]")])
def test_t29_deep_nesting_is_refused_quickly(depth: int, opening: str, closing: str, cpu_seconds):
    body = (opening * depth + "1" + closing * depth).encode()

    def refused() -> None:
        with pytest.raises(InvalidSyntax, match="nests deeper"):
            loads(body)

    assert cpu_seconds(refused) < 0.5


def test_t29_nesting_up_to_the_limit_is_read():
    assert loads(b"[" * 32 + b"]" * 32)
    with pytest.raises(InvalidSyntax):
        loads(b"[" * 33 + b"]" * 33)


def test_t29_brackets_inside_strings_do_not_count_as_nesting():
    assert loads(json.dumps(["[{" * 100]).encode()) == ["[{" * 100]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"   ",
        b"{",
        b"{'a': 1}",
        b'{"a": 1,}',
        b"[1] 2",
        b"NaN",
        b"[Infinity]",
        b"[-Infinity]",
        b"\xff\xfe{\x00}\x00",  # UTF-16, which the standard reader would accept
        '{"a": 1}'.encode("utf-16-be"),
        '{"a": 1}'.encode("utf-32"),
        b'{"a": "\xff"}',
        b'{"a": "\xc0\x80"}',  # NUL in an overlong spelling
        b'{"a": "\xed\xa0\x80"}',  # a surrogate in UTF-8
        b'"\x00"',
        b'"\x1f"',
    ],
)
def test_t29_what_is_not_json_in_utf_8_is_invalid_syntax(body: bytes):
    with pytest.raises(InvalidSyntax) as refusal:
        loads(body)
    assert refusal.value.body()["scimType"] == "invalidSyntax"


@pytest.mark.parametrize(
    "number",
    [
        "9007199254740993",
        "-9007199254740993",
        "1" * 17,
        "9" * 4_301,
        "9" * 1_000_000,
        "1e999",
        "-1e999",
        "9" * 400 + ".0",
    ],
)
def test_t29_numbers_out_of_range_are_refused(number: str):
    with pytest.raises(InvalidValue, match="out of range"):
        loads(f'{{"a": {number}}}'.encode())


def test_t29_the_largest_integers_are_read():
    assert loads(b"[9007199254740992, -9007199254740992]") == [MAX_INTEGER, -MAX_INTEGER]


@pytest.mark.parametrize("text", ["\\ud800", "\\udfff", "\\udc00\\ud800", "\\\\\\ud800", "\\uD83D x"])
def test_t29_lone_surrogates_are_refused(text: str):
    with pytest.raises(InvalidValue, match=r"U\+D"):
        loads(f'{{"a": "{text}"}}'.encode())


@pytest.mark.parametrize("text", ["\\ud83d\\ude00", "\\\\ud800", "\\\\b", "\\u0041", '\\t\\n\\r\\/\\"'])
def test_t29_pairs_of_surrogates_and_escaped_backslashes_are_read(text: str):
    assert loads(f'"{text}"'.encode()) == json.loads(f'"{text}"')


@pytest.mark.parametrize("padding", ["", '\\"', "\\u0041", "é"])
def test_t29_long_strings_are_refused_wherever_they_are(padding: str):
    fits = "x" * (LIMITS.string_length - len(json.loads(f'"{padding}"')))
    for shape in ('"%s"', '{"a": [{"b": "%s"}]}', '{"%s": 1}'):
        assert loads((shape % (padding + fits)).encode())
        with pytest.raises(InvalidValue, match="longer than"):
            loads((shape % (padding + fits + "x")).encode())


def test_t29_a_long_text_of_short_strings_is_read():
    spread = b'["a"' + b" " * 20_000 + b',"b"' + b',"c"' * 20_000 + b"]"
    assert len(loads(spread)) == 20_002  # type: ignore[arg-type]


@pytest.mark.parametrize("filler", ["[],", "{},", "1,", "[[]],"])
def test_t29_more_values_than_memory_should_hold_are_refused(filler: str):
    with pytest.raises(PayloadTooLarge):
        loads(("[" + filler * 1_100_000 + "1]").encode())


def string_paths() -> list[tuple[str, ...]]:
    """Every string attribute and sub-attribute of both resource types."""
    paths: list[tuple[str, ...]] = []
    for rt in (USER, GROUP):
        for attribute in (*rt.all_attributes(), Attribute("externalId")):
            paths += [(attribute.name, sub.name) for sub in attribute.sub_attributes] or [(attribute.name,)]
    return paths


@pytest.mark.parametrize("path", string_paths(), ids=".".join)
@pytest.mark.parametrize("control", ["\\u0000", "\\u0001", "\\b", "\\f", "\\u007F", "\\u0085", "\x7f", "\x85"])
def test_t30_control_characters_are_refused_in_every_attribute(path: tuple[str, ...], control: str):
    body = f'"a{control}b"'
    for name in reversed(path):
        body = f'{{"{name}": {body}}}'
    with pytest.raises(InvalidValue):
        loads(body.encode())


def test_t30_controls_in_names_are_refused_too():
    with pytest.raises(InvalidValue):
        loads(b'{"a\\u0000": 1}')


def test_t30_tab_line_feed_and_carriage_return_are_read():
    assert loads(b'"a\\tb\\nc\\rd"') == "a\tb\nc\rd"


def test_a_byte_order_mark_is_skipped_as_rfc_8259_allows():
    assert loads(b"\xef\xbb\xbf{}") == {}
