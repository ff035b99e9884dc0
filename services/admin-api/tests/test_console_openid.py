"""Signing in to the console with an OpenID provider, in a real browser; its pages, too, where that goes wrong."""

import os
import signal
from collections.abc import AsyncIterator
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
import pytest
import pytest_asyncio
from playwright.async_api import Page, expect

from admin_api.settings import Settings
from admin_stand import World, answer_of, environment, started
from e2e.browser import Complaints, NoChromium, check_accessibility, chromium, opened

EMAIL = "ada@example.org"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def site(settings: Settings, issuer: str) -> AsyncIterator[str]:
    """The address of a service that has the provider."""
    from devstack.ports import free_port

    url = f"http://127.0.0.1:{(port := free_port())}"
    oidc = {"PUBLIC_URL": url, "OIDC_ISSUER": issuer, "OIDC_CLIENT_ID": "console", "OIDC_CLIENT_SECRET": "secret"}
    async with started(environment(settings, port) | oidc) as process, httpx.AsyncClient(base_url=url) as client:
        await answer_of(client, "/health/ready", 200)
        yield url
        os.kill(process.pid, signal.SIGTERM)


@pytest_asyncio.fixture(loop_scope="session")
async def page(site: str, issuer: str) -> AsyncIterator[Page]:
    complaints = Complaints(urlsplit(site).netloc, expected=[issuer, "https://", "status of 401", "status of 409"])
    try:
        async with chromium() as browser, opened(browser, site, complaints) as page:
            await page.route("https://**", lambda route: route.abort())  # what the provider's own page asks for
            yield page
    except NoChromium as error:
        pytest.exit(str(error), returncode=1)
    assert complaints.unexpected() == []


async def known(issuer: str, email: str | None) -> str:
    """Whom the provider knows by this email."""
    subject = f"subject-{uuid4().hex[:8]}"
    async with httpx.AsyncClient() as provider:
        claims = {"email": email, "email_verified": True}
        (await provider.put(f"{issuer}/users/{subject}", json=claims)).raise_for_status()
    return subject


async def sign_in(page: Page, subject: str) -> None:
    await page.goto("/admin/settings")
    await page.get_by_role("link", name="Sign in with your organization's account").click()
    await page.locator("input[name=sub]").fill(subject)
    await page.get_by_role("button", name="Authorize").first.click()


async def test_a_person_signs_in_with_the_provider_and_is_where_they_wanted_to_be(
    page: Page, world: World, issuer: str
) -> None:
    person = await world.person(await world.organization())
    await sign_in(page, await known(issuer, person.email))

    await expect(page.get_by_role("heading", level=1)).to_have_text("Settings")
    await expect(page.locator("main")).to_contain_text("OpenID Connect")


async def test_who_has_no_account_is_told_so(page: Page, issuer: str) -> None:
    await sign_in(page, await known(issuer, f"nobody-{uuid4().hex[:8]}@example.org"))

    await expect(page.get_by_role("heading", level=1)).to_have_text("Sign in first")
    await expect(page.locator("main")).to_contain_text("No account of this installation is yours.")
    await check_accessibility(page)
    await page.get_by_role("link", name="Go to sign-in").click()
    await expect(page.get_by_label("Email")).to_be_visible()


async def test_who_is_in_two_organizations_names_one_and_goes_on(page: Page, world: World, issuer: str) -> None:
    person = await world.person(await world.organization())
    other = await world.person(await world.organization(), email=person.email)
    await sign_in(page, await known(issuer, person.email))
    await expect(page.get_by_role("heading", level=1)).to_have_text("Not possible now")
    await check_accessibility(page)

    await page.get_by_label("Organization id").fill(str(other.organization_id))
    await page.get_by_role("button", name="Go on with this organization").click()
    await page.get_by_role("link", name="Sign in with your organization's account").click()
    if await page.locator("input[name=sub]").count():
        await page.locator("input[name=sub]").fill(await known(issuer, person.email))
        await page.get_by_role("button", name="Authorize").first.click()

    await expect(page.get_by_role("heading", level=1)).to_have_text("Sync status")
