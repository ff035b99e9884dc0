"""The guard's brake, end to end: a burst is held, an admin confirms, discards or releases; a reactivation cancels."""

from collections.abc import AsyncIterator

import asyncpg
import pytest_asyncio

from e2e.admin import Organization, another_organization
from e2e.scim import assert_error, patch, user
from e2e.stack import Stack

HOLDS = "/api/v1/admin/scim/holds"
OFF = {"op": "replace", "path": "active", "value": False}


@pytest_asyncio.fixture(loop_scope="session")
async def org(stack: Stack, db: asyncpg.Connection) -> AsyncIterator[Organization]:
    """A connection whose guard holds everything after the first deactivation, with six users."""
    async with another_organization(stack) as organization:
        await db.execute(
            "UPDATE connections SET guard_users = 1, guard_percent = 1, guard_holds = true WHERE id = $1",
            organization.connection_id,
        )
        yield organization


async def burst(org: Organization, count: int = 4) -> list[str]:
    """Ids of users who shall go; the first one does, the others are held."""
    ids = [(await org.scim.create(user()))["id"] for _ in range(count)]
    assert (await org.scim.patch(ids[0], OFF)).status_code == 200
    for each in ids[1:]:
        refused = await org.scim.patch(each, OFF)
        assert_error(refused, 503)
        assert refused.headers["retry-after"]
    return ids


async def active(org: Organization, ids: list[str]) -> list[bool]:
    return [(await org.scim.get(each))["active"] for each in ids]


async def open_holds(org: Organization) -> dict[str, str]:
    answer = await org.admin.request("GET", HOLDS, params={"status": "open", "connectionId": org.connection_id})
    assert answer.status_code == 200, answer.text
    return {hold["userId"]: hold["id"] for hold in answer.json()["holds"]}


async def test_a_burst_is_held_and_done_when_an_admin_confirms(org: Organization):
    ids = await burst(org)
    held = await open_holds(org)
    assert set(held) == set(ids[1:])
    assert await active(org, ids) == [False, True, True, True]

    some = await org.admin.request("POST", f"{HOLDS}/confirm", {"holdIds": [held[ids[1]]]})
    rest = await org.admin.request("POST", f"{HOLDS}/confirm", {"connectionId": org.connection_id})
    twice = await org.admin.request("POST", f"{HOLDS}/confirm", {"holdIds": [held[ids[1]]]})

    assert [result["status"] for result in some.json()["results"]] == [200], some.text
    assert ([result["status"] for result in rest.json()["results"]], rest.json()["remaining"]) == ([200, 200], 0)
    assert twice.status_code == 404
    assert await active(org, ids) == [False] * 4
    assert await open_holds(org) == {}


async def test_what_is_discarded_is_forgotten(org: Organization):
    ids = await burst(org)

    done = await org.admin.request("POST", f"{HOLDS}/discard", {"connectionId": org.connection_id})

    assert all(result["status"] < 300 for result in done.json()["results"]), done.text
    assert await open_holds(org) == {}
    assert await active(org, ids) == [False, True, True, True]


async def test_a_released_guard_lets_pass_what_is_sent_again(org: Organization):
    ids = await burst(org)
    path = f"/api/v1/admin/scim/connections/{org.connection_id}/release-guard"

    released = await org.admin.request("POST", path, {"minutes": 5})

    assert (released.json()["discarded"], released.json()["remaining"]) == (3, 0), released.text
    for each in ids[1:]:
        assert (await org.scim.request("PATCH", f"/Users/{each}", patch(OFF))).status_code == 200
    assert await active(org, ids) == [False] * 4


async def test_a_reactivation_cancels_its_hold(org: Organization):
    ids = await burst(org, 2)

    await org.scim.set_active(ids[1], True)

    assert await open_holds(org) == {}
    resolved = (await org.admin.request("GET", HOLDS, params={"status": "resolved"})).json()["holds"]
    assert [(hold["userId"], hold["resolution"]) for hold in resolved] == [(ids[1], "cancelled")]


async def test_another_organizations_holds_are_out_of_reach(org: Organization, organization: Organization):
    ids = await burst(org, 2)
    [hold_id] = (await open_holds(org)).values()

    for action in ("confirm", "discard"):
        answer = await organization.admin.request("POST", f"{HOLDS}/{action}", {"holdIds": [hold_id]})
        assert answer.status_code == 404
        answer = await organization.admin.request("POST", f"{HOLDS}/{action}", {"connectionId": org.connection_id})
        assert answer.json()["results"] == []
    assert await active(org, ids) == [False, True]
