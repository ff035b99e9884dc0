from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scim.errors import InvalidCount, InvalidCursor, InvalidFilter, InvalidPath, InvalidSyntax, InvalidValue, ScimError
from scim.filter import AttributePath, compile_filter
from scim.listing import DEFAULT_COUNT, MAX_COUNT, MAX_START_INDEX, ListQuery, list_response
from scim.projection import Projection
from scim.schema import ENTERPRISE_USER, SEARCH_REQUEST, USER


def search(**fields: Any) -> dict[str, Any]:
    return {"schemas": [SEARCH_REQUEST], **fields}


def test_no_parameters_ask_for_the_first_page_of_everything():
    assert ListQuery.from_params({}) == ListQuery.from_search_request(search()) == ListQuery()
    assert ListQuery().count == DEFAULT_COUNT
    assert ListQuery().start_index == 1


NUMBERS = [
    ("startIndex", "start_index", "1", 1),
    ("startIndex", "start_index", "0", 1),
    ("startIndex", "start_index", "-5", 1),
    ("startIndex", "start_index", "+3", 3),
    ("startIndex", "start_index", " 3 ", 3),
    ("startIndex", "start_index", "101", 101),
    ("startIndex", "start_index", str(2**63), MAX_START_INDEX),
    ("startIndex", "start_index", "9" * 400, MAX_START_INDEX),
    ("count", "count", "0", 0),
    ("count", "count", "-5", 0),
    ("count", "count", "2", 2),
    ("count", "count", "200", 200),
    ("count", "count", "201", MAX_COUNT),
    ("count", "count", "1000000", MAX_COUNT),
    ("count", "count", "1000000000", MAX_COUNT),
]


@pytest.mark.parametrize(("name", "field", "value", "expected"), NUMBERS)
def test_t38_numbers_are_clamped_and_never_refused_for_their_size(name: str, field: str, value: str, expected: int):
    for query in (
        ListQuery.from_params({name: value}),
        ListQuery.from_params([(name.upper(), value)]),
        ListQuery.from_search_request(search(**{name: value})),
        ListQuery.from_search_request(search(**{name.lower(): int(value)})),
    ):
        assert getattr(query, field) == expected


@pytest.mark.parametrize("name", ["startIndex", "count"])
@pytest.mark.parametrize("value", ["", "x", "1.5", "1e3", "0x1", "١", "1 2", "NaN", "null", "9" * 401, "9" * 100_000])
def test_what_is_no_integer_is_refused_by_name(name: str, value: str):
    with pytest.raises(InvalidValue, match=name):
        ListQuery.from_params({name: value})


@pytest.mark.parametrize("value", [1.5, True, [1], {}, "x"])
def test_a_search_request_has_the_same_limits(value: Any):
    for name in ("startIndex", "count"):
        with pytest.raises(InvalidValue, match=name):
            ListQuery.from_search_request(search(**{name: value}))


def test_names_are_found_in_any_case_and_unknown_ones_are_ignored():
    query = ListQuery.from_params(
        {"startindex": "3", "COUNT": "5", "SortBy": "userName", "aadOptscim062020": "x", "": ""}
    )
    assert (query.start_index, query.count, query.sort_by) == (3, 5, AttributePath(None, "userName"))


def test_t28_a_parameter_given_twice_is_refused():
    for params in ([("count", "1"), ("count", "2")], {"startIndex": "1", "startindex": "2"}):
        with pytest.raises(InvalidValue, match="more than once"):
            ListQuery.from_params(params)
    with pytest.raises(InvalidValue, match="more than once"):
        ListQuery.from_search_request(search(count=1, Count=2))


def test_the_filter_is_kept_as_text():
    text = 'userName eq "ada"'
    assert ListQuery.from_params({"filter": text}).filter == text
    assert ListQuery.from_search_request(search(filter=text)).filter == text


@pytest.mark.parametrize("text", ["", " ", "userName eq", "(", 'userName eq "ada', "x" * 3_000])
def test_a_filter_that_does_not_parse_is_refused_even_when_it_is_empty(text: str):
    """An empty filter that finds everybody would make a client take the first user for the one it looks for."""
    query = ListQuery.from_params({"filter": text})
    assert query.filter is not None
    with pytest.raises(InvalidFilter):
        compile_filter(USER, query.filter)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("userName", AttributePath(None, "userName")),
        ("name.familyName", AttributePath(None, "name", "familyName")),
        (f"{ENTERPRISE_USER}:department", AttributePath(ENTERPRISE_USER, "department")),
        ("", None),
        (" ", None),
    ],
)
def test_sort_by_is_an_attribute_path(text: str, expected: AttributePath | None):
    assert ListQuery.from_params({"sortBy": text}).sort_by == expected


