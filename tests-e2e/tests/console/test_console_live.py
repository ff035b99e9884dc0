"""Live pages: what identity providers do appears without loading anything again, for as long as the session lasts."""

import asyncio
import os
import re
import signal
import uuid
from urllib.parse import urlsplit

import asyncpg
import pytest
from playwright.async_api import Browser, Page, expect

from e2e.admin import Organization, another_organization
from e2e.browser import Complaints, opened, sign_in
from e2e.scim import Scim, new_name, user
from e2e.stack import Stack, until

# Milliseconds. Two seconds are promised, and held with LONG=1 on a quiet machine; a busy one is slow, not wrong.
SOON = 2_000 if os.environ.get("LONG") else 10_000
GIVE_PASSWORD = """
    INSERT INTO credentials (account_id, password_hash)
    SELECT $1, password_hash FROM credentials JOIN accounts ON accounts.id = account_id WHERE accounts.email = $2
"""


async def total(page: Page, name: str) -> int:
    return int((await page.locator(f"[data-total={name}]").inner_text()).replace(",", ""))


async def is_live(page: Page) -> None:
    await expect(page.get_by_text("Live", exact=True)).to_be_visible()


async def mark(page: Page) -> None:
    """So that a test sees whether the page was loaded again."""
    await page.evaluate("window.isTheSame = true")


async def assert_same(page: Page) -> None:
    assert await page.evaluate("window.isTheSame === true"), "the page was loaded again"


async def appears_everywhere(status: Page, activity: Page, scim: Scim) -> None:
    """A new user, in the counters and in the log, soon."""
    before, name = await total(status, "users"), new_name()

    await scim.create(user(name))

    await expect(activity.locator("#entries tr").first).to_contain_text(name, timeout=SOON)
    await expect(status.locator("[data-total=users]")).to_have_text(f"{before + 1:,}", timeout=SOON)
    await expect(status.locator("[data-total=last-sync]")).to_have_text("just now", timeout=SOON)
    await assert_same(status)
    await assert_same(activity)


async def test_a_change_appears_in_the_counters_the_chart_and_the_log_without_reload(
    page: Page, tenant: Organization
) -> None:
    activity = await page.context.new_page()
    await activity.goto("/admin/scim/activity")
    for each in (page, activity):
        await is_live(each)
        await mark(each)

    await appears_everywhere(page, activity, tenant.scim)

    legend = page.locator(".legend")
    before = await legend.inner_text()
    await tenant.scim.request("POST", "/Users", {"schemas": [], "userName": ""})
    # What is slow to count, as on a busy machine, is counted again at a later change only.
    async with asyncio.timeout(60):
        while await legend.inner_text() == before:
            await appears_everywhere(page, activity, tenant.scim)


async def test_a_list_with_filters_shows_new_entries_that_fit_only(page: Page, tenant: Organization) -> None:
    taken = new_name()
    await tenant.scim.create(user(taken))
    await page.goto("/admin/scim/activity?status=4xx")
    await is_live(page)

    await tenant.scim.create(user())
    refused = await tenant.scim.request("POST", "/Users", user(taken))

    assert refused.status_code == 409
    await expect(page.locator("#entries tr").first).to_contain_text("already in use", timeout=SOON)
    for row in await page.locator("#entries tr").all():
        await expect(row.locator(".badge")).to_have_text(re.compile("^4"))


@pytest.mark.chaos
async def test_live_pages_go_on_after_admin_api_was_restarted(browser: Browser, chaos_stack: Stack) -> None:
    complaints = Complaints(
        urlsplit(chaos_stack.admin_url).netloc, expected=["Failed to load resource", "htmx:sse:error"]
    )
    async with (
        another_organization(chaos_stack) as organization,
        opened(browser, chaos_stack.admin_url, complaints) as status,
    ):
        await sign_in(status, organization.admin.email, organization.admin.password)
        activity = await status.context.new_page()
        await activity.goto("/admin/scim/activity")
        for each in (status, activity):
            await is_live(each)
            await mark(each)
        old = chaos_stack.signal("admin-api", signal.SIGTERM)
        await until(lambda: chaos_stack.pid("admin-api") != old, "another admin-api", 60)
        missed = new_name()
        await organization.scim.create(user(missed))
        await chaos_stack.is_whole()

        await expect(activity.locator("#entries")).to_contain_text(missed)
        await expect(status.locator("[data-total=users]")).to_have_text("1")
        for each in (status, activity):
            await is_live(each)
        await appears_everywhere(status, activity, organization.scim)
        assert complaints.unexpected() == []


async def test_t41_a_live_page_of_a_suspended_admin_closes_by_itself(
    visitor: Page, tenant: Organization, db: asyncpg.Connection
) -> None:
    email = f"second-{uuid.uuid4().hex[:8]}@example.com"
    made = await tenant.admin.request("POST", "/api/v1/admin/users", {"email": email, "displayName": "Second"})
    assert made.status_code == 201, made.text
    account = f"/api/v1/admin/users/{made.json()['id']}"
    granted = await tenant.admin.request("POST", f"{account}/grants", {"roleName": "admin"})
    assert granted.status_code == 201, granted.text
    await db.execute(GIVE_PASSWORD, uuid.UUID(made.json()["id"]), tenant.admin.email)
    await sign_in(visitor, email, tenant.admin.password, "/admin/scim/activity")
    await is_live(visitor)

    suspended = await tenant.admin.request("POST", f"{account}/suspend", {})

    assert suspended.status_code == 200, suspended.text
    await visitor.wait_for_url("**/admin/sign-in?returnTo=/admin/scim/activity", timeout=5000)
