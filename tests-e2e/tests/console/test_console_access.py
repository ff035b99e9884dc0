"""Mappings, roles, users, link requests and the quarantine, in a real browser against the running stack."""

import csv
import io
import json
import uuid
from pathlib import Path
from typing import Any

import asyncpg
import pytest_asyncio
from playwright.async_api import Browser, Page, expect

from e2e.admin import Organization
from e2e.browser import Complaints, opened, sign_in
from e2e.scim import CORE_GROUP, new_name, patch, user
from e2e.stack import Stack, until

MAPPINGS = "/admin/scim/mappings"
USERS = "/admin/users"


@pytest_asyncio.fixture(scope="module", loop_scope="session", autouse=True)
async def roles(org: Organization) -> None:
    """The roles Reader and Writer."""
    for name in ("Reader", "Writer"):
        role = {"name": name, "permissions": [f"{name.lower()}:all"]}
        assert (await org.admin.request("POST", "/api/v1/admin/roles", role)).status_code == 201


@pytest_asyncio.fixture(loop_scope="session")
async def admin_page(visitor: Page, org: Organization) -> Page:
    await sign_in(visitor, org.admin.email, org.admin.password, USERS)
    return visitor


async def told(page: Page, text: str) -> None:
    """The notice of what was just done."""
    await expect(page.locator(".notice").first).to_contain_text(text)


async def pushed(org: Organization, name: str, *members: dict[str, Any]) -> str:
    """The id of a group that the identity provider has sent."""
    body = {"schemas": [CORE_GROUP], "displayName": name, "members": [{"value": each["id"]} for each in members]}
    made = await org.scim.request("POST", "/Groups", body)
    assert made.status_code == 201, made.text
    return made.json()["id"]


async def account_of(org: Organization, search: str) -> dict[str, Any]:
    [account] = (await org.admin.request("GET", "/api/v1/admin/users", params={"search": search})).json()["users"]
    return account


async def roles_of(org: Organization, search: str) -> list[str]:
    return [held["role"] for held in (await account_of(org, search))["roles"]]


async def test_a_mapping_is_previewed_made_applied_and_deleted(
    admin_page: Page, org: Organization, complaints: Complaints
) -> None:
    complaints.expected.append("status of 409")
    page, name = admin_page, f"Readers {uuid.uuid4().hex[:6]}"
    ada, bob = await org.scim.create(user()), await org.scim.create(user())
    await pushed(org, name, ada, bob)
    await page.goto(MAPPINGS)
    await page.get_by_role("link", name=name).click()
    await expect(page.get_by_label("Group", exact=True)).to_have_value(name)
    assert name in await page.locator("#groups option").evaluate_all("options => options.map((each) => each.value)")

    await page.get_by_label("Role").select_option("Reader")
    await page.get_by_role("button", name="Preview").click()
    effect = page.get_by_role("region", name="Effect")
    await expect(effect).to_contain_text("2 roles gained")
    await expect(effect).to_contain_text(f"{ada['userName']} gets Reader through {name}")
    assert await roles_of(org, ada["userName"]) == []
    await page.get_by_label("Apply to members").check()
    await page.get_by_role("button", name="Create mapping").click()
    await told(page, f"From now on the group {name} gives the role Reader. Applied: 2 roles gained, 0 roles lost.")
    assert await roles_of(org, bob["userName"]) == ["Reader"]

    await page.goto(f"{MAPPINGS}/new")
    await page.get_by_label("Group", exact=True).fill(name)
    await page.get_by_label("Role").select_option("Reader")
    await page.get_by_role("button", name="Create mapping").click()
    await expect(page.locator("#error-roleName")).to_contain_text("is mapped to this role already")
    await expect(page.get_by_label("Group", exact=True)).to_have_value(name)

    await page.goto(MAPPINGS)
    await page.get_by_role("button", name=f"Delete the mapping of {name} to Reader").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text(f"Delete the mapping of {name} to Reader?")
    await expect(effect).to_contain_text("2 roles lost")
    await expect(effect).to_contain_text(f"{bob['userName']} no longer has Reader")
    await page.get_by_role("button", name="Delete mapping").click()
    await told(page, f"The group {name} no longer gives the role Reader. For members who are there nothing changes")
    assert await roles_of(org, ada["userName"]) == ["Reader"]
    await page.goto(f"{MAPPINGS}/apply")
    await page.get_by_role("button", name="Preview").click()
    await expect(effect).to_contain_text("2 roles lost")
    await page.get_by_role("button", name="Re-apply now").click()
    await told(page, "The mappings are applied: 0 roles gained, 2 roles lost.")
    assert await roles_of(org, ada["userName"]) == []


