"""The player itself: a scenario that should fail fails, and says why."""

import json
from typing import Any

import httpx
import pytest

from e2e.checks import Unmet, check_value, status_matches
from e2e.paths import MISSING, BadPath, select
from e2e.player import Server, Verdict, play
from e2e.scenarios import Scenario, substitute

USER = {"id": "1", "userName": "ada", "emails": [{"type": "work", "value": "a"}, {"type": "home"}], "urn:x:y": {"z": 0}}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("$", USER),
        ("$.USERNAME", "ada"),
        ("$.emails[0].value", "a"),
        ("$.emails[7]", MISSING),
        ("$.emails[?type=HOME].type", "home"),
        ("$.emails[?type=other].value", MISSING),
        ("$.emails[*].value", ["a"]),
        ("$.nothing[*]", []),
        ("$['urn:x:y'].z", 0),
        ("$.id.id", MISSING),
    ],
)
def test_a_path_selects(path: str, value: Any):
    assert select(USER, path) == value


@pytest.mark.parametrize("path", ["id", "$.", "$[", "$.emails[x]"])
def test_a_path_outside_the_language_is_refused(path: str):
    with pytest.raises(BadPath):
        select(USER, path)


@pytest.mark.parametrize(
    ("holds", "check"),
    [
        (True, ("$.userName", "eq", "ada")),
        (False, ("$.userName", "eq", "ADA")),
        (False, ("$['urn:x:y'].z", "eq", False)),
        (True, ("$.nothing", "absent")),
        (False, ("$.userName", "absent")),
        (True, ("$.nothing", "len", 0)),
        (False, ("$.emails", "len", 1)),
        (False, ("$.nothing", "ne", "x")),
        (True, ("$.nothing", "not_contains", "x")),
        (False, ("$.id", "gt", 0)),
        (True, ("$.emails[*].type", "sorted", "descending")),
        (False, ("$.emails", "type", "object")),
    ],
)
def test_a_check_holds_or_not(holds: bool, check: tuple[Any, ...]):
    if holds:
        check_value(USER, *check)
    else:
        with pytest.raises(Unmet):
            check_value(USER, *check)


def test_an_unknown_operator_is_an_error_of_the_case_file():
    with pytest.raises(ValueError, match="unknown operator"):
        check_value(USER, "$.id", "equals", "1")


@pytest.mark.parametrize(
    ("want", "got", "matches"),
    [(200, 200, True), ("2xx", 204, True), ("!5xx", 404, True), (None, 503, False), ([200, "4xx"], 404, True)],
)
def test_a_status_matches_or_not(want: Any, got: int, matches: bool):
    assert status_matches(want, got) is matches


def test_a_text_that_is_one_variable_keeps_its_type():
    assert substitute({"{a}": ["{n}", "x{n}"]}, {"a": "k", "n": 7}) == {"k": [7, "x7"]}


def server(*answers: httpx.Response) -> tuple[Server, list[httpx.Request]]:
    """A server that gives these answers in turn, and what it was asked."""
    asked: list[httpx.Request] = []
    left = iter(answers)

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return next(left, httpx.Response(204))

    http = httpx.AsyncClient(transport=httpx.MockTransport(answer))
    return Server(http, "http://scim.test/v2", "t", frozenset({"patch"}), frozenset({"User"})), asked


def scenario(*steps: dict[str, Any], **more: Any) -> Scenario:
    return Scenario("file", "id", "must", list(steps), **more)


async def test_what_a_step_captures_the_next_one_sends():
    served, asked = server(httpx.Response(201, json={"id": "7"}, headers={"etag": "W/1"}), httpx.Response(200, json={}))

    verdict = await play(
        scenario(
            {"method": "POST", "path": "/Users", "body": {"n": "{v}"}, "capture": {"id": "$.id", "e": "header:etag"}},
            {"path": "/Users/{id}", "query": {"filter": 'a eq "+ &"'}, "headers": {"If-Match": "{e}", "Accept": None}},
            variables={"v": "v-{n}"},
        ),
        served,
    )

    assert verdict == Verdict("pass")
    assert json.loads(asked[0].content) == {"n": "v-1"}
    assert str(asked[1].url) == "http://scim.test/v2/Users/7?filter=a%20eq%20%22%2B%20%26%22"
    assert asked[1].headers["if-match"] == "W/1"
    assert asked[1].headers.get("accept") != "application/scim+json"
    assert asked[1].headers["authorization"] == "Bearer t"


async def test_an_unmet_expectation_fails_and_the_cleanup_is_done_all_the_same():
    served, asked = server(httpx.Response(200, json={"active": True}))
    expect = {"status": 200, "json": [["$.active", "eq", False]]}

    verdict = await play(
        scenario({"name": "look", "path": "/Users", "expect": expect}, cleanup=[{"method": "DELETE", "path": "/x"}]),
        served,
    )

    assert verdict.result == "fail"
    assert "look" in verdict.reason
    assert "got true" in verdict.reason
    assert [request.method for request in asked] == ["GET", "DELETE"]


@pytest.mark.parametrize(
    ("step", "reason"),
    [
        ({"path": "/Users/{nobody}"}, "unbound variable"),
        ({"path": "http://elsewhere.test/v2/Users"}, "leaves the server under test"),
        ({"path": "/Users", "capture": {"id": "$.id"}}, "nothing at $.id"),
        ({"path": "/Users", "expect": {"status": 404}}, "status wanted 404"),
        ({"path": "/Users", "expect": {"headers": {"location": {"exists": True}}}}, "header location"),
        ({"path": "/Users", "expect": {"body_empty": True}}, "body should be empty"),
        ({"parallel": [{"path": "/a"}, {"path": "/b"}], "statuses": {"200": 2}}, "statuses wanted"),
    ],
)
async def test_a_step_fails_for(step: dict[str, Any], reason: str):
    served, _ = server(httpx.Response(200, json={"some": "body"}))

    verdict = await play(scenario(step), served)

    assert verdict.result == "fail"
    assert reason in verdict.reason


async def test_a_loop_runs_for_each_value():
    served, asked = server()

    await play(scenario({"path": "/Users/{i}", "foreach": {"as": "i", "range": [1, 3]}}), served)

    assert [request.url.path for request in asked] == ["/v2/Users/1", "/v2/Users/2", "/v2/Users/3"]


@pytest.mark.parametrize(
    ("needs", "reason"),
    [(scenario({"path": "/Groups"}), "Group not served"), (scenario(requires=("bulk",)), "bulk not advertised")],
)
async def test_what_the_server_lacks_is_not_played(needs: Scenario, reason: str):
    served, asked = server()

    assert await play(needs, served) == Verdict("skip", reason)
    assert asked == []
