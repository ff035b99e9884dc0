"""Fixtures of the console's tests: one browser a session, for each test a page of its own that must not complain."""

from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, expect

from e2e.admin import Organization, another_organization
from e2e.browser import Complaints, NoChromium, chromium, opened, sign_in
from e2e.stack import Stack

expect.set_options(timeout=15_000)  # milliseconds; a busy machine is slow, not wrong

session_fixture = pytest_asyncio.fixture(scope="session", loop_scope="session")


@session_fixture
async def browser() -> AsyncIterator[Browser]:
    """The session's Chromium; without one the whole session stops and says how to get it."""
    try:
        async with chromium() as browser:
            yield browser
    except NoChromium as error:
        pytest.exit(str(error), returncode=1)


@session_fixture
async def tenant(stack: Stack) -> AsyncIterator[Organization]:
    """An organization of the console's tests, with a connection called okta."""
    async with another_organization(stack) as organization:
        yield organization


@session_fixture
async def org(stack: Stack) -> AsyncIterator[Organization]:
    """Another one, in which tests make connections, people, roles and mappings as they like."""
    async with another_organization(stack) as organization:
        yield organization


@pytest.fixture
def complaints(stack: Stack) -> Complaints:
    """What the browser reports in this test; nothing, unless the test expects it."""
    return Complaints(urlsplit(stack.admin_url).netloc)


@pytest_asyncio.fixture(loop_scope="session")
async def visitor(browser: Browser, stack: Stack, complaints: Complaints) -> AsyncIterator[Page]:
    """A page of nobody, at no address yet."""
    async with opened(browser, stack.admin_url, complaints) as page:
        yield page
    assert complaints.unexpected() == []


@pytest_asyncio.fixture(loop_scope="session")
async def page(visitor: Page, tenant: Organization) -> Page:
    """The page of the tenant's admin, who has just signed in."""
    await sign_in(visitor, tenant.admin.email, tenant.admin.password)
    return visitor
