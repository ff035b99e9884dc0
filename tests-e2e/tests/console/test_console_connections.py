"""Connections, their tokens, settings and held deactivations, in a real browser against the running stack."""

import re
from datetime import UTC, datetime, timedelta

import pytest_asyncio
from playwright.async_api import Page, expect

from e2e.admin import Organization
from e2e.browser import Complaints, sign_in
from e2e.scim import Scim, patch, user
from e2e.stack import Stack, until

CONNECTIONS = "/admin/scim/connections"
OFF = {"op": "replace", "path": "active", "value": False}


@pytest_asyncio.fixture(loop_scope="session")
async def admin_page(visitor: Page, org: Organization) -> Page:
    await sign_in(visitor, org.admin.email, org.admin.password, CONNECTIONS)
    return visitor


async def told(page: Page, text: str) -> None:
    """The notice of what was just done."""
    await expect(page.locator(".notice").first).to_contain_text(text)


async def serves(org: Organization, token: str) -> int:
    """How the SCIM server answers the token."""
    scim = Scim(org.scim.http, token)
    return (await scim.request("GET", "/Users", params={"count": "1"})).status_code


async def connected(org: Organization, provider_id: str) -> tuple[str, Scim]:
    """Another connection of the organization, and its client."""
    made = await org.admin.generate_token(provider_id)
    return made["connectionId"], Scim(org.scim.http, made["scimToken"])


async def test_t44_a_connection_is_made_from_a_preset_and_its_token_shown_once(
    admin_page: Page, org: Organization, stack: Stack
) -> None:
    """T44: in one answer that is not kept, and in no address."""
    page = admin_page
    await page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    await page.get_by_role("link", name="New connection").click()
    await page.get_by_role("link", name="Microsoft Entra ID").click()
    await expect(page.get_by_label("Name of the connection")).to_have_value("entra")
    await page.get_by_label("Label of its first token").fill("first <one>")
    async with page.expect_response(lambda response: response.request.method == "POST") as posted:
        await page.get_by_role("button", name="Create connection and token").click()

    answer = await posted.value
    assert (answer.status, answer.headers["cache-control"]) == (201, "no-store")
    token = await page.locator("#token").inner_text()
    assert token not in page.url
    await page.get_by_role("button", name="Copy token").click()
    await expect(page.get_by_role("button", name="Copied")).to_be_visible()
    assert await page.evaluate("navigator.clipboard.readText()") == token
    await expect(page.locator(".copyable", has_text="Tenant URL").locator("code")).to_have_text(stack.scim_url)
    await expect(page.locator(".copyable", has_text="Secret Token").locator("code")).to_have_text(token)
    assert await serves(org, token) == 200

    await page.get_by_role("link", name="Done, show the connection").click()

    await expect(page.get_by_role("heading", level=1)).to_have_text("entra")
    await expect(page.locator("main")).to_contain_text("first <one>")
    assert token not in await page.content()
    await page.get_by_role("link", name="Setup values").click()
    await expect(page.get_by_role("heading", name="Microsoft Entra ID")).to_be_visible()
    await page.get_by_role("link", name="OneLogin").click()
    await expect(page.locator(".copyable", has_text="SCIM Base URL").locator("code")).to_have_text(stack.scim_url)
    assert token not in await page.content()


async def test_a_name_that_cannot_be_or_is_taken_is_told_beside_the_field(
    admin_page: Page, complaints: Complaints
) -> None:
    complaints.expected += ["status of 400", "status of 409"]
    page = admin_page
    await page.goto(f"{CONNECTIONS}/new?preset=other")
    for name, said in (("okta", "already"), ("google", "way to sign in"), ("no blanks", "1 to 64 characters")):
        await page.get_by_label("Name of the connection").fill(name)
        await page.get_by_label("Label of its first token").fill("kept")
        await page.get_by_role("button", name="Create connection and token").click()

        await expect(page.locator("#error-providerId")).to_contain_text(said)
        await expect(page.get_by_label("Name of the connection")).to_have_value(name)
        await expect(page.get_by_label("Label of its first token")).to_have_value("kept")
    await page.get_by_label("Token expires").fill("2020-01-01")
    await page.get_by_role("button", name="Create connection and token").click()
    await expect(page.locator("#error-expiresAt")).to_contain_text("Must lie in the future")


