"""An identity provider's first synchronisation, and what it is refused (threat T51)."""

import asyncio
import os
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from e2e.admin import Organization
from e2e.scim import CORE_GROUP, Scim, patch, user
from e2e.stack import Stack, until
from e2e.tls import authorities

USERS = 10_000 if os.environ.get("LONG") else 200
AT_ONCE = 100  # Entra sends a few dozen; a connection has 112 slots for such changes
MEMBERS = 20  # in a PATCH of the group
PATIENCE = 60.0  # seconds


@pytest.mark.timeout(1200)
async def test_t51_entras_first_synchronisation_meets_no_429(stack: Stack, scim: Scim):
    """Look each user up, create it, and add it to a group, at the limits that a stack has by default."""
    limits = httpx.Limits(max_connections=AT_ONCE)
    async with httpx.AsyncClient(
        base_url=stack.scim_url, trust_env=False, timeout=PATIENCE, limits=limits, verify=authorities()
    ) as http:
        statuses, ids = await synchronize(Scim(http, scim.token))

    joined = statuses.pop(204, 0)  # with more than 1,000 members the group is not in the answer
    assert statuses == {200: USERS + USERS // MEMBERS - joined, 201: USERS + 1}
    assert len(set(ids)) == USERS


async def synchronize(scim: Scim) -> tuple[Counter[int], list[str]]:
    """How often each status was answered, and the ids of the users."""
    statuses, ids, mark = Counter[int](), list[str](), uuid.uuid4().hex[:8]

    async def ask(method: str, path: str, body: object = None, **options: Any) -> httpx.Response:
        answer = await scim.request(method, path, body, **options)
        statuses[answer.status_code] += 1
        return answer

    async def provision(number: int) -> None:
        name = f"{mark}-{number}@example.com"
        found = await ask("GET", "/Users", params={"filter": f'userName eq "{name}"'})
        assert found.json()["totalResults"] == 0
        ids.append((await ask("POST", "/Users", user(name))).json()["id"])

    async def join(first: int) -> None:
        members = [{"value": each} for each in ids[first : first + MEMBERS]]
        await ask("PATCH", f"/Groups/{group}", patch({"op": "Add", "path": "members", "value": members}))

    await each_of(range(USERS), provision)
    group = (await ask("POST", "/Groups", {"schemas": [CORE_GROUP], "displayName": f"Staff {mark}"})).json()["id"]
    await each_of(range(0, USERS, MEMBERS), join)
    return statuses, ids


async def each_of(numbers: range, work: Callable[[int], Awaitable[None]]) -> None:
    """Do the work for each number, AT_ONCE at any time."""
    left = iter(numbers)

    async def some() -> None:
        for number in left:
            await work(number)

    await asyncio.gather(*(some() for _ in range(AT_ONCE)))


async def test_an_admin_sees_what_the_gateway_refused_and_why(organization: Organization):
    body = {"schemas": user()["schemas"], "displayName": f"Ada {uuid.uuid4()}", "password": "canary"}
    refused = await organization.scim.request("POST", "/Users", body)
    assert refused.status_code == 400
    entries: list[dict[str, Any]] = []

    async def is_there() -> bool:
        answer = await organization.admin.request("GET", "/api/v1/admin/scim/log", params={"status": "4xx"})
        entries[:] = [each for each in answer.json()["entries"] if body["displayName"] in str(each["request"])]
        return bool(entries)

    await until(is_there, "the refusal in the provisioning log", 30)

    (entry,) = entries
    assert (entry["status"], entry["detail"]) == (400, refused.json()["detail"])
    assert entry["request"] == {"method": "POST", "path": "/Users", "body": body | {"password": "***"}}
    assert entry["similar"] is not None
