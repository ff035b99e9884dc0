"""Fixtures with a real broker and a real server, started once a session and removed afterwards.

    kafka_bootstrap            "127.0.0.1:PORT" of the session's broker; topics are the tests' own business
    postgres_server            the owner's DSN of the session's server
    postgres_database          the owner's DSN of a fresh, migrated database for one test
    postgres_module_database   the same for one module

TEST_KAFKA_BOOTSTRAP and TEST_POSTGRES_DSN (a role with CREATEDB and CREATEROLE) name servers to use instead. A chaos
test, which kills what it uses, starts its own `devstack.Kafka` or `devstack.Postgres`.
"""

import asyncio
import os
import shutil
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import hypothesis
import pytest
import pytest_asyncio

from devstack.kafka import Kafka
from devstack.postgres import Postgres
from devstack.users import remove_linked

# What is generated is the same in every run: a change is tested, not luck. `make fuzz` looks for what is new.
hypothesis.settings.register_profile("same", derandomize="FUZZ_EXAMPLES" not in os.environ, deadline=None)
hypothesis.settings.load_profile("same")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Keep the tests of a member in one process, in their order, with one broker and stack."""
    from xdist.scheduler import LoadScopeScheduling

    class ByMember(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return "/".join(nodeid.split("/")[:2])

    return ByMember(config, log)


@pytest.fixture(scope="session")
def devstack_folder() -> Iterator[Path]:
    """A folder that Postgres's user can reach, unlike pytest's own when we are root."""
    folder = Path(tempfile.mkdtemp(prefix="devstack-"))
    folder.chmod(0o711)
    yield folder
    remove_linked(folder / "postgres")
    shutil.rmtree(folder, ignore_errors=True)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def kafka_bootstrap(devstack_folder: Path) -> AsyncIterator[str]:
    if given := os.environ.get("TEST_KAFKA_BOOTSTRAP"):
        yield given
        return
    async with Kafka(devstack_folder / "kafka") as broker:
        yield broker.bootstrap


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def postgres_server(devstack_folder: Path) -> AsyncIterator[str]:
    if given := os.environ.get("TEST_POSTGRES_DSN"):
        yield given
        return
    async with Postgres(devstack_folder / "postgres") as server:
        yield server.dsn


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def postgres_template(postgres_server: str) -> AsyncIterator[str]:
    """A migrated database that the others are cloned from; nobody connects to it."""
    import directory

    async with new_database(postgres_server) as template:
        await asyncio.to_thread(directory.migrate, template)
        yield template


@pytest_asyncio.fixture(loop_scope="session")
async def postgres_database(postgres_server: str, postgres_template: str) -> AsyncIterator[str]:
    async with new_database(postgres_server, template=postgres_template) as database:
        yield database


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def postgres_module_database(postgres_server: str, postgres_template: str) -> AsyncIterator[str]:
    async with new_database(postgres_server, template=postgres_template) as database:
        yield database


@asynccontextmanager
async def new_database(server: str, template: str | None = None) -> AsyncIterator[str]:
    """A database on `server` (a DSN), a copy of the `template` database (a DSN too) when given; dropped at the end."""
    name = f"test_{uuid.uuid4().hex}"
    source = f" TEMPLATE {urlsplit(template).path[1:]}" if template else ""
    await execute(server, f"CREATE DATABASE {name}{source}")
    try:
        yield urlsplit(server)._replace(path=f"/{name}").geturl()
    finally:
        await execute(server, f"DROP DATABASE {name} WITH (FORCE)")


async def execute(server: str, statement: str) -> None:
    db = await asyncpg.connect(server)
    try:
        await db.execute(statement)
    finally:
        await db.close()
