"""The pages of the console as people meet them: by keyboard, without scripts, with hostile names, with filters."""

import re
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, expect

from e2e.admin import Organization, another_organization, bootstrap
from e2e.browser import Complaints, check_accessibility, opened, sign_in
from e2e.scim import CORE_GROUP, client, new_name, user
from e2e.stack import Stack

CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
PAGES = ("/admin/scim", "/admin/scim/activity", "/admin/settings")
# What would run, be loaded, or be taken for a template or for htmx if it were anything but text.
HOSTILE = (
    "<img src=x onerror=alert(1)>",
    '"><script>alert(2)</script>',
    "'-alert(3)-'",
    "</title></textarea></style><svg onload=alert(4)>",
    "{{ 7 * 7 }} ${7*7} {% raw %}",
    '<hx-partial hx-target="#main">gone</hx-partial>',
    '<div hx-get="/admin/assets/x" hx-trigger="load" hx-on:load="alert(5)">',
    "<a href=javascript:alert(6)>click</a>",
    '=HYPERLINK("https://elsewhere.test")',
)


async def test_pages_are_accessible_in_light_and_dark_wide_and_narrow(page: Page, tenant: Organization) -> None:
    await tenant.scim.create(user())
    await tenant.scim.request("POST", "/Users", user(new_name(), active="perhaps"))
    for path in PAGES:
        await page.goto(path)
        await check_accessibility(page)
    await page.goto("/admin/scim/activity")
    await page.locator("#entries a").first.click()
    await expect(page.get_by_role("heading", name="Request")).to_be_visible()
    await check_accessibility(page)


async def test_every_entry_of_the_menu_leads_to_its_page(page: Page) -> None:
    menu = page.get_by_role("navigation", name="Console", exact=True)
    names = await menu.get_by_role("link").all_inner_texts()
    assert len(names) == 9
    for name in names:
        await menu.get_by_role("link", name=name).click()
        await expect(page.get_by_role("heading", level=1)).to_have_text(name)
        await expect(menu.locator("[aria-current=page]")).to_have_text(name)


async def test_empty_pages_say_what_to_do_next(visitor: Page, stack: Stack) -> None:
    async with another_organization(stack) as organization:
        await sign_in(visitor, organization.admin.email, organization.admin.password, "/admin/scim/activity")
        await expect(visitor.get_by_role("heading", name="Nothing has been sent yet")).to_be_visible()
        await check_accessibility(visitor)
        await organization.admin.delete_connection("okta")

        await visitor.goto("/admin/scim")

        await expect(visitor.get_by_role("heading", name="No identity provider is connected yet")).to_be_visible()
        await expect(visitor.get_by_role("link", name="Create a connection")).to_be_visible()
        await check_accessibility(visitor)


@pytest_asyncio.fixture(loop_scope="session")
async def hostile(visitor: Page, stack: Stack) -> AsyncIterator[tuple[Page, dict[str, Any]]]:
    """The page of an admin whose organization, users and groups have hostile names."""
    email = f"admin-{new_name()}"
    made = await bootstrap(
        stack, organization=HOSTILE[0] + new_name(), email=email, password="a password of tests", provider_id="okta"
    )
    await sign_in(visitor, email, "a password of tests")
    yield visitor, made


async def test_t52_values_of_identity_providers_are_text_wherever_they_appear(
    hostile: tuple[Page, dict[str, Any]], stack: Stack
) -> None:
    """T52, also in what arrives while a page is open."""
    page, made = hostile
    await page.goto("/admin/scim/activity")
    await expect(page.get_by_text("Live", exact=True)).to_be_visible()
    async with client(stack.scim_url, made["scimToken"]) as scim:
        for text in HOSTILE:
            await scim.create(user(text, emails=None, displayName=text, name={"formatted": text, "givenName": text}))
            group = {"schemas": [CORE_GROUP], "displayName": text}
            assert (await scim.request("POST", "/Groups", group)).status_code == 201

    async def shows_all() -> None:
        for text in HOSTILE:
            await expect(page.locator("#entries td", has_text=text)).to_have_count(2)

    await shows_all()
    await page.reload()
    await shows_all()
    await expect(page.get_by_role("banner")).to_contain_text(HOSTILE[0])
    assert await page.locator("main img, main svg[onload], main script, main [hx-on\\:load]").count() == 0
    for row in range(0, 2 * len(HOSTILE), 2):
        await page.locator("#entries a").nth(row).click()
        await expect(page.get_by_role("heading", name="Request")).to_be_visible()
        await expect(page.locator("ins").first).to_be_visible()
        await page.go_back()
    for path in PAGES:
        await page.goto(path)
    await page.goto("/admin/scim/activity?user=" + HOSTILE[1])
    await expect(page.get_by_label("User name")).to_have_value(HOSTILE[1])
    await expect(page.locator("#entries tr")).to_have_count(1)


