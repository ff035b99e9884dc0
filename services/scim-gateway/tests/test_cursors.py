"""Cursor paging (RFC 9865): walks that lose and repeat nobody, and cursors that only we can make."""

import asyncio
import hmac
import random
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from itertools import count
from typing import Any
from uuid import UUID, uuid4

import pytest

from gateway_stand import PEPPER, Running, Tenant
from scim.listing import ListQuery
from scim_gateway.cursors import LIFETIME, Cursors, Walk, asked_by
from scim_gateway.store.walks import Position
from servicekit.ids import uuid7

SEARCH = "urn:ietf:params:scim:api:messages:2.0:SearchRequest"
ENTERPRISE = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"


async def page(gateway: Running, tenant: Tenant, **params: Any) -> dict[str, Any]:
    answer = await gateway.client.get("/Users", params=params, headers=tenant.auth)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def pages(gateway: Running, tenant: Tenant, **params: Any) -> AsyncIterator[dict[str, Any]]:
    """All pages of a walk; a walk without an end is an error."""
    cursor = ""
    for _ in range(200):
        found = await page(gateway, tenant, cursor=cursor, **params)
        yield found
        if "nextCursor" not in found:
            return
        cursor = found["nextCursor"]
    raise AssertionError("the walk does not end")


async def walked(gateway: Running, tenant: Tenant, **params: Any) -> list[str]:
    return [user["userName"] async for found in pages(gateway, tenant, **params) for user in found["Resources"]]


async def add_users(tenant: Tenant, *names: str) -> None:
    for name in names:
        await tenant.add_user(name)


async def remove_user(tenant: Tenant, name: str) -> None:
    await tenant.directory.owner.execute(
        "DELETE FROM users WHERE connection_id = $1 AND user_name = $2", tenant.id, name
    )


async def test_a_walk_sees_everybody_once_in_pages_of_any_size(gateway, tenant):
    names = [f"user{n}" for n in range(7)]
    await add_users(tenant, *names)

    assert await walked(gateway, tenant, count=3) == names
    assert await walked(gateway, tenant, count=7) == names
    assert await walked(gateway, tenant) == names
    sizes = [(len(found["Resources"]), found["itemsPerPage"]) async for found in pages(gateway, tenant, count=3)]
    assert sizes == [(3, 3), (3, 3), (1, 1)]


async def test_next_cursor_is_absent_on_the_last_page_only(gateway, tenant):
    await add_users(tenant, *"abcd")
    first = await page(gateway, tenant, cursor="", count=2)
    last = await page(gateway, tenant, cursor=first["nextCursor"], count=2)

    assert "startIndex" not in first
    assert "nextCursor" not in last
    assert [found["totalResults"] for found in (first, last)] == [4, 4]
    assert "nextCursor" not in await page(gateway, tenant, count=2)  # index paging is the default


async def test_without_anybody_the_first_page_is_the_last(gateway, tenant):
    found = await page(gateway, tenant, cursor="")
    assert (found["totalResults"], found["Resources"], "nextCursor" in found) == (0, [], False)


async def test_the_page_size_may_change_on_the_way_and_be_nothing(gateway, tenant):
    await add_users(tenant, *"abcdef")
    nothing = await page(gateway, tenant, cursor="", count=0)
    first = await page(gateway, tenant, cursor=nothing["nextCursor"], count=1)
    pause = await page(gateway, tenant, cursor=first["nextCursor"], count=0)
    rest = await page(gateway, tenant, cursor=pause["nextCursor"], count=200)

    assert (nothing["totalResults"], nothing["Resources"], pause["Resources"]) == (6, [], [])
    assert [user["userName"] for user in first["Resources"] + rest["Resources"]] == list("abcdef")
    assert "nextCursor" not in rest


async def test_a_filtered_walk_carries_the_total_of_its_beginning(gateway, tenant):
    await add_users(tenant, "a1", "b1", "a2", "b2", "a3")
    query = 'userName sw "a"'
    first = await page(gateway, tenant, cursor="", count=2, filter=query)
    await tenant.add_user("a4")
    last = await page(gateway, tenant, cursor=first["nextCursor"], count=2, filter=query)

    assert [user["userName"] for user in first["Resources"] + last["Resources"]] == ["a1", "a2", "a3", "a4"]
    assert (first["totalResults"], last["totalResults"]) == (3, 3)


