"""The service on a real Postgres and a real Kafka; each test makes organizations of its own."""

import socket
from collections.abc import AsyncIterator

import asyncpg
import httpx
import pytest
from fastapi import FastAPI

import directory
from admin_api.settings import Settings
from admin_api.topics import create_topics
from admin_stand import DB_PASSWORD, World, new_client, new_settings, running
from contracts import TOPICS


@pytest.fixture(scope="session")
async def topics(kafka_bootstrap: str) -> str:
    """The bootstrap address of a broker that has the topics."""
    await create_topics(kafka_bootstrap, TOPICS, 1)
    return kafka_bootstrap


@pytest.fixture(scope="module")
async def settings(postgres_module_database: str, topics: str) -> Settings:
    await directory.set_role_passwords(postgres_module_database, {directory.Role.ADMIN: DB_PASSWORD})
    return new_settings(postgres_module_database, topics)


@pytest.fixture(scope="module")
async def app(settings: Settings) -> AsyncIterator[FastAPI]:
    async with running(settings) as app:
        yield app


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with new_client(app) as client:
        yield client


@pytest.fixture(scope="module")
async def db(postgres_module_database: str) -> AsyncIterator[asyncpg.Connection]:
    """The owner's look at the database."""
    db = await asyncpg.connect(postgres_module_database)
    yield db
    await db.close()


@pytest.fixture
def world(db: asyncpg.Connection, app: FastAPI) -> World:
    return World(db, app)


@pytest.fixture
def unused_port() -> int:
    """A port where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
