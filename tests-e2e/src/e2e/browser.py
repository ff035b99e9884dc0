"""A real Chromium for the console: how it is started, what it must never report, and the rules of accessibility."""

import os
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from axe_playwright_python.async_playwright import Axe
from playwright.async_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Dialog,
    Page,
    Playwright,
    Request,
    async_playwright,
)

SCRIPT = Path(__file__).parents[3] / "scripts" / "chromium"
FLAGS = (
    "--headless=new",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
)
WIDE, PHONE = {"width": 1280, "height": 800}, {"width": 360, "height": 740}
# A policy that was violated is told as an error of the console by Chromium; this tells which.
_TELL_VIOLATIONS = """
document.addEventListener("securitypolicyviolation", (event) =>
  console.error(`CSP: ${event.violatedDirective} forbids ${event.blockedURI} ${event.sample}`));
"""


class NoChromium(Exception):
    """There is none, and it could not be installed; says how."""


def find_chromium() -> str:
    """The path of the browser, installed if need be; raises NoChromium."""
    run = subprocess.run([str(SCRIPT)], capture_output=True, text=True, check=False)
    if run.returncode:
        raise NoChromium(run.stderr.strip())
    return run.stdout.split("\n")[0]


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """A browser without a window."""
    path = find_chromium()
    async with async_playwright() as playwright:
        browser = await _launch(playwright, path)
        yield browser
        await browser.close()


async def _launch(playwright: Playwright, path: str) -> Browser:
    # Chromium's sandbox refuses to run as root.
    flags = [*FLAGS, "--no-sandbox"] if os.geteuid() == 0 else [*FLAGS]
    return await playwright.chromium.launch(executable_path=path, args=flags)


@dataclass
class Complaints:
    """What the browser reported: errors of scripts and policies, and requests to other hosts.

    `expected`: parts of messages that a test brings about on purpose.
    """

    host: str
    expected: list[str] = field(default_factory=list)
    found: list[str] = field(default_factory=list)

    def listen(self, context: BrowserContext) -> None:
        context.on("console", self._on_console)
        context.on("weberror", lambda error: self.found.append(f"error: {error.error}"))
        context.on("request", self._on_request)
        context.on("dialog", self._on_dialog)

    def unexpected(self) -> list[str]:
        return [text for text in self.found if not any(part in text for part in self.expected)]

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.found.append(f"{message.type}: {message.text} ({message.location.get('url', '')})")

    async def _on_dialog(self, dialog: Dialog) -> None:
        self.found.append(f"dialog: {dialog.message}")
        await dialog.dismiss()

    def _on_request(self, request: Request) -> None:
        parts = urlsplit(request.url)
        if parts.scheme not in ("data", "blob", "about") and parts.netloc != self.host:
            self.found.append(f"request to another host: {request.url}")


@asynccontextmanager
async def opened(
    browser: Browser, url: str, complaints: Complaints | None = None, **options: object
) -> AsyncIterator[Page]:
    """A page with cookies of its own, at no address yet; `options` are Playwright's for a context."""
    # Chromium takes no file of authorities; whoever tests with one of their own is believed here.
    own = {"ignore_https_errors": "SCIM_CA_FILE" in os.environ}
    context = await browser.new_context(**{"base_url": url, "viewport": WIDE, "locale": "en-GB", **own, **options})  # pyright: ignore[reportArgumentType]
    await context.add_init_script(_TELL_VIOLATIONS)
    if complaints:
        complaints.listen(context)
    page = await context.new_page()
    page.set_default_timeout(20_000)
    try:
        yield page
    finally:
        await context.close()


async def sign_in(page: Page, email: str, password: str, path: str = "/admin/scim") -> None:
    """Through the form, to the page at `path`."""
    await page.goto(path)
    await page.get_by_label("Email").fill(email)
    await page.get_by_label("Password").fill(password)
    await page.get_by_role("button", name="Sign in", exact=True).click()
    await page.wait_for_url(f"**{path}")


async def violations(page: Page) -> list[str]:
    """What axe-core finds wrong with the page as it is."""
    # Playwright evaluates outside of the page's policy, which forbids a script from elsewhere.
    found = await Axe().run(page)
    return [
        f"{rule['id']}: {rule['help']}: " + "; ".join(node["html"][:160] for node in rule["nodes"][:3])
        for rule in found.response["violations"]
    ]


async def check_accessibility(page: Page) -> None:
    """No violation in light and dark, on a wide screen and on a phone, where nothing is wider than the screen."""
    for scheme in ("light", "dark"):
        for size in (WIDE, PHONE):
            await page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
            await page.set_viewport_size(size)  # pyright: ignore[reportArgumentType]
            assert await violations(page) == [], f"{page.url} {scheme} {size['width']}"
            width = await page.evaluate("document.documentElement.scrollWidth")
            assert width <= size["width"], f"{page.url} is {width} wide at {size['width']}"
    await page.set_viewport_size(WIDE)  # pyright: ignore[reportArgumentType]
