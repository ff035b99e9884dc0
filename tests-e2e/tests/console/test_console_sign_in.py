"""Signing in and out of the console, in a real browser."""

import httpx
from playwright.async_api import Page, expect

from e2e.admin import Organization
from e2e.browser import Complaints, check_accessibility, sign_in
from e2e.stack import Stack

LINK = "<!doctype html><title>Elsewhere</title><a href='/'>The console</a>"
REFUSED = "Failed to load resource: the server responded with a status of 401"


async def test_an_admin_signs_in_and_out(visitor: Page, tenant: Organization) -> None:
    await sign_in(visitor, tenant.admin.email, tenant.admin.password)
    await expect(visitor.get_by_role("heading", level=1)).to_have_text("Sync status")
    await expect(visitor.get_by_role("banner")).to_contain_text(tenant.name)

    await visitor.get_by_role("button", name="Sign out").click()

    await expect(visitor.get_by_role("status")).to_have_text("You are signed out.")
    await visitor.goto("/admin/scim")
    await expect(visitor.get_by_role("heading", level=1)).to_have_text("Sign in")


async def test_a_wrong_password_is_told_beside_the_form(
    visitor: Page, tenant: Organization, complaints: Complaints
) -> None:
    complaints.expected.append(REFUSED)
    await visitor.goto("/admin/sign-in")
    await visitor.get_by_label("Email").fill(tenant.admin.email)
    await visitor.get_by_label("Password").fill("wrong")
    await visitor.keyboard.press("Enter")

    await expect(visitor.get_by_role("alert")).to_have_text("The email or the password is wrong.")
    await expect(visitor.get_by_label("Email")).to_have_value(tenant.admin.email)
    await expect(visitor.get_by_label("Password")).to_have_value("")
    await check_accessibility(visitor)


async def test_whoever_is_signed_in_again_is_back_where_they_were(visitor: Page, tenant: Organization) -> None:
    await sign_in(visitor, tenant.admin.email, tenant.admin.password, "/admin/scim/activity?status=4xx")

    await expect(visitor.get_by_label("Outcome")).to_have_value("4xx")


async def test_t53_the_way_back_leads_to_no_other_site(
    visitor: Page, tenant: Organization, complaints: Complaints
) -> None:
    complaints.expected.append(REFUSED)  # a live page without its cookie
    elsewhere = (
        "https://elsewhere.test/",
        "//elsewhere.test/",
        "/\\elsewhere.test",
        "/admin/../api",
        "javascript:alert(1)",
    )
    for path in elsewhere:
        await visitor.context.clear_cookies()
        await visitor.goto(f"/admin/sign-in?returnTo={path}")
        await visitor.get_by_label("Email").fill(tenant.admin.email)
        await visitor.get_by_label("Password").fill(tenant.admin.password)
        await visitor.keyboard.press("Enter")
        await visitor.wait_for_url("**/admin/scim")


async def test_a_link_on_another_site_leads_into_the_console(page: Page, stack: Stack, complaints: Complaints) -> None:
    complaints.expected.append("request to another host")
    await page.route("**/elsewhere.html", lambda route: route.fulfill(content_type="text/html", body=LINK))
    await page.goto(stack.admin_url.replace("127.0.0.1", "localhost") + "/elsewhere.html")
    await page.evaluate(f"document.querySelector('a').href = '{stack.admin_url}/admin/settings'")

    await page.get_by_role("link").click()

    await expect(page.get_by_role("heading", level=1)).to_have_text("Settings")


async def test_a_page_whose_session_is_over_leads_to_the_sign_in(
    page: Page, stack: Stack, tenant: Organization
) -> None:
    await page.goto("/admin/scim/activity")
    [cookie] = [each for each in await page.context.cookies() if each.get("name") == "__Host-session"]
    async with httpx.AsyncClient(base_url=stack.admin_url) as http:
        headers = {"authorization": f"Bearer {cookie.get('value')}"}
        assert (await http.post("/api/auth/sign-out", headers=headers)).status_code == 200

    await page.get_by_label("Outcome").select_option("4xx")  # asks for a part of the page

    await page.wait_for_url("**/admin/sign-in?returnTo=/admin/scim/activity*")