async def test_t52_every_page_and_asset_has_the_policy(page: Page, complaints: Complaints) -> None:
    complaints.expected.append("status of 404")
    seen: list[tuple[str, dict[str, str]]] = []
    page.on("response", lambda response: seen.append((response.url, response.headers)))
    for path in (*PAGES, "/admin/sign-in", "/admin/nothing-here"):
        await page.goto(path)

    kinds = {url.split("?")[0].rpartition(".")[2] for url, _ in seen if "/assets/" in url}
    assert {"css", "js", "svg"} <= kinds
    for url, headers in seen:
        if not url.startswith("blob:"):
            assert headers["content-security-policy"] == CSP, url
            assert headers["x-content-type-options"] == "nosniff", url
            assert headers["x-frame-options"] == "DENY", url
            wanted = "public, max-age=31536000, immutable" if "/assets/" in url else "no-store"
            assert headers["cache-control"] == wanted, url


async def test_t53_the_session_is_in_a_cookie_that_scripts_and_other_sites_do_not_get(page: Page) -> None:
    [cookie] = [each for each in await page.context.cookies() if each.get("name") == "__Host-session"]

    assert cookie.get("httpOnly")
    assert cookie.get("secure")
    assert cookie.get("sameSite") == "Strict"
    assert cookie.get("path") == "/"
    assert await page.evaluate("document.cookie") == ""


async def test_t53_a_form_with_another_token_changes_nothing(page: Page, complaints: Complaints) -> None:
    complaints.expected.append("status of 403")
    await page.goto("/admin/settings")
    await page.evaluate("document.querySelectorAll('[name=csrf]').forEach((field) => { field.value = 'another'; })")
    await page.get_by_label("Name", exact=True).fill("stolen")
    await page.get_by_role("button", name="Create a key").click()

    await expect(page.get_by_role("heading", level=1)).to_have_text("Not allowed")
    await page.goto("/admin/settings")
    await expect(page.locator("main")).not_to_contain_text("stolen")


async def test_the_console_is_used_with_the_keyboard_alone(visitor: Page, tenant: Organization) -> None:
    await tenant.scim.create(user())
    press = visitor.keyboard.press
    await visitor.goto("/admin/scim")
    await visitor.keyboard.type(tenant.admin.email)
    await press("Tab")
    await visitor.keyboard.type(tenant.admin.password)
    await press("Enter")
    await expect(visitor.get_by_role("heading", level=1)).to_have_text("Sync status")

    await press("Tab")
    await expect(visitor.get_by_role("link", name="Skip to the content")).to_be_focused()
    await expect(visitor.get_by_role("link", name="Skip to the content")).to_be_in_viewport()
    await press("Enter")
    await expect(visitor.locator("main")).to_be_focused()
    for _ in range(40):
        await press("Tab")
        if await visitor.evaluate("document.activeElement.textContent") == "okta":
            break
    await expect(visitor.get_by_role("link", name="okta")).to_be_focused()
    await visitor.get_by_role("link", name="Activity").focus()
    await press("Enter")
    await expect(visitor.get_by_role("heading", level=1)).to_have_text("Activity")
    await visitor.get_by_label("Outcome").focus()
    await press("ArrowDown")
    await expect(visitor).to_have_url(re.compile("status=2xx"))
    await expect(visitor.get_by_label("Outcome")).to_be_focused()
    await visitor.locator("#entries a").first.focus()
    await press("Enter")
    await expect(visitor.get_by_role("heading", name="Request")).to_be_visible()


