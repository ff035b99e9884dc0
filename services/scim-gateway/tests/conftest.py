"""Fixtures: a gateway, what it needs, and a scripted provisioner, shared by the tests of a module."""

from collections.abc import AsyncIterator

import pytest_asyncio

from gateway_stand import (
    Directory,
    Running,
    Script,
    Tenant,
    applied,
    create_topics,
    opened_directory,
    running,
    scripted_provisioner,
    settings_for,
)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def topics(kafka_bootstrap: str) -> str:
    await create_topics(kafka_bootstrap)
    return kafka_bootstrap


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def directory(postgres_module_database: str) -> AsyncIterator[Directory]:
    async with opened_directory(postgres_module_database) as opened:
        yield opened


@pytest_asyncio.fixture(loop_scope="session")
async def tenant(directory: Directory) -> Tenant:
    """A connection of its own for every test."""
    return await directory.add_connection()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def gateway(topics: str, directory: Directory) -> AsyncIterator[Running]:
    async with running(settings_for(topics, directory.gateway_dsn)) as started:
        yield started


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def module_script(topics: str) -> AsyncIterator[Script]:
    async with scripted_provisioner(topics) as script:
        yield script


@pytest_asyncio.fixture(loop_scope="session")
async def script(module_script: Script) -> Script:
    """The scripted provisioner, with nothing seen yet."""
    module_script.answer = applied
    module_script.seen.clear()
    module_script.raw.clear()
    return module_script