SORTS = [
    ("userName", "ascending", "abcde"),
    ("userName", "descending", "edcba"),
    ("title", "ascending", "bdace"),
    ("title", "descending", "ceabd"),
    ("active", "ascending", "beacd"),
    ("active", "descending", "acdbe"),
    ("meta.created", "descending", "edcba"),
    ("name.familyName", "descending", "abcde"),
    ("emails", "ascending", "abcde"),
    ("emails", "descending", "bcdea"),
    (f"{ENTERPRISE}:employeeNumber", "ascending", "cabde"),
]


@pytest.mark.parametrize(("by", "order", "names"), SORTS)
@pytest.mark.parametrize("size", [1, 2, 4])
async def test_a_sorted_walk_is_in_order_with_missing_and_equal_keys(gateway, tenant, by, order, names, size):
    await tenant.add_user("a", title="M", emails=[{"value": "a@example.com"}], **{ENTERPRISE: {"employeeNumber": "7"}})
    await tenant.add_user("b", title="f", active=False, **{ENTERPRISE: {"employeeNumber": "7"}})
    await tenant.add_user("c", **{ENTERPRISE: {"employeeNumber": "1"}})
    await tenant.add_user("d", title="F")
    await tenant.add_user("e", active=False)
    indexed = await page(gateway, tenant, sortBy=by, sortOrder=order)

    assert await walked(gateway, tenant, sortBy=by, sortOrder=order, count=size) == list(names)
    assert [user["userName"] for user in indexed["Resources"]] == list(names)


async def test_long_and_odd_sort_keys_travel_in_a_cursor_that_is_taken_back(gateway, tenant):
    titles = ["\U0001f9ed" * 3000, '"\\' * 2000, "\t" * 500 + "a", "z" * 5000 + "1", "z" * 5000 + "2"]
    for number, title in enumerate(titles):
        await tenant.add_user(f"user{number}", title=title)
    for order in ("ascending", "descending"):
        found = await walked(gateway, tenant, sortBy="title", sortOrder=order, count=1)
        assert sorted(found) == [f"user{n}" for n in range(5)]


async def test_whoever_stays_is_seen_once_while_others_come_and_go(gateway, tenant):
    """Deletes before and at the position, and creates anywhere in the order, between all the pages."""
    staying = [f"stay{n:03}" for n in range(60)]
    leaving = [f"leave{n:03}" for n in range(60)]
    for pair in zip(staying, leaving, strict=True):
        await add_users(tenant, *pair)
    for sort in ({}, {"sortBy": "userName"}, {"sortBy": "userName", "sortOrder": "descending"}):
        seen: list[str] = []
        async for found in pages(gateway, tenant, count=10, **sort):
            seen += [user["userName"] for user in found["Resources"]]
            await tenant.add_user(f"new{uuid4().hex}")
            for name in (seen[-1], random.Random(len(seen)).choice(leaving)):
                if name in leaving:
                    await remove_user(tenant, name)
        assert [name for name in seen if name in staying] == (
            sorted(staying, reverse=True) if sort.get("sortOrder") else staying
        )
        assert len(seen) == len(set(seen))
        await restore(tenant, leaving)


async def restore(tenant: Tenant, names: list[str]) -> None:
    rows = await tenant.directory.owner.fetch("SELECT user_name FROM users WHERE connection_id = $1", tenant.id)
    there = {row["user_name"] for row in rows}
    await add_users(tenant, *(name for name in names if name not in there))
    for name in there:
        if name.startswith("new"):
            await remove_user(tenant, name)


