"""Fixtures of the black-box tests: one stack a session, found or started.

A test marked `chaos` kills and freezes parts, on a stack that we started; these run after the others, and what is
marked `last` reads what all of them left behind.
"""

from collections import Counter
from collections.abc import AsyncIterator, Iterator

import asyncpg
import pytest
import pytest_asyncio

from e2e import stack as stacks
from e2e.admin import Organization, another_organization, first_organization
from e2e.collector import Collector, collecting
from e2e.conformance import case_folders
from e2e.player import Server, connect
from e2e.scim import Scim
from e2e.stack import Stack

session_fixture = pytest_asyncio.fixture(scope="session", loop_scope="session")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "chaos: kills and freezes parts of a stack that the tests started")
    config.addinivalue_line("markers", "last: reads what the other tests left behind")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the order, but chaos after the rest, and `last` at the end."""
    items.sort(key=lambda item: 2 if item.get_closest_marker("last") else 1 if item.get_closest_marker("chaos") else 0)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say loudly what was not tested, so that nobody takes it for passed."""
    skipped = [report for report in terminalreporter.stats.get("skipped", []) if "test_cases.py" in report.nodeid]
    for reason, count in Counter(report.longrepr[2] for report in skipped).items():
        terminalreporter.write_line(f"NOT TESTED: {count} scenarios. {reason}", yellow=True, bold=True)
    for folder in case_folders():
        if not folder.exists():
            terminalreporter.write_line(f"NOT TESTED: the cases of {folder}, which is missing", yellow=True, bold=True)


@pytest.fixture(scope="session")
def collector() -> Iterator[Collector]:
    """Where the stacks that we start export their traces to, every one of them."""
    with collecting() as collector:
        yield collector


@session_fixture
async def stack(request: pytest.FixtureRequest, collector: Collector) -> AsyncIterator[Stack]:
    """The stack of STACK_JSON or of `make run`, if it answers; else one of our own."""
    if found := await stacks.find():
        yield found
        return
    async with stacks.started(lambda: bool(request.session.testsfailed), collector.variables) as own:
        yield own


@session_fixture
async def chaos_stack(stack: Stack, request: pytest.FixtureRequest, collector: Collector) -> AsyncIterator[Stack]:
    """A stack that we may break: never one that somebody else is running."""
    if stack.is_ours:
        yield stack
        return
    async with stacks.started(lambda: bool(request.session.testsfailed), collector.variables) as own:
        yield own


@session_fixture
async def organization(stack: Stack) -> AsyncIterator[Organization]:
    """The organization that the stack came with."""
    async with first_organization(stack) as first:
        yield first


@session_fixture
async def other_organization(stack: Stack) -> AsyncIterator[Organization]:
    """Another customer, whose connection is called okta too."""
    async with another_organization(stack) as other:
        yield other


@pytest.fixture(scope="session")
def scim(organization: Organization) -> Scim:
    """The client of the connection that the stack came with."""
    return organization.scim


@session_fixture
async def server(stack: Stack) -> AsyncIterator[Server]:
    """What scenarios are played against."""
    async with connect(stack.scim_url, stack.token) as server:
        yield server


@session_fixture
async def db(stack: Stack) -> AsyncIterator[asyncpg.Connection]:
    """The stack's database, to look at what no interface shows."""
    connection = await asyncpg.connect(stack.database_url)
    yield connection
    await connection.close()