async def test_the_console_works_without_javascript(
    browser: Browser, stack: Stack, tenant: Organization, complaints: Complaints
) -> None:
    name = new_name()
    await tenant.scim.create(user(name))
    async with opened(browser, stack.admin_url, complaints, java_script_enabled=False) as page:
        await sign_in(page, tenant.admin.email, tenant.admin.password)
        await expect(page.locator("[data-total=connections]")).to_have_text("1")
        await page.get_by_role("link", name="Activity").first.click()
        await page.get_by_label("User name").fill(name.upper())
        await page.get_by_role("button", name="Filter").click()
        await expect(page.locator("#entries tr")).to_have_count(1)
        await page.locator("#entries a").click()
        await expect(page.locator("main")).to_contain_text("It was accepted and applied.")
        await page.get_by_role("link", name="Settings").first.click()
        await page.get_by_label("Name", exact=True).fill("nightly export")
        await page.get_by_role("button", name="Create a key").click()
        secret = await page.get_by_label("API key").input_value()
        await page.get_by_role("link", name="I have kept it").click()
        await page.get_by_role("link", name="Revoke nightly export").click()
        await expect(page.get_by_role("heading", level=1)).to_have_text("Revoke the key nightly export?")
        await page.get_by_role("button", name="Revoke the key").click()
        await expect(page.get_by_role("status").first).to_have_text("The key is revoked.")
        await page.reload()
        await expect(page.locator(".notice")).to_have_count(0)
        await page.get_by_role("button", name="Sign out").click()
        await expect(page.locator(".notice")).to_have_text("You are signed out.")
    assert complaints.unexpected() == []
    async with httpx.AsyncClient(base_url=stack.admin_url) as http:
        answer = await http.get("/api/v1/admin/roles", headers={"authorization": f"Bearer {secret}"})
    assert answer.status_code == 401


async def test_filters_narrow_the_log_at_once_and_stay_in_the_address(page: Page, tenant: Organization) -> None:
    name = new_name()
    created = await tenant.scim.create(user(name))
    await tenant.scim.set_active(created["id"], False)
    await page.goto("/admin/scim/activity")
    await page.evaluate("window.isTheSame = true")

    await page.get_by_label("User name").fill(name)
    await page.get_by_label("User name").press("Tab")

    await expect(page.locator("#entries tr")).to_have_count(2)
    await expect(page).to_have_url(re.compile("user="))
    assert await page.evaluate("window.isTheSame === true")
    await expect(page.locator("#entries")).to_contain_text("Suspend user")
    await page.get_by_label("Outcome").select_option("5xx")
    await expect(page.get_by_role("heading", name="Nothing fits these filters")).to_be_visible()
    await page.go_back()
    await expect(page.locator("#entries tr")).to_have_count(2)
    await expect(page.get_by_role("heading", level=1)).to_have_text("Activity")
    await expect(page.get_by_text("Live", exact=True)).to_be_visible()
    await page.reload()
    await expect(page.get_by_label("User name")).to_have_value(name)
    await expect(page.locator("#entries tr")).to_have_count(2)
    await page.get_by_label("From (UTC)").fill("2030-01-01T00:00")
    await expect(page.locator("#entries tr")).to_have_count(0)


async def test_an_entry_shows_request_outcome_before_and_after(page: Page, tenant: Organization) -> None:
    name = new_name()
    created = await tenant.scim.create(user(name, title="Clerk"))
    await tenant.scim.patch(created["id"], {"op": "replace", "path": "title", "value": "Captain"})
    refused = await tenant.scim.request("POST", "/Users", user(name))
    assert refused.status_code == 409
    await page.goto(f"/admin/scim/activity?id={created['id']}")

    await page.get_by_role("link", name="Change user").click()

    row = page.get_by_role("row", name="title")
    await expect(row.locator("del")).to_have_text("Clerk")
    await expect(row.locator("ins")).to_have_text("Captain")
    await expect(page.locator("pre")).to_contain_text('"value": "Captain"')
    await page.goto(f"/admin/scim/activity?user={name}&status=4xx")
    await page.locator("#entries a").click()
    await expect(page.locator(".notice")).to_contain_text("already in use")
    await expect(page.locator("main")).to_contain_text("Nothing.")


async def test_older_entries_are_on_further_pages(page: Page, tenant: Organization) -> None:
    created = await tenant.scim.create(user())
    for number in range(60):
        await tenant.scim.patch(created["id"], {"op": "replace", "path": "title", "value": f"Title {number}"})
    await page.goto(f"/admin/scim/activity?id={created['id']}")
    await expect(page.locator("#entries tr")).to_have_count(50)

    await page.get_by_role("link", name="Next page").click()

    await expect(page.locator("#entries tr")).to_have_count(11)
    await expect(page.get_by_text("Live", exact=True)).to_have_count(0)
    await page.get_by_role("link", name="Back to the start").click()
    await expect(page.locator("#entries tr")).to_have_count(50)


@pytest.mark.parametrize("path", ["/admin/nothing-here", "/admin/scim/activity/00000000-0000-7000-8000-000000000000"])
async def test_what_does_not_exist_is_a_page_that_says_so(page: Page, complaints: Complaints, path: str) -> None:
    complaints.expected.append("status of 404")
    await page.goto(path)

    await expect(page.get_by_role("heading", level=1)).to_have_text("Nothing here")
    await expect(page.get_by_role("link", name="Activity")).to_be_visible()
    await check_accessibility(page)
