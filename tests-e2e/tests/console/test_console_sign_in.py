"""Signing in and out of the console, in a real browser."""

from playwright.async_api import Page, expect

from e2e.admin import Organization
from e2e.browser import Complaints, check_accessibility, sign_in

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