async def test_t44_a_token_is_issued_rotated_changed_and_revoked(
    admin_page: Page, org: Organization, complaints: Complaints
) -> None:
    """T44."""
    complaints.expected.append("status of 409")
    page = admin_page
    _, scim = await connected(org, "keys")
    await page.reload()
    await page.get_by_role("link", name="keys").click()
    await page.get_by_role("link", name="New token").click()
    await page.get_by_label("Label").fill("second")
    soon = datetime.now(UTC) + timedelta(days=5)
    await page.get_by_label("Expires").fill(soon.date().isoformat())
    await page.get_by_role("button", name="Issue token").click()
    second = await page.locator("#token").inner_text()
    await page.get_by_role("link", name="Done, show the connection").click()
    row = page.get_by_role("row", name="second")
    await expect(row).to_contain_text("expires soon")
    await expect(page.get_by_role("list", name="Warnings")).to_contain_text(f"{second[-4:]} expires")

    await row.get_by_role("link", name="Rotate").click()
    await page.get_by_role("button", name="Rotate token").click()
    await expect(page.get_by_role("alert")).to_contain_text("has 2 live tokens")
    await page.get_by_role("link", name="Cancel").click()
    await row.get_by_role("link", name="Edit").click()
    await page.get_by_label("Label").fill("renamed")
    await page.get_by_label("Expires").fill("")
    await page.get_by_role("button", name="Save token").click()
    await told(page, f"The token ending in {second[-4:]} is changed.")
    await expect(page.get_by_role("row", name="renamed")).not_to_contain_text("expires soon")
    await page.get_by_role("row", name="renamed").get_by_role("link", name="Revoke").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text(f"Revoke the token ending in {second[-4:]}?")
    await page.get_by_role("button", name=f"Revoke …{second[-4:]}").click()
    await told(page, "is revoked")
    await expect(page.get_by_role("row", name="renamed")).to_contain_text("revoked")

    await page.get_by_role("link", name=f"Rotate the token ending in {scim.token[-4:]}").click()
    await page.get_by_label("The old token").select_option("3600")
    await page.get_by_role("button", name="Rotate token").click()
    third = await page.locator("#token").inner_text()
    assert (await serves(org, third), await serves(org, scim.token)) == (200, 200)
    await page.get_by_role("link", name="Done, show the connection").click()
    old = page.get_by_role("row", name=f"…{scim.token[-4:]}")
    await expect(old).to_contain_text(re.compile(r"in 59 min|in 1 h"))


async def test_settings_are_saved_and_what_is_wrong_is_told_beside_its_field(
    admin_page: Page, org: Organization, complaints: Complaints
) -> None:
    complaints.expected.append("status of 400")
    page = admin_page
    connection_id, _ = await connected(org, "set")
    await page.goto(f"{CONNECTIONS}/{connection_id}")
    await page.get_by_label("Allowed networks").fill("127.0.0.0/8\nnowhere")
    await page.get_by_label("Append only").check()
    await page.get_by_role("button", name="Save settings").click()
    await expect(page.locator("#error-allowedNetworks")).to_contain_text("Give one network a line")
    await expect(page.get_by_label("Allowed networks")).to_have_value("127.0.0.0/8\nnowhere")
    await expect(page.get_by_label("Append only")).to_be_checked()

    await page.get_by_label("Allowed networks").fill("127.0.0.0/8\n\n2001:db8::/32")
    await page.get_by_label("Append only").uncheck()
    await page.get_by_label("Take over accounts").check()
    await page.get_by_label("Users", exact=True).fill("1")
    await page.get_by_label("Percent").fill("1")
    await page.get_by_label("Hold the rest").check()
    await page.get_by_label("Answer to a PATCH").select_option("none")
    await page.get_by_role("button", name="Save settings").click()

    await told(page, "The settings are saved")
    view = (await org.admin.request("GET", f"/api/v1/admin/scim/connections/{connection_id}")).json()
    assert view["allowedNetworks"] == ["127.0.0.0/8", "2001:db8::/32"]
    assert (view["groupPatchAnswer"], view["linkExistingAccounts"], view["appendOnly"]) == ("none", True, False)
    guard = view["guard"]
    assert (guard["users"], guard["percent"], guard["holds"]) == (1, 1, True)