async def test_mappings_warn_of_protected_roles_and_of_groups_that_are_not_there(
    admin_page: Page, org: Organization, complaints: Complaints
) -> None:
    complaints.expected.append("status of 400")
    page, name = admin_page, f"Owners {uuid.uuid4().hex[:6]}"
    await page.goto(f"{MAPPINGS}/new")
    await page.get_by_label("Group", exact=True).fill(name)
    await page.get_by_label("Role").select_option("admin")
    await page.get_by_role("button", name="Preview").click()
    await expect(page.get_by_role("status")).to_contain_text("No group bears this name at the moment.")
    await expect(page.get_by_role("region", name="Effect")).to_contain_text("Nobody who is there now")
    await page.get_by_role("button", name="Create mapping").click()
    await expect(page.locator("#error-confirm")).to_contain_text("makes admins of whoever is in the group")
    await page.get_by_label("Make admins of whoever is in this group").check()
    await page.get_by_role("button", name="Create mapping").click()
    await told(page, "No group bears this name at the moment.")
    row = page.get_by_role("row", name=name)
    await expect(row).to_contain_text("protected")
    await expect(row).to_contain_text("no group matches")

    member = await org.scim.create(user())
    group_id = await pushed(org, f"No {name}", member)
    renamed = patch({"op": "replace", "path": "displayName", "value": name})
    assert (await org.scim.request("PATCH", f"/Groups/{group_id}", renamed)).status_code in (200, 204)
    assert await roles_of(org, member["userName"]) == []
    await page.reload()
    await row.get_by_role("link", name="Confirm 1 unconfirmed…").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text(f"Confirm 1 group called {name}?")
    await page.get_by_role("button", name="Confirm 1 group").click()
    await told(page, f"All groups called {name} give the role admin from now on.")
    await expect(row).not_to_contain_text("unconfirmed")
    assert await roles_of(org, member["userName"]) == []


async def test_roles_are_made_changed_and_deleted_when_nothing_holds_them(
    admin_page: Page, org: Organization, complaints: Complaints
) -> None:
    complaints.expected += ["status of 409", "status of 400"]
    page, name = admin_page, f"Role {uuid.uuid4().hex[:6]}"
    await page.goto("/admin/roles")
    await expect(page.get_by_role("row", name="admin")).to_contain_text("protected")
    await page.get_by_role("link", name="New role").click()
    await page.get_by_label("Name").fill("Reader")
    await page.get_by_label("Permissions").fill("a:read\n\nb:write\na:read")
    await page.get_by_role("button", name="Create role").click()
    await expect(page.locator("#error-name")).to_contain_text("there is a role 'Reader' already", ignore_case=True)
    await expect(page.get_by_label("Permissions")).to_have_value("a:read\n\nb:write\na:read")
    await page.get_by_label("Name").fill(name)
    await page.get_by_role("button", name="Create role").click()
    await told(page, f"The role {name} is made.")
    await expect(page.get_by_role("row", name=name)).to_contain_text("a:read, b:write")

    await page.get_by_role("link", name=name).click()
    await page.get_by_label("Permissions").fill("x" * 201)
    await page.get_by_role("button", name="Save role").click()
    await expect(page.locator("#error-permissions")).to_be_visible()
    await page.get_by_label("Permissions").fill("c:read")
    await page.get_by_role("button", name="Save role").click()
    await told(page, f"The role {name} is changed.")
    mapping = {"scimGroupName": "Holders", "roleName": name}
    made = await org.admin.request("POST", "/api/v1/admin/scim/group-mappings", mapping)
    await page.get_by_role("link", name=name).click()
    await expect(page.locator("main")).to_contain_text("1 group mapped")
    await expect(page.get_by_role("link", name="Delete role…")).to_have_count(0)
    await page.goto(f"{page.url}/delete")
    await told(page, "Take these away first.")
    await org.admin.request("DELETE", f"/api/v1/admin/scim/group-mappings/{made.json()['id']}")
    await page.reload()
    await page.get_by_role("link", name="Delete role…").click()
    await expect(page.locator("main")).to_contain_text("It permits: c:read.")
    await page.get_by_role("button", name=f"Delete {name}").click()
    await told(page, f"The role {name} is deleted.")


