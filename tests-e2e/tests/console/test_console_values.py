"""Each page of connections, mappings, people and roles with hostile names: text, policy and accessibility."""

import uuid
from collections.abc import AsyncIterator

import asyncpg
import pytest_asyncio
from playwright.async_api import Page, expect

from e2e.admin import Organization
from e2e.browser import check_accessibility, sign_in
from e2e.scim import CORE_GROUP, new_name, patch, user

# Would load, run, leave an attribute, a <textarea>, an <option> or a template, if it were anything but text.
HOSTILE = "\"'></textarea></option><img src=x onerror=alert(1)>{{ 7 * 7 }}<b hx-get=/ hx-trigger=load>"
OFF = {"op": "replace", "path": "active", "value": False}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def paths(org: Organization, db: asyncpg.Connection) -> AsyncIterator[list[str]]:
    """The addresses of pages that show the hostile name, which everything has that people or providers can name."""
    ask, scim = org.admin.request, org.scim
    connection = f"/admin/scim/connections/{org.connection_id}"
    guard = {"users": 1, "percent": 1, "holds": True}
    await ask("PATCH", f"/api/v1/admin/scim/connections/{org.connection_id}", {"guard": guard})
    name = {"givenName": HOSTILE, "familyName": HOSTILE}
    made = [await scim.create(user(displayName=HOSTILE, name=name, externalId=HOSTILE + n)) for n in "abc"]
    members = [{"value": each["id"]} for each in made]
    group = {"schemas": [CORE_GROUP], "displayName": HOSTILE, "members": members}
    role = (await ask("POST", "/api/v1/admin/roles", {"name": HOSTILE, "permissions": [HOSTILE]})).json()
    mapping = {"scimGroupName": HOSTILE, "roleName": HOSTILE}
    mapped = (await ask("POST", "/api/v1/admin/scim/group-mappings", mapping)).json()
    for body in (group, {**group, "displayName": f"{HOSTILE} unmapped"}):
        assert (await scim.request("POST", "/Groups", body)).status_code == 201
    for each in made:
        await scim.request("PATCH", f"/Users/{each['id']}", patch(OFF))
    token = (await ask("POST", f"{connection.replace('/admin', '/api/v1/admin')}/tokens", {"label": HOSTILE})).json()
    email = new_name()
    await ask("POST", "/api/v1/admin/users", {"email": email, "displayName": HOSTILE})
    assert (await scim.request("POST", "/Users", user(email))).status_code == 409
    wishes = (await ask("GET", "/api/v1/admin/scim/link-requests")).json()["linkRequests"]
    wish = next(each for each in wishes if each["accountEmail"] == email)
    [account] = (await ask("GET", "/api/v1/admin/users", params={"search": made[2]["userName"]})).json()["users"]
    record = uuid.uuid4()
    await db.execute(
        """
        INSERT INTO quarantine (id, topic, partition, record_offset, value, organization_id, error, created_at)
        VALUES ($1, 'tests', 0, $2, 'no change', $3, $4, now())
        """,
        *(record, record.int % 2**40, uuid.UUID(org.id), HOSTILE),
    )
    yield [
        "/admin/scim/connections",
        "/admin/scim/connections/new?preset=entra",
        connection,
        f"{connection}/holds",
        f"{connection}/tokens/{token['id']}",
        "/admin/scim/mappings",
        "/admin/scim/mappings/new",
        f"/admin/scim/mappings/{mapped['id']}/delete",
        "/admin/scim/link-requests",
        f"/admin/scim/link-requests/{wish['id']}/approve",
        "/admin/scim/quarantine",
        f"/admin/scim/quarantine/{record}",
        "/admin/roles",
        f"/admin/roles/{role['id']}",
        "/admin/users",
        f"/admin/users/{account['id']}",
        "/admin/users/access-report",
    ]
    await db.execute("DELETE FROM quarantine WHERE id = $1", record)


# What these pages show of the identity provider's names is none of their business.
PLAIN = ("/connections", "/connections/new?preset=entra")


async def test_t52_every_page_shows_hostile_names_as_text_and_is_accessible(
    visitor: Page, org: Organization, paths: list[str]
) -> None:
    """T52. What a page complains of, the fixture tells: a policy that was violated, a script's error, another host."""
    await sign_in(visitor, org.admin.email, org.admin.password, paths[0])
    for path in paths:
        answer = await visitor.goto(path)
        assert answer is not None
        assert answer.status == 200, path
        assert answer.headers["cache-control"] == "no-store"
        assert "default-src 'none'; script-src 'self'" in answer.headers["content-security-policy"]
        assert await visitor.locator("main img, main b, main script, main [onerror], main [hx-trigger]").count() == 0
        if not path.endswith(PLAIN):
            seen = await visitor.locator("main").evaluate(
                "main => main.innerText + [...main.querySelectorAll('input, textarea, option')].map(e => e.value)"
            )
            assert HOSTILE in seen, path
        await check_accessibility(visitor)


async def test_t52_what_was_typed_and_told_is_text(visitor: Page, org: Organization, paths: list[str]) -> None:
    """T52: in a form that is shown again, in a preview, and in a notice."""
    await sign_in(visitor, org.admin.email, org.admin.password, "/admin/scim/mappings/new")
    await visitor.get_by_label("Group", exact=True).fill(HOSTILE)
    await visitor.get_by_label("Role").select_option(HOSTILE)
    await visitor.get_by_role("button", name="Preview").click()
    await expect(visitor.get_by_role("region", name="Effect")).to_be_visible()
    await expect(visitor.get_by_label("Group", exact=True)).to_have_value(HOSTILE)
    await expect(visitor.get_by_label("Role")).to_have_value(HOSTILE)
    await visitor.goto("/admin/roles/new")
    await visitor.get_by_label("Name").fill(f"{HOSTILE} 2")
    await visitor.get_by_role("button", name="Create role").click()
    await expect(visitor.locator(".notice")).to_contain_text(f"The role {HOSTILE} 2 is made.")
    await expect(visitor.locator("main img")).to_have_count(0)


async def test_empty_pages_say_what_to_do_next(visitor: Page, tenant: Organization) -> None:
    await sign_in(visitor, tenant.admin.email, tenant.admin.password, "/admin/scim/link-requests")
    await expect(visitor.get_by_role("heading", name="No connection waits for an account")).to_be_visible()
    for path, link in (
        ("/admin/scim/mappings", "Create a mapping"),
        (f"/admin/scim/connections/{tenant.connection_id}/holds", "Back to okta"),
        ("/admin/users?search=nobody-at-all", "Show all users"),
        ("/admin/scim/quarantine", None),
    ):
        await visitor.goto(path)
        await check_accessibility(visitor)
        if link:
            await expect(visitor.locator(".empty").get_by_role("link", name=link)).to_be_visible()