@pytest.mark.parametrize("text", ["id;drop", "a b", "a..b", '" or 1=1--', "%", "emails[value pr]"])
def test_t32_sort_by_anything_else_is_refused(text: str):
    with pytest.raises(InvalidPath):
        ListQuery.from_params({"sortBy": text})


@pytest.mark.parametrize(
    ("text", "expected"),
    [("ascending", "ascending"), ("Descending", "descending"), ("DESCENDING ", "descending"), ("", "ascending")],
)
def test_the_sort_order_is_read_in_any_case(text: str, expected: str):
    assert ListQuery.from_params({"sortOrder": text}).sort_order == expected


def test_an_unknown_sort_order_is_refused():
    with pytest.raises(InvalidValue, match="sortOrder"):
        ListQuery.from_params({"sortOrder": "desc"})


def test_the_projection_takes_both_parameters():
    assert ListQuery.from_params({"attributes": "userName,emails", "excludedAttributes": "emails.type"}).projection == (
        Projection.parse("userName,emails", "emails.type")
    )
    assert ListQuery.from_search_request(search(attributes=["userName"])).projection == Projection.parse("userName")


@pytest.mark.parametrize(("value", "expected"), [(None, None), ("", ""), ("abc", "abc")])
def test_a_cursor_even_an_empty_one_asks_for_cursor_paging(value: str | None, expected: str | None):
    params = {} if value is None else {"cursor": value}
    assert ListQuery.from_params(params).cursor == expected
    assert ListQuery.from_search_request(search(cursor=value)).cursor == expected


def test_errors_of_cursor_paging_have_their_own_types():
    with pytest.raises(InvalidCount):
        ListQuery.from_params({"cursor": "", "count": "x"})
    with pytest.raises(InvalidCursor):
        ListQuery.from_params({"cursor": "x" * 3_000})
    with pytest.raises(InvalidCursor):
        ListQuery.from_search_request(search(cursor=5))


@pytest.mark.parametrize("document", [None, [], "x", 5])
def test_a_search_request_is_an_object(document: Any):
    with pytest.raises(InvalidSyntax):
        ListQuery.from_search_request(document)


@pytest.mark.parametrize("document", [{}, {"schemas": []}, {"schemas": ["urn:x"]}, {"schemas": SEARCH_REQUEST}])
def test_a_search_request_names_its_schema(document: Any):
    with pytest.raises(InvalidValue, match="schemas"):
        ListQuery.from_search_request(document)


def test_nulls_in_a_search_request_are_as_if_absent():
    assert ListQuery.from_search_request(search(filter=None, count=None, sortBy=None, attributes=None)) == ListQuery()


@pytest.mark.parametrize("field", ["filter", "sortBy", "sortOrder"])
@pytest.mark.parametrize("value", [5, [], {}, True])
def test_texts_in_a_search_request_are_strings(field: str, value: Any):
    with pytest.raises(InvalidValue, match=field):
        ListQuery.from_search_request(search(**{field: value}))


FIELDS = st.sampled_from(["startIndex", "count", "filter", "sortBy", "sortOrder", "attributes", "cursor", "Count", "x"])


@given(st.dictionaries(FIELDS, st.text(max_size=12) | st.integers().map(str)))
def test_any_parameters_make_a_query_or_a_scim_error(params: dict[str, str]):
    try:
        query = ListQuery.from_params(params)
    except ScimError:
        return
    assert 1 <= query.start_index <= MAX_START_INDEX
    assert 0 <= query.count <= MAX_COUNT


@given(
    st.dictionaries(
        FIELDS, st.none() | st.integers() | st.text(max_size=5) | st.lists(st.text(max_size=5)) | st.floats()
    )
)
def test_any_search_request_makes_a_query_or_a_scim_error(fields: dict[str, Any]):
    try:
        ListQuery.from_search_request(search(**fields))
    except ScimError:
        return


def test_a_page_by_index_has_numbers_as_numbers():
    assert list_response([{"id": "1"}], 7, 3) == {
        "schemas": ["urn:ietf:params:scim:api:messages:2.0:ListResponse"],
        "totalResults": 7,
        "startIndex": 3,
        "itemsPerPage": 1,
        "Resources": [{"id": "1"}],
    }


def test_an_empty_page_has_an_empty_list():
    page = list_response([], 0, 1)
    assert (page["totalResults"], page["itemsPerPage"], page["Resources"]) == (0, 0, [])


def test_a_page_by_cursor_names_the_next_one_unless_it_is_the_last():
    page = list_response([{}, {}], None, next_cursor="n", previous_cursor="p")
    assert (page["nextCursor"], page["previousCursor"], page["itemsPerPage"]) == ("n", "p", 2)
    assert "startIndex" not in page
    assert "totalResults" not in page
    assert "nextCursor" not in list_response([], None)
