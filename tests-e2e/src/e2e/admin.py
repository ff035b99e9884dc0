"""A client of the admin API, and the operator's way to more organizations."""

import asyncio
import json
import os
import sys
import tempfile
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from e2e.scim import Scim, client
from e2e.stack import Stack
from e2e.tls import authorities


@dataclass(frozen=True)
class Admin:
    """An organization's admin, signed in."""

    http: httpx.AsyncClient
    organization_id: str
    email: str
    password: str
    session: str

    async def request(self, method: str, path: str, body: Any = None, **options: Any) -> httpx.Response:
        headers = {"authorization": f"Bearer {self.session}"} | options.pop("headers", {})
        if body is not None:
            options["json"] = body
        return await self.http.request(method, path, headers=headers, **options)

    async def generate_token(self, provider_id: str) -> dict[str, Any]:
        response = await self.request("POST", "/api/auth/scim/generate-token", {"providerId": provider_id})
        assert response.status_code == 201, response.text
        return response.json()

    async def delete_connection(self, provider_id: str) -> None:
        path = "/api/auth/scim/delete-provider-connection"
        response = await self.request("POST", path, {"providerId": provider_id})
        assert response.status_code == 200, response.text


@dataclass(frozen=True)
class Organization:
    """An organization with its admin, and its connection's client."""

    id: str
    name: str
    connection_id: str
    admin: Admin
    scim: Scim


@asynccontextmanager
async def first_organization(stack: Stack) -> AsyncIterator[Organization]:
    """The one that the stack came with."""
    found = stack.document
    async with (
        signed_in(stack, found["adminEmail"], found["adminPassword"]) as admin,
        client(stack.scim_url, stack.token) as scim,
    ):
        yield Organization(found["organizationId"], "", found["connectionId"], admin, scim)


@asynccontextmanager
async def another_organization(stack: Stack, provider_id: str = "okta") -> AsyncIterator[Organization]:
    """A new one on the enterprise plan, made by the operator's command line."""
    name, password = f"Org {uuid.uuid4().hex[:12]}", uuid.uuid4().hex
    email = f"admin-{uuid.uuid4().hex[:12]}@example.com"
    made = await bootstrap(stack, organization=name, email=email, password=password, provider_id=provider_id)
    async with signed_in(stack, email, password) as admin, client(stack.scim_url, made["scimToken"]) as scim:
        yield Organization(made["organizationId"], name, made["connectionId"], admin, scim)


@asynccontextmanager
async def signed_in(stack: Stack, email: str, password: str) -> AsyncIterator[Admin]:
    async with httpx.AsyncClient(base_url=stack.admin_url, timeout=30, trust_env=False, verify=authorities()) as http:
        body = await sign_in(http, email, password)
        yield Admin(http, body["user"]["organizationId"], email, password, body["token"])


async def sign_in(http: httpx.AsyncClient, email: str, password: str) -> dict[str, Any]:
    """The session; `http` keeps no cookie of it, which behind HTTPS would go with every later request."""
    response = await http.post("/api/auth/sign-in/email", json={"email": email, "password": password})
    assert response.status_code == 200, response.text
    http.cookies.clear()
    return response.json()


async def bootstrap(stack: Stack, **arguments: str) -> dict[str, Any]:
    """Run `directory-sync bootstrap` as the operator of this stack would; `arguments` by option, with the password."""
    with tempfile.TemporaryDirectory() as folder:
        password_file = Path(folder) / "password"
        password_file.write_text(arguments.pop("password"))
        options = [part for name, value in arguments.items() for part in (f"--{name.replace('_', '-')}", value)]
        return await command(stack, "bootstrap", "--password-file", str(password_file), *options)


async def command(stack: Stack, *arguments: str) -> Any:
    """What `directory-sync ... --json` prints to the operator of this stack."""
    return json.loads(await operate(stack, *arguments, "--json"))


async def operate(stack: Stack, *arguments: str) -> str:
    """What `directory-sync ...` prints to the operator of this stack."""
    if stack.pepper_file is None:
        raise LookupError(f"{stack.file} has no secrets folder beside it: only the stack's operator runs commands")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(Path(sys.executable).with_name("directory-sync")), *arguments),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=os.environ
        | {
            "DATABASE_URL": stack.database_url,
            "KAFKA_BOOTSTRAP": stack.document.get("kafkaBootstrap", ""),
            "TOKEN_PEPPER_FILE": str(stack.pepper_file),
            "GATEWAY_URL": str(httpx.URL(stack.scim_url).copy_with(path="/")),
        },
    )
    output, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    return output.decode()