async def test_users_are_found_and_a_role_by_hand_comes_and_goes(admin_page: Page, org: Organization) -> None:
    page, name = admin_page, f"Writers {uuid.uuid4().hex[:6]}"
    mapping = {"scimGroupName": name, "roleName": "Writer"}
    await org.admin.request("POST", "/api/v1/admin/scim/group-mappings", mapping)
    ada = await org.scim.create(user(name={"givenName": "Ada", "familyName": "King"}))
    await pushed(org, name, ada)
    await page.reload()
    await page.get_by_label("Name or email").fill(ada["userName"].upper())
    await page.get_by_role("button", name="Search").click()
    row = page.get_by_role("row", name=ada["userName"])
    await expect(row).to_contain_text(f"Writer from group {name} (okta)")
    await expect(page.locator("tbody tr")).to_have_count(1)
    await page.get_by_label("Status").select_option("suspended")
    await page.get_by_role("button", name="Search").click()
    await expect(page.get_by_role("heading", name="Nobody matches")).to_be_visible()
    await page.get_by_role("link", name="Show all users").click()

    await page.get_by_role("link", name="Ada King").click()
    await expect(page.get_by_role("row", name="Writer")).to_contain_text(f"from group {name} (okta)")
    await page.get_by_label("Give a role by hand").select_option("Reader")
    await page.get_by_role("button", name="Give role").click()
    await told(page, "Ada King holds the role Reader.")
    await page.get_by_role("link", name="Take Reader back").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("Take Reader from Ada King?")
    await page.get_by_role("button", name="Take Reader back").click()
    await told(page, "The role is taken back.")
    assert await roles_of(org, ada["userName"]) == ["Writer"]


async def test_an_account_is_made_changed_suspended_marked_linked_and_back(
    admin_page: Page, org: Organization, complaints: Complaints
) -> None:
    complaints.expected.append("status of 409")
    page, email = admin_page, new_name()
    await page.get_by_role("link", name="New account").click()
    await page.get_by_label("Name").fill("Grace")
    await page.get_by_label("Email").fill(org.admin.email)
    await page.get_by_role("button", name="Create account").click()
    await expect(page.locator("#error-email")).to_be_visible()
    await expect(page.get_by_label("Name")).to_have_value("Grace")
    await page.get_by_label("Email").fill(email)
    await page.get_by_role("button", name="Create account").click()
    await told(page, "Grace has an account, without roles yet.")
    await page.get_by_label("Name").fill("Grace Hopper")
    await page.get_by_role("button", name="Save").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("Grace Hopper")

    await page.get_by_role("link", name="Suspend…").click()
    await expect(page.locator("main")).to_contain_text("is signed out everywhere at once")
    await page.get_by_role("button", name="Suspend Grace Hopper").click()
    await told(page, "Grace Hopper is suspended.")
    await page.get_by_role("button", name="Reactivate").click()
    await told(page, "Grace Hopper is active again.")
    await page.get_by_role("button", name="Mark as break-glass").click()
    await told(page, "is a break-glass account")
    await page.get_by_role("button", name="Unmark").click()
    await told(page, "is an account like others")

    await page.get_by_label("Link to a connection").select_option("okta")
    await page.get_by_role("button", name="Link", exact=True).click()
    await told(page, "The connection gets the account with its next try.")
    await page.get_by_role("link", name="Unlink from okta").click()
    await page.get_by_role("button", name="Unlink from okta").click()
    await told(page, "The connection may not change the account any more.")
    found = await account_of(org, email)
    assert (found["status"], found["breakGlass"], found["connections"]) == ("active", False, [])


