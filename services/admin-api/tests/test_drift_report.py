"""Drift over HTTP: told to the organization's admin, and not repaired."""

import pytest

from admin_seed import Seed, seed
from admin_stand import World, assert_refused

VERIFY = "/api/v1/admin/scim/verify"


@pytest.fixture
async def okta(world: World) -> Seed:
    okta = await seed(world.db, await world.organization())
    await okta.user()
    return okta


async def test_an_admin_is_told_the_drift_of_the_own_organization(okta: Seed, world: World) -> None:
    admin, stranger = await world.signed_in(await world.person(okta.organization_id)), await world.admin()
    clean = await admin.post(VERIFY)
    await world.db.execute("UPDATE connection_stats SET users = 9 WHERE connection_id = $1", okta.connection_id)

    report = (await admin.post(VERIFY, json={"staleAfterDays": 30})).json()

    assert clean.json() == {"isClean": True, "drifts": [], "stale": [], "orphans": []}
    assert report["isClean"] is False
    [drift] = report["drifts"]
    assert (drift["kind"], drift["found"]) == ("counters", 1)
    assert drift["examples"][0]["connectionId"] == str(okta.connection_id)
    assert (await admin.post(VERIFY)).json() == report, "nothing was repaired"
    assert (await stranger.post(VERIFY)).json()["isClean"] is True
    assert_refused(await admin.post(VERIFY, json={"staleAfterDays": 0}), 400, "validation")
