"""The service on a real Postgres and a real Kafka; each test makes organizations of its own."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

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


@pytest.fixture(scope="module")
def issuer() -> Iterator[str]:
    """A provider whose people sign in by telling who they are."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    script = str(Path(__file__).with_name("openid_provider.py"))
    command = [sys.executable, script, "--port", str(port), "--require-nonce"]
    environment = {"PATH": os.environ["PATH"], "PYTHONWARNINGS": "ignore"}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    deadline = time.monotonic() + 60
    while True:
        try:
            httpx.get(f"{url}/.well-known/openid-configuration").raise_for_status()
            break
        except httpx.HTTPError:
            assert process.poll() is None, "the provider has ended"
            assert time.monotonic() < deadline, "the provider does not start"
            time.sleep(0.1)
    yield url
    process.send_signal(signal.SIGTERM)
    process.wait(10)