async def test_the_last_admin_is_not_suspended_and_the_page_says_why(admin_page: Page, org: Organization) -> None:
    page = admin_page
    await page.get_by_role("link", name=org.admin.email).first.click()
    await expect(page.locator(".lead")).to_contain_text("you")
    await page.get_by_role("link", name="Suspend…").click()
    await page.get_by_role("button", name=f"Suspend {org.admin.email}").click()

    await expect(page.get_by_role("alert")).to_contain_text("last")
    assert (await account_of(org, org.admin.email))["status"] == "active"


async def test_link_requests_are_approved_and_rejected(admin_page: Page, org: Organization) -> None:
    page, emails = admin_page, [new_name(), new_name()]
    for email in emails:
        body = {"email": email, "displayName": f"Manual {email}"}
        assert (await org.admin.request("POST", "/api/v1/admin/users", body)).status_code == 201
        assert (await org.scim.request("POST", "/Users", user(email))).status_code == 409
    await page.get_by_role("link", name="Link requests").first.click()
    await page.get_by_role("link", name=f"Approve linking {emails[0]} to okta").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text(f"Link {emails[0]} to okta?")
    await page.get_by_role("button", name="Link to okta").click()
    await told(page, f"{emails[0]} is linked to okta")
    await page.get_by_role("link", name=f"Reject linking {emails[1]} to okta").click()
    await page.get_by_role("button", name="Reject request").click()
    await told(page, f"The request of okta for {emails[1]} is rejected.")
    await expect(page.get_by_role("heading", name="No connection waits for an account")).to_be_visible()

    await page.get_by_role("link", name="Decided").click()
    await expect(page.get_by_role("row", name=emails[0])).to_contain_text("approved")
    await expect(page.get_by_role("row", name=emails[1])).to_contain_text("rejected")
    assert (await org.scim.request("POST", "/Users", user(emails[0]))).status_code == 201
    assert (await org.scim.request("POST", "/Users", user(emails[1]))).status_code == 409


async def set_aside(db: asyncpg.Connection, org: Organization, user_id: str, error: str) -> None:
    """A record of the quarantine, as a fault of the provisioner leaves it: the deletion of a user."""
    change_id = uuid.uuid4()
    change = {
        "id": str(change_id),
        "organization_id": org.id,
        "connection_id": org.connection_id,
        "actor": f"connection:{org.connection_id}",
        "resource_type": "User",
        "operation": "delete",
        "resource_id": user_id,
        "received_at": "2026-01-01T00:00:00Z",
        "deadline": "2026-01-01T00:00:10Z",
        "request": {"method": "DELETE", "path": f"/Users/{user_id}"},
    }
    await db.execute(
        """
        INSERT INTO quarantine
            (id, topic, partition, record_offset, value, change_id, organization_id, error, created_at)
        VALUES ($1, 'tests', 0, $2, $3, $4, $5, $6, now())
        """,
        *(uuid.uuid4(), change_id.int % 2**40, json.dumps(change).encode(), change_id, uuid.UUID(org.id), error),
    )


async def test_quarantined_changes_are_looked_at_tried_again_and_discarded(
    admin_page: Page, org: Organization, db: asyncpg.Connection
) -> None:
    page = admin_page
    gone, stays = await org.scim.create(user()), await org.scim.create(user())
    await page.get_by_role("link", name="Quarantine").first.click()
    await expect(page.get_by_role("heading", name="The quarantine is empty")).to_be_visible()
    try:
        await set_aside(db, org, gone["id"], "KeyError: 'first'")
        await set_aside(db, org, stays["id"], "<b>second</b>")
        await page.reload()
        await page.get_by_role("link", name="KeyError: 'first'").click()
        await expect(page.locator("main")).to_contain_text("delete of a User")
        await expect(page.locator("pre")).to_contain_text(f"/Users/{gone['id']}")
        await page.get_by_role("button", name="Try again").click()
        await told(page, "The change is sent again, in your name")
        await page.get_by_role("link", name="<b>second</b>").click()
        await page.get_by_role("link", name="Discard…").click()
        await expect(page.locator("main")).to_contain_text("The delete of a User is not applied, now or later")
        await page.get_by_role("button", name="Discard record").click()
        await told(page, "The record is discarded.")
        await page.get_by_role("link", name="Decided").click()
        await expect(page.get_by_role("row", name="first")).to_contain_text("retried")
        await expect(page.get_by_role("row", name="second")).to_contain_text("discarded")

        async def is_gone() -> bool:
            return (await org.scim.request("GET", f"/Users/{gone['id']}")).status_code == 404

        await until(is_gone, "the deletion to be applied", 20)
        assert (await org.scim.get(stays["id"]))["active"]
    finally:
        await db.execute("DELETE FROM quarantine WHERE organization_id = $1", uuid.UUID(org.id))


