"""A SCIM client of one connection, and the documents that it sends."""

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx

from e2e.tls import authorities

CORE_USER = "urn:ietf:params:scim:schemas:core:2.0:User"
CORE_GROUP = "urn:ietf:params:scim:schemas:core:2.0:Group"
PATCH_OP = "urn:ietf:params:scim:api:messages:2.0:PatchOp"
ERROR = "urn:ietf:params:scim:api:messages:2.0:Error"
MEDIA_TYPE = "application/scim+json"
TIMEOUT = 30.0  # seconds; above the gateway's deadline


class Scim:
    """Requests to one SCIM server with one token; a text or bytes body is sent as it is."""

    def __init__(self, http: httpx.AsyncClient, token: str) -> None:
        self.http = http
        self.token = token

    async def request(self, method: str, path: str, body: Any = None, **options: Any) -> httpx.Response:
        headers = {"authorization": f"Bearer {self.token}", "content-type": MEDIA_TYPE} | options.pop("headers", {})
        if isinstance(body, str | bytes):
            return await self.http.request(method, path, content=body, headers=headers, **options)
        if body is not None:
            options["json"] = body
        return await self.http.request(method, path, headers=headers, **options)

    async def create(self, body: dict[str, Any]) -> dict[str, Any]:
        response = await self.request("POST", "/Users", body)
        assert response.status_code == 201, response.text
        return response.json()

    async def get(self, user_id: str) -> dict[str, Any]:
        response = await self.request("GET", f"/Users/{user_id}")
        assert response.status_code == 200, response.text
        return response.json()

    async def find(self, filter: str) -> list[dict[str, Any]]:
        response = await self.request("GET", "/Users", params={"filter": filter})
        assert response.status_code == 200, response.text
        return response.json()["Resources"]

    async def patch(self, user_id: str, *operations: dict[str, Any]) -> httpx.Response:
        return await self.request("PATCH", f"/Users/{user_id}", patch(*operations))

    async def set_active(self, user_id: str, active: bool) -> None:
        response = await self.patch(user_id, {"op": "replace", "path": "active", "value": active})
        assert response.status_code in (200, 204), response.text

    async def delete(self, user_id: str) -> None:
        response = await self.request("DELETE", f"/Users/{user_id}")
        assert response.status_code == 204, response.text


@asynccontextmanager
async def client(url: str, token: str) -> AsyncIterator[Scim]:
    async with httpx.AsyncClient(base_url=url, timeout=TIMEOUT, trust_env=False, verify=authorities()) as http:
        yield Scim(http, token)


def new_name() -> str:
    """A userName, which is an email address, that nobody has."""
    return f"e2e-{uuid.uuid4().hex[:16]}@example.com"


def user(user_name: str | None = None, **more: Any) -> dict[str, Any]:
    """A user as Okta would send it; a None in `more` leaves an attribute out."""
    name = user_name or new_name()
    document = {
        "schemas": [CORE_USER],
        "userName": name,
        "name": {"givenName": "Mara", "familyName": "Quill"},
        "emails": [{"value": name, "type": "work", "primary": True}],
        "active": True,
    }
    return {attribute: value for attribute, value in (document | more).items() if value is not None}


def patch(*operations: dict[str, Any]) -> dict[str, Any]:
    return {"schemas": [PATCH_OP], "Operations": list(operations)}


def assert_error(response: httpx.Response, status: int, scim_type: str | None = None) -> str:
    """A SCIM error (RFC 7644 section 3.12) with this status; its detail, a sentence for whoever reads it."""
    assert response.status_code == status, f"{response.status_code}: {response.text[:300]}"
    assert response.headers["content-type"].partition(";")[0] == MEDIA_TYPE
    error = response.json()
    assert error["schemas"] == [ERROR]
    assert error["status"] == str(status)
    if scim_type is not None:
        assert error.get("scimType") == scim_type, error
    assert len(error["detail"]) > 10, error
    assert "Traceback" not in response.text
    return error["detail"]
