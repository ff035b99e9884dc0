"""Bulk requests: RFC 7644 section 3.7, threat T37."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scim.bulk import BulkRequest, bulk_response, parse_bulk
from scim.errors import InvalidPath, InvalidSyntax, InvalidValue, PayloadTooLarge, ScimError
from scim.patch import operations_to_json, parse_patch
from scim.resource import parse_resource
from scim.schema import CORE_GROUP, CORE_USER, ENTERPRISE_USER, GROUP, PATCH_OP, USER, ResourceType
from scim.urns import BULK_REQUEST, BULK_RESPONSE


@dataclass(frozen=True)
class Endpoint:
    """Reads a body as the library does."""

    type: ResourceType

    def resource_content(self, document: Any) -> Any:
        return parse_resource(self.type, document)

    def patch_content(self, document: Any, resource_id: str) -> Any:
        return operations_to_json(parse_patch(self.type, document, resource_id=resource_id))


ENDPOINTS = {"/Users": Endpoint(USER), "/Groups": Endpoint(GROUP)}


def bulk(*operations: Any, **fields: Any) -> dict[str, Any]:
    return {"schemas": [BULK_REQUEST], "Operations": list(operations), **fields}


def post_user(bulk_id: str, user_name: str = "ada", **attributes: Any) -> dict[str, Any]:
    data = {"schemas": [CORE_USER], "userName": user_name, **attributes}
    return {"method": "POST", "path": "/Users", "bulkId": bulk_id, "data": data}


def post_group(bulk_id: str, *members: str) -> dict[str, Any]:
    data = {"schemas": [CORE_GROUP], "displayName": bulk_id, "members": [{"value": member} for member in members]}
    return {"method": "POST", "path": "/Groups", "bulkId": bulk_id, "data": data}


def with_manager(bulk_id: str, manager: str) -> dict[str, Any]:
    return post_user(bulk_id, bulk_id, **{ENTERPRISE_USER: {"manager": {"value": manager}}})


def patch(path: str, *operations: dict[str, Any]) -> dict[str, Any]:
    return {"method": "PATCH", "path": path, "data": {"schemas": [PATCH_OP], "Operations": list(operations)}}


def ids() -> Iterator[str]:
    return (f"id-{number}" for number in count(1))


def read(*operations: Any, **fields: Any) -> BulkRequest[Endpoint]:
    return parse_bulk(bulk(*operations, **fields), ENDPOINTS, ids().__next__)


def positions(request: BulkRequest) -> list[int]:
    return [operation.position for operation in request.operations]


def test_each_method_has_what_its_endpoint_would_read():
    request = read(
        post_user("one", "ada", nickName=""),
        {"method": "put", "path": "Users/7", "version": 'W/"3"', "data": post_user("x", "bob")["data"]},
        patch("/Users/8", {"op": "Replace", "path": "active", "value": "False"}),
        {"METHOD": "Delete", "Path": "/Groups/9", "data": {"ignored": True}},
        failOnErrors=2,
    )
    create, replace, change, delete = request.operations

    assert request.fail_on_errors == 2
    assert (create.method, create.resource_id, create.content) == ("POST", "id-1", {"userName": "ada"})
    assert (replace.method, replace.resource_id, replace.version) == ("PUT", "7", 'W/"3"')
    assert replace.content == {"userName": "bob"}
    assert change.content == [{"op": "replace", "path": "active", "value": False}]
    assert (delete.method, delete.endpoint, delete.resource_id) == ("DELETE", ENDPOINTS["/Groups"], "9")
    assert not any(operation.error for operation in request.operations)


def test_a_group_may_name_users_that_come_later():
    request = read(post_group("staff", "bulkId:ada", "bulkId:bob"), post_user("ada"), post_user("bob", "bob"))

    assert positions(request) == [1, 2, 0]
    ada, bob, group = request.operations
    assert group.content == {
        "displayName": "staff",
        "members": [{"value": ada.resource_id}, {"value": bob.resource_id}],
    }


def test_managers_may_refer_to_each_other_in_a_circle():
    request = read(with_manager("a", "bulkId:b"), with_manager("b", "bulkId:c"), with_manager("c", "bulkId:a"))
    ids_of = {operation.bulk_id: operation.resource_id for operation in request.operations}

    managers = {
        operation.bulk_id: operation.content[ENTERPRISE_USER]["manager"]["value"]
        for operation in request.operations
        if operation.content
    }
    assert managers == {"a": ids_of["b"], "b": ids_of["c"], "c": ids_of["a"]}


def test_whoever_waits_for_nobody_keeps_their_place():
    delete = {"method": "DELETE", "path": "/Users/1"}
    request = read(delete, post_group("staff", "bulkId:ada"), delete, post_user("ada"), delete)
    assert positions(request) == [0, 3, 1, 2, 4]


REFERENCES = [
    ({"op": "add", "path": "members", "value": [{"value": "bulkId:ada"}]}, "add"),
    ({"op": "remove", "path": 'members[value eq "bulkId:ada"]'}, "remove"),
    ({"op": "add", "value": {"members": [{"value": "bulkId:ada"}]}}, "add"),
]


@pytest.mark.parametrize(("operation", "op"), REFERENCES)
def test_references_resolve_inside_a_patch(operation: dict[str, Any], op: str):
    ada, change = read(post_user("ada"), patch("/Groups/bulkId:staff", operation), post_group("staff")).operations[::2]
    assert ada.bulk_id == "ada"
    assert [(item["op"], item["value"]) for item in change.content] == [(op, [{"value": ada.resource_id}])]


def test_a_path_may_name_a_resource_of_the_same_request():
    request = read(
        patch("/Groups/bulkId:staff", {"op": "replace", "path": "displayName", "value": "x"}), post_group("staff")
    )
    staff, change = request.operations
    assert change.resource_id == staff.resource_id == "id-1"


REFUSED = [
    (7, InvalidSyntax),
    ({**post_user("a"), "method": "GET"}, InvalidValue),
    ({**post_user("a"), "method": None}, InvalidValue),
    ({**post_user("a"), "bulkId": None}, InvalidValue),
    ({**post_user("a"), "bulkId": 7}, InvalidValue),
    ({**post_user("a"), "bulkId": "x" * 257}, InvalidValue),
    ({**post_user("a"), "path": "/Users/1"}, InvalidPath),
    ({**post_user("a"), "path": "/Nothing"}, InvalidPath),
    ({**post_user("a"), "path": None}, InvalidPath),
    ({**post_user("a"), "path": 7}, InvalidValue),
    ({**post_user("a"), "data": None}, InvalidSyntax),
    ({**post_user("a"), "data": [1]}, InvalidSyntax),
    (post_user("a", ""), InvalidValue),
    (with_manager("a", "bulkId:nobody"), InvalidValue),
    ({"method": "DELETE", "path": "/Users"}, InvalidPath),
    ({"method": "DELETE", "path": "/Users/"}, InvalidPath),
    ({"method": "DELETE", "path": "/Users/1/2"}, InvalidPath),
    ({"method": "DELETE", "path": "/Users/bulkId:nobody"}, InvalidValue),
    (patch("/Users/1", {"op": "add", "path": "nothing", "value": 1}), InvalidPath),
]


@pytest.mark.parametrize(("operation", "error"), REFUSED)
def test_a_malformed_operation_is_refused_alone_in_its_place(operation: Any, error: type[ScimError]):
    before, refused, after = read(post_user("b"), operation, post_user("c")).operations
    assert isinstance(refused.error, error)
    assert not before.error
    assert not after.error


def test_a_bulk_id_that_is_given_twice_is_nobodys():
    request = read(post_user("same"), post_user("same", "bob"), post_group("staff", "bulkId:same"), post_user("other"))
    assert [bool(operation.error) for operation in request.operations] == [True, True, True, False]


def test_whoever_refers_to_a_refused_create_is_refused_too():
    request = read(with_manager("a", "bulkId:b"), with_manager("b", "bulkId:c"), {**post_user("c"), "data": {}})
    assert all(isinstance(operation.error, InvalidValue) for operation in request.operations)
    assert positions(request) == [2, 1, 0]


MALFORMED = [
    ([], InvalidSyntax),
    ({"Operations": [post_user("a")]}, InvalidSyntax),
    ({"schemas": [CORE_USER], "Operations": [post_user("a")]}, InvalidSyntax),
    (bulk(), InvalidSyntax),
    ({"schemas": [BULK_REQUEST]}, InvalidSyntax),
    ({"schemas": [BULK_REQUEST], "Operations": {}}, InvalidSyntax),
    (bulk(post_user("a"), failOnErrors=0), InvalidValue),
    (bulk(post_user("a"), failOnErrors=True), InvalidValue),
    (bulk(post_user("a"), failOnErrors="1"), InvalidValue),
]


@pytest.mark.parametrize(("document", "error"), MALFORMED)
def test_a_malformed_message_is_refused_as_a_whole(document: Any, error: type[ScimError]):
    with pytest.raises(error):
        parse_bulk(document, ENDPOINTS, ids().__next__)


def test_t37_101_operations_are_refused_as_a_whole():
    assert len(read(*(post_user(str(n), f"user{n}") for n in range(100))).operations) == 100
    with pytest.raises(PayloadTooLarge, match="100"):
        read(*(post_user(str(n), f"user{n}") for n in range(101)))


def test_t37_a_long_chain_of_references_is_resolved():
    chain = [with_manager(str(n), f"bulkId:{n + 1}") for n in range(99)]
    assert positions(read(*chain, post_user("99"))) == list(reversed(range(100)))


def test_the_answer_holds_its_operations():
    assert bulk_response([{"status": "204"}]) == {"schemas": [BULK_RESPONSE], "Operations": [{"status": "204"}]}


_NAMES = st.sampled_from(["a", "b", "c", "d"])
_REFERRING = st.builds(with_manager, _NAMES, _NAMES.map(lambda name: f"bulkId:{name}"))
_GROUPS = st.builds(lambda name, members: post_group(name, *(f"bulkId:{m}" for m in members)), _NAMES, st.lists(_NAMES))
_NOISE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.sampled_from(["POST", "/Users", "bulkId:a"]),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["method", "path", "bulkId", "data"]), inner),
    max_leaves=8,
)


@given(st.lists(_REFERRING | _GROUPS | _NAMES.map(post_user) | _NOISE, min_size=1, max_size=8))
def test_every_operation_is_answered_once_and_no_reference_is_left(operations: list[Any]):
    request = read(*operations)

    assert sorted(positions(request)) == list(range(len(operations)))
    for operation in request.operations:
        if operation.error is None:
            assert "bulkId:" not in json.dumps([operation.resource_id, operation.content])