async def test_the_access_report_is_a_page_and_a_file(admin_page: Page, org: Organization) -> None:
    page = admin_page
    body = {"email": new_name(), "displayName": '=HYPERLINK("https://elsewhere.test")'}
    made = (await org.admin.request("POST", "/api/v1/admin/users", body)).json()
    await org.admin.request("POST", f"/api/v1/admin/users/{made['id']}/grants", {"roleName": "Reader"})
    await page.get_by_role("link", name="Access report").click()
    await expect(page.get_by_role("status")).to_contain_text(f"{org.admin.email} is the only active admin.")
    await expect(page.get_by_role("row", name=body["email"])).to_contain_text("by hand")

    async with page.expect_download() as started:
        await page.get_by_role("link", name="Download as CSV").click()

    download = await started.value
    assert download.suggested_filename == "access-report.csv"
    rows = list(csv.DictReader(io.StringIO(Path(await download.path()).read_text())))
    [row] = [row for row in rows if row["email"] == body["email"]]
    assert (row["role"], row["source"], row["displayName"]) == ("Reader", "manual", f"'{body['displayName']}")


async def test_lists_go_on_over_several_pages(admin_page: Page, org: Organization) -> None:
    page = admin_page
    for _ in range(3):
        await org.scim.create(user())
    await page.goto(f"{USERS}?limit=2&status=active")
    names = page.locator("tbody th")
    await expect(names).to_have_count(2)
    first = await names.all_inner_texts()
    await page.get_by_role("link", name="Next page").click()
    await expect(page.get_by_label("Status")).to_have_value("active")
    await expect(names.first).to_be_visible()
    assert not set(first) & set(await names.all_inner_texts())
    await page.get_by_role("link", name="Back to the start").click()
    await expect(names.first).to_have_text(first[0], use_inner_text=True)


async def test_forms_work_without_javascript(
    browser: Browser, stack: Stack, org: Organization, complaints: Complaints
) -> None:
    created = await org.scim.create(user())
    await pushed(org, "Plain", created)
    async with opened(browser, stack.admin_url, complaints, java_script_enabled=False) as page:
        await sign_in(page, org.admin.email, org.admin.password, f"{MAPPINGS}/new?group=Plain")
        await page.get_by_label("Role").select_option("Writer")
        await page.get_by_label("Apply to members").check()
        await page.get_by_role("button", name="Create mapping").click()
        await told(page, "1 role gained")
        await page.goto("/admin/scim/connections/new?preset=okta")
        await page.get_by_label("Name of the connection").fill("plain")
        await page.get_by_role("button", name="Create connection and token").click()
        await expect(page.locator("#token")).to_contain_text("scim_")
        await expect(page.get_by_role("button", name="Copy token")).to_be_hidden()
        await page.get_by_role("link", name="Done").click()
        await page.get_by_role("link", name="Delete connection…").click()
        await page.get_by_role("button", name="Delete plain").click()
        await told(page, "Connection plain is deleted.")
        await page.goto(f"{USERS}?search={created['userName']}")
        await expect(page.get_by_role("row", name=created["userName"])).to_contain_text("Writer from group Plain")
    assert complaints.unexpected() == []


async def test_t3_what_another_organization_has_is_unknown(
    admin_page: Page, tenant: Organization, complaints: Complaints
) -> None:
    """T3."""
    complaints.expected.append("status of 404")
    account = await account_of(tenant, tenant.admin.email)
    role_id = account["roles"][0]["roleId"]
    for path in (f"{USERS}/{account['id']}", f"{USERS}/{account['id']}/suspend", f"/admin/roles/{role_id}"):
        await admin_page.goto(path)
        await expect(admin_page.get_by_role("heading", level=1)).to_have_text("Nothing here")
