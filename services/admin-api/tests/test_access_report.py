"""Who holds which role through which group."""

import csv
import io

import pytest

from admin_seed import Seed, seed
from admin_stand import World

REPORT = "/api/v1/admin/scim/access-report"


@pytest.fixture
async def okta(world: World) -> Seed:
    return await seed(world.db, await world.organization(), "okta")


async def test_the_report_says_who_holds_what_through_what(okta: Seed, world: World) -> None:
    person = await world.person(okta.organization_id)
    admin = await world.signed_in(person)
    ada, grace = await okta.user("ada@example.com"), await okta.user("grace@example.com", active=False)
    engineer = await okta.role("engineer")
    group = await okta.group("Engineers", ada.id, grace.id)
    for user in (ada, grace):
        await okta.grant(user.account_id, engineer, group)
    await okta.grant(ada.account_id, engineer)

    report = (await admin.get(REPORT)).json()

    shown = [(row["role"], row["email"], row["source"], row["groupName"]) for row in report["holders"]]
    assert sorted(shown, key=str) == sorted(
        [
            ("admin", person.email, "manual", None),
            ("engineer", "ada@example.com", "manual", None),
            ("engineer", "ada@example.com", "group", "Engineers"),
            ("engineer", "grace@example.com", "group", "Engineers"),
        ],
        key=str,
    )
    [engineers] = [role for role in report["roles"] if role["role"] == "engineer"]
    assert (engineers["accounts"], engineers["activeAccounts"], engineers["byHand"], engineers["byGroups"]) == (
        2,
        1,
        1,
        2,
    )
    assert report["lastAdmin"]["accountId"] == str(person.id)
    assert report["nextCursor"] is None


async def test_admins_without_a_group_and_break_glass_accounts_are_named(okta: Seed, world: World) -> None:
    by_hand = await world.person(okta.organization_id)
    by_group = await okta.user()
    group, role = await okta.group("Admins", by_group.id), await okta.role("admin")
    await okta.grant(by_group.account_id, role, group)
    await world.db.execute("UPDATE accounts SET break_glass = true WHERE id = $1", by_hand.id)
    admin = await world.signed_in(by_hand)

    report = (await admin.get(REPORT)).json()

    assert {row["accountId"] for row in report["admins"]} == {str(by_hand.id), str(by_group.account_id)}
    assert [row["accountId"] for row in report["adminsWithoutGroup"]] == [str(by_hand.id)]
    assert [row["accountId"] for row in report["breakGlassAccounts"]] == [str(by_hand.id)]
    assert report["lastAdmin"] is None


async def test_pages_and_the_file_hold_every_reason_once(
    okta: Seed, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("admin_api.access_report.PAGE", 2)
    admin = await world.signed_in(await world.person(okta.organization_id))
    role = await okta.role("engineer")
    for name in ("one@example.com", "two@example.com", "three@example.com"):
        user = await okta.user(name, display_name="=1+1")
        await okta.grant(user.account_id, role, await okta.group(f"Group of {name}", user.id))
        await okta.grant(user.account_id, role)
    pages, cursor = [], None
    while True:
        answer = (await admin.get(REPORT, params={"limit": 2, **({"cursor": cursor} if cursor else {})})).json()
        pages += [(row["role"], row["accountId"], row["groupId"]) for row in answer["holders"]]
        if not (cursor := answer["nextCursor"]):
            break
    rows = list(csv.DictReader(io.StringIO((await admin.get(f"{REPORT}/export")).text)))

    assert len(pages) == len(set(pages)) == 7
    assert [(row["role"], row["accountId"], row["groupId"] or None) for row in rows] == pages
    assert {row["displayName"] for row in rows if row["role"] == "engineer"} == {"'=1+1"}


async def test_another_organization_is_not_in_the_report(okta: Seed, world: World) -> None:
    user = await okta.user()
    await okta.grant(user.account_id, await okta.role("engineer"))
    stranger = await world.admin()

    report = (await stranger.get(REPORT)).json()

    assert str(user.account_id) not in str(report)
    assert {role["role"] for role in report["roles"]} == {"admin", "member"}