async def test_held_deactivations_are_confirmed_discarded_and_the_guard_released(
    admin_page: Page, org: Organization
) -> None:
    page = admin_page
    connection_id, scim = await connected(org, "guarded")
    path = f"/api/v1/admin/scim/connections/{connection_id}"
    await org.admin.request("PATCH", path, {"guard": {"users": 1, "percent": 1, "holds": True}})
    made = [await scim.create(user()) for _ in range(6)]
    for each in made[:5]:
        await scim.request("PATCH", f"/Users/{each['id']}", patch(OFF))
    await page.reload()
    await expect(page.get_by_role("row", name="guarded")).to_contain_text("4 held")
    await page.get_by_role("link", name="guarded").click()
    await page.get_by_role("link", name="Held deactivations (4)").click()

    await page.get_by_role("button", name="Deactivate the chosen…").click()
    await told(page, "Choose who is meant, first.")
    await page.get_by_label(f"Choose {made[1]['userName']}").check()
    await page.get_by_role("button", name="Deactivate the chosen…").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("Deactivate 1 user?")
    await expect(page.locator("main")).to_contain_text(made[1]["userName"])
    await page.get_by_role("button", name="Deactivate 1 user").click()
    await told(page, "1 user deactivated.")
    await page.get_by_label(f"Choose {made[2]['userName']}").check()
    await page.get_by_role("button", name="Forget the chosen…").click()
    await page.get_by_role("button", name="Forget 1 deactivation").click()
    await told(page, "1 wish forgotten.")
    await page.get_by_role("button", name="Deactivate all 2…").click()
    await expect(page.locator("main")).to_contain_text(made[4]["userName"])
    await page.get_by_role("button", name="Deactivate 2 users").click()
    await told(page, "2 users deactivated.")
    await expect(page.get_by_role("heading", name="Nothing is held")).to_be_visible()

    assert [(await scim.get(each["id"]))["active"] for each in made] == [False, False, True, False, False, True]
    await page.get_by_role("link", name="Back to guarded").click()
    await page.get_by_role("link", name="Release the guard").click()
    await page.get_by_label("For how long").select_option("15")
    await page.get_by_role("button", name="Release the guard").click()
    await told(page, "The guard lets everything pass until")
    await expect(page.locator("main")).to_contain_text("Released: everything passes until")
    await scim.set_active(made[5]["id"], False)


async def test_a_deletion_says_what_goes_and_accounts_stay(admin_page: Page, org: Organization) -> None:
    page = admin_page
    connection_id, scim = await connected(org, "short-lived")
    created = await scim.create(user())
    await page.goto(f"{CONNECTIONS}/{connection_id}")
    await expect(page.locator(".danger-zone")).to_contain_text("1 user and 0 groups")
    await page.get_by_role("link", name="Delete connection…").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("Delete connection short-lived?")
    await expect(page.locator("main")).to_contain_text("1 user and 0 groups of this connection go")
    await page.get_by_role("button", name="Delete short-lived").click()

    await told(page, "Connection short-lived is deleted. Its accounts stay.")
    await expect(page.get_by_role("row", name="short-lived")).to_have_count(0)

    async def is_locked_out() -> bool:
        return await serves(org, scim.token) == 401

    await until(is_locked_out, "the deleted connection's token to be refused, two seconds later at the latest", 10)
    await page.goto("/admin/users")
    await expect(page.get_by_role("row", name=created["userName"])).to_be_visible()


async def test_t3_another_organizations_connection_is_unknown(
    admin_page: Page, tenant: Organization, complaints: Complaints
) -> None:
    """T3."""
    complaints.expected.append("status of 404")
    path = f"{CONNECTIONS}/{tenant.connection_id}"
    for each in (path, f"{path}/setup", f"{path}/holds", f"{path}/delete", f"{path}/tokens/new"):
        await admin_page.goto(each)
        await expect(admin_page.get_by_role("heading", level=1)).to_have_text("Nothing here")
