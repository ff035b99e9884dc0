"""The service running in the test's process, and the rows and clients that tests begin with."""

import asyncio
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import asyncpg
import httpx
from fastapi import FastAPI

import directory
from admin_api.app import create_app
from admin_api.passwords import hash_password
from admin_api.settings import Settings
from admin_api.store.organizations import BUILT_IN_ROLES
from scim.keys import email_key

PASSWORD = "correct horse battery"
PASSWORD_HASH = hash_password(PASSWORD)
PEPPER = "pepper-of-the-tests"
ORIGIN = "http://admin.test"
DB_PASSWORD = "password-of-the-role"
SCRIPT = Path(sys.executable).with_name("directory-sync")
PROGRAM = Path(sys.executable).with_name("admin-api")


def new_settings(database: str, bootstrap: str) -> Settings:
    """Settings for the role of the service on this database."""
    parts = urlsplit(database)
    dsn = parts._replace(netloc=f"{directory.Role.ADMIN}:{DB_PASSWORD}@{parts.hostname}:{parts.port}").geturl()
    return Settings.model_validate(
        {"admin_database_url": dsn, "kafka_bootstrap": bootstrap, "token_pepper": PEPPER, "admin_sweep_seconds": 3600}
    )


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[FastAPI]:
    """The application with its parts open."""
    app = create_app(settings)
    async with app.router.lifespan_context(app):
        yield app


def new_client(app: FastAPI) -> httpx.AsyncClient:
    """A client that is not signed in."""
    return httpx.AsyncClient(transport=httpx.ASGITransport(app, raise_app_exceptions=False), base_url=ORIGIN)


@dataclass(frozen=True)
class Person:
    id: UUID
    organization_id: UUID
    email: str

    @property
    def credentials(self) -> dict[str, str]:
        return {"email": self.email, "password": PASSWORD}


@dataclass(frozen=True)
class World:
    """Makes rows, as the owner, and clients that are signed in, as anybody."""

    db: asyncpg.Connection
    app: FastAPI

    async def organization(self, plan: str = "enterprise") -> UUID:
        organization_id = uuid4()
        await self.db.execute(
            "INSERT INTO organizations (id, name, plan) VALUES ($1, 'an organization', $2)", organization_id, plan
        )
        for name in BUILT_IN_ROLES:
            await self.db.execute(
                "INSERT INTO roles (id, organization_id, name, built_in) VALUES ($1, $2, $3, true)",
                uuid4(),
                organization_id,
                name,
            )
        return organization_id

    async def person(
        self,
        organization_id: UUID,
        roles: Sequence[str] = ("admin",),
        *,
        email: str | None = None,
        password_hash: str | None = PASSWORD_HASH,
    ) -> Person:
        person = Person(uuid4(), organization_id, email or f"{uuid4().hex[:12]}@example.test")
        now = datetime.now(UTC)
        await self.db.execute(
            """
            INSERT INTO accounts
                (id, organization_id, email, email_key, display_name, status, epoch, created_at, updated_at)
            VALUES ($1, $2, $3, $4, 'Ada Lovelace', 'active', 3, $5, $5)
            """,
            *(person.id, organization_id, person.email, email_key(person.email), now),
        )
        if password_hash:
            await self.db.execute(
                "INSERT INTO credentials (account_id, password_hash) VALUES ($1, $2)", person.id, password_hash
            )
        await self.db.execute(
            """
            INSERT INTO grants (account_id, role_id)
            SELECT $1, id FROM roles WHERE organization_id = $2 AND name = ANY($3::text[])
            """,
            *(person.id, organization_id, list(roles)),
        )
        return person

    async def signed_in(self, person: Person) -> httpx.AsyncClient:
        """A client with the person's session as its bearer token, and no cookie."""
        client = new_client(self.app)
        answer = await client.post("/api/auth/sign-in/email", json=person.credentials)
        assert answer.status_code == 200, answer.text
        client.cookies.clear()
        client.headers["authorization"] = f"Bearer {answer.json()['token']}"
        return client

    async def admin(self, plan: str = "enterprise") -> httpx.AsyncClient:
        """A signed-in admin of a new organization."""
        return await self.signed_in(await self.person(await self.organization(plan)))


def token_of(client: httpx.AsyncClient) -> str:
    """The session's secret that a signed-in client carries."""
    return client.headers["authorization"].removeprefix("Bearer ")


def assert_refused(answer: httpx.Response, status: int, code: str) -> None:
    """A refusal in the shape of the admin surface, named by the request's id."""
    assert (answer.status_code, answer.json().get("error")) == (status, code), answer.text
    body = answer.json()
    assert set(body) == {"error", "message", "requestId"}
    assert body["message"]
    assert body["requestId"] == answer.headers["x-request-id"]
    assert answer.headers["content-type"] == "application/json"


class Cli:
    """Runs the script with an environment of its own."""

    def __init__(self, env: dict[str, str]) -> None:
        self.env = {"PATH": os.environ["PATH"], "COLUMNS": "200", **env}

    async def run(self, *arguments: str, status: int = 0, **env: Any) -> tuple[str, str]:
        """Standard output and standard error of a run that ends with this status; never a traceback."""
        process = await asyncio.create_subprocess_exec(SCRIPT, *arguments, env=self.env | env, stdout=PIPE, stderr=PIPE)
        output, errors = (text.decode() for text in await process.communicate())
        assert process.returncode == status, output + errors
        assert "Traceback" not in errors
        return output, errors


def environment(settings: Settings, port: int) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "ADMIN_PORT": str(port),
        "ADMIN_DATABASE_URL": settings.admin_database_url.get_secret_value(),
        "KAFKA_BOOTSTRAP": settings.kafka_bootstrap,
        "TOKEN_PEPPER": PEPPER,
    }


@asynccontextmanager
async def started(env: dict[str, str]) -> AsyncIterator[Process]:
    process = await asyncio.create_subprocess_exec(PROGRAM, env=env, stdout=PIPE, stderr=PIPE)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def answer_of(client: httpx.AsyncClient, path: str, status: int) -> httpx.Response:
    """The answer once it has this status; fails after 20 s."""
    async with asyncio.timeout(20):
        while True:
            try:
                if (answer := await client.get(path)).status_code == status:
                    return answer
            except httpx.TransportError:
                pass
            await asyncio.sleep(0.05)


async def ended(process: Process) -> tuple[int | None, str, str]:
    async with asyncio.timeout(20):
        output, errors = await process.communicate()
    return process.returncode, output.decode(), errors.decode()