async def test_whoever_stays_is_seen_once_by_concurrent_walks(gateway, tenant):
    staying = [f"stay{n:03}" for n in range(50)]
    await add_users(tenant, *staying)
    done = asyncio.Event()

    async def churn() -> None:
        for number in count():
            await tenant.add_user(f"churn{number}")
            if number % 2:
                await remove_user(tenant, f"churn{number - 1}")
            if done.is_set():
                return

    churning = asyncio.create_task(churn())
    try:
        walks = await asyncio.gather(*(walked(gateway, tenant, count=size) for size in (1, 3, 7, 20)))
    finally:
        done.set()
        await churning
    for seen in walks:
        assert [name for name in seen if name in staying] == staying
        assert len(seen) == len(set(seen))


async def test_a_search_by_post_walks_too(gateway, tenant):
    await add_users(tenant, *"abc")
    names: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        body = {"schemas": [SEARCH], "cursor": cursor, "count": 2}
        found = (await gateway.client.post("/Users/.search", json=body, headers=tenant.auth)).json()
        names += [user["userName"] for user in found["Resources"]]
        cursor = found.get("nextCursor")
    assert names == ["a", "b", "c"]


# --- what a cursor is ------------------------------------------------------------------------------------------------


async def refused(gateway: Running, tenant: Tenant, path: str = "/Users", **params: Any) -> str:
    answer = await gateway.client.get(path, params=params, headers=tenant.auth)
    assert answer.status_code == 400, answer.text
    return answer.json()["scimType"]


async def test_a_cursor_is_for_its_own_question_and_connection(gateway, tenant, directory):
    await add_users(tenant, *"abc")
    stranger = await directory.add_connection()
    asked = {"filter": "userName pr", "sortBy": "userName", "count": 1}
    cursor = (await page(gateway, tenant, cursor="", **asked))["nextCursor"]

    assert (await page(gateway, tenant, cursor=cursor, **asked))["Resources"][0]["userName"] == "b"
    assert await refused(gateway, stranger, cursor=cursor, **asked) == "invalidCursor"
    assert await refused(gateway, tenant, "/Groups", cursor=cursor) == "invalidCursor"
    for other in ({"filter": "id pr"}, {"sortBy": "id"}, {"sortOrder": "descending"}):
        assert await refused(gateway, tenant, cursor=cursor, **{**asked, **other}) == "invalidCursor"
    assert await refused(gateway, tenant, cursor=cursor) == "invalidCursor"


async def test_a_forged_cursor_is_refused(gateway, tenant):
    await add_users(tenant, *"ab")
    cursor = (await page(gateway, tenant, cursor="", count=1))["nextCursor"]
    forged = [cursor[:n] + chr(ord(cursor[n]) ^ 1) + cursor[n + 1 :] for n in range(0, len(cursor), 7)]
    for text in [*forged, cursor[:-1], cursor + "=", cursor + "A", "7", "é", "A" * 2000, "%00", cursor.lower()]:
        assert await refused(gateway, tenant, cursor=text) == "invalidCursor"


async def test_a_cursor_older_than_an_hour_has_expired(gateway, tenant):
    await add_users(tenant, *"ab")
    asked = asked_by(tenant.id, "/Users", ListQuery(cursor=""))
    issuer = Cursors(hmac.digest(PEPPER.encode(), b"cursors", "sha256"))
    old = issuer.issue(Walk(2), asked, time.time() - LIFETIME - 5)
    fresh = issuer.issue(Walk(2), asked, time.time() - LIFETIME + 60)

    assert await refused(gateway, tenant, cursor=old) == "expiredCursor"
    assert len((await page(gateway, tenant, cursor=fresh))["Resources"]) == 2


async def test_an_unusable_count_beside_a_cursor_is_invalid_count(gateway, tenant):
    assert await refused(gateway, tenant, cursor="", count="many") == "invalidCount"
    assert (await page(gateway, tenant, cursor="", count=-1))["Resources"] == []


def test_a_cursor_gives_back_what_it_was_made_of():
    cursors = Cursors(b"key")
    user_id = uuid7()
    walk = Walk(7, Position(datetime.now(UTC), UUID(str(user_id)), "ключ"))
    assert cursors.read(cursors.issue(walk, b"asked", 10.0), b"asked", 11.0) == walk
    assert cursors.read("", b"asked", 0.0) == Walk()
