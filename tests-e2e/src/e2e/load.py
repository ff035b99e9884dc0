"""Clients that write for a while and know afterwards what must be there.

Every operation is repeated until it is acknowledged, also while an earlier try may still be under way, and each PATCH
writes a value of its own. So whatever was killed meanwhile, the end is known exactly: each user has its last title, and
one version for its creation and each PATCH.
"""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx

from e2e.scim import Scim, user
from e2e.stack import until

CLIENTS = 16
TRY_AGAIN = (429, 503)
PATIENCE = (2.0, 15.0)  # seconds until a client gives up a try, at random: below and above the server's own deadline
BACK_OFF = 0.2  # seconds between two tries; less than the server asks for, more than nothing
PROGRESS_DEADLINE = 120.0  # seconds


class Violation(AssertionError):
    """The server broke a promise."""


@dataclass
class Register:
    """One person: what was acknowledged last."""

    user_name: str
    id: str = ""
    title: str = ""
    version: int = 0
    is_present: bool = False


@dataclass
class Load:
    """The whole load; `seed` makes its choices the same each time."""

    scim: Scim
    seed: int
    domain: str
    registers: list[Register] = field(default_factory=list)
    dice: random.Random = field(default_factory=random.Random)
    acknowledged: int = 0
    repeated: int = 0
    ending: asyncio.Event = field(default_factory=asyncio.Event)

    async def progress(self, writes: int) -> None:
        """Return when so many more writes are acknowledged."""
        mark = self.acknowledged + writes
        await until(lambda: self.acknowledged >= mark, f"{writes} more writes", PROGRESS_DEADLINE)

    async def client(self, number: int) -> None:
        """Create, change, delete and create again, one operation at a time, until the end is called."""
        dice = random.Random(self.seed * 1000 + number)
        mine: list[Register] = []
        while not self.ending.is_set():
            if not mine or dice.random() < 0.25:
                mine.append(Register(f"load-{number}-{len(mine)}@{self.domain}"))
                self.registers.append(mine[-1])
                await self.create(mine[-1])
            else:
                await self.change(dice.choice(mine), dice)

    async def change(self, one: Register, dice: random.Random) -> None:
        if not one.is_present:
            await self.create(one)
        elif dice.random() < 0.2:
            await self.delete(one)
        else:
            await self.patch(one)

    async def create(self, one: Register) -> None:
        body = user(one.user_name, externalId=one.user_name, title="0")
        response, tries = await self._until_answered("POST", "/Users", body)
        if response.status_code == 409 and tries > 1:  # an earlier try was applied
            found = await self._read("/Users", {"filter": f'userName eq "{one.user_name}"'})
            resource = found["Resources"][0] if found["Resources"] else None
        else:
            resource = response.json() if response.status_code == 201 else None
        if resource is None:
            raise Violation(f"try {tries} to create {one.user_name}: {response.status_code} {response.text}")
        one.id, one.title, one.version, one.is_present = resource["id"], "0", 1, True
        self.acknowledged += 1

    async def patch(self, one: Register) -> None:
        title = str(one.version)
        body = {
            "schemas": ["urn:ietf:params:scim:api:messages:2.0:PatchOp"],
            "Operations": [{"op": "replace", "path": "title", "value": title}],
        }
        response, tries = await self._until_answered("PATCH", f"/Users/{one.id}", body)
        if response.status_code != 200 or response.json().get("title") != title:
            raise Violation(f"try {tries} to patch {one.user_name}: {response.status_code} {response.text}")
        one.title, one.version = title, one.version + 1
        self.acknowledged += 1

    async def delete(self, one: Register) -> None:
        response, tries = await self._until_answered("DELETE", f"/Users/{one.id}", None)
        if response.status_code != 204 and not (response.status_code == 404 and tries > 1):
            raise Violation(f"try {tries} to delete {one.user_name}: {response.status_code} {response.text}")
        one.is_present = False
        self.acknowledged += 1

    async def check(self, one: Register) -> None:
        """Raise Violation unless the server has exactly what it acknowledged."""
        found = await self._read("/Users", {"filter": f'userName eq "{one.user_name}"'})
        got = [(each["id"], each["title"], each["meta"]["version"]) for each in found["Resources"]]
        expected = [(one.id, one.title, f'W/"{one.version}"')] if one.is_present else []
        if got != expected:
            raise Violation(f"{one.user_name}: expected {expected}, got {got} (seed {self.seed})")

    async def _read(self, path: str, params: dict[str, str]) -> Any:
        response, _ = await self._until_answered("GET", path, None, params=params)
        if response.status_code != 200:
            raise Violation(f"GET {path}: {response.status_code} {response.text}")
        return response.json()

    async def _until_answered(self, method: str, path: str, body: Any, **options: Any) -> tuple[httpx.Response, int]:
        """Repeat a request until the answer is neither a lost connection nor a 503; the answer and the tries."""
        tries = 0
        while True:
            tries += 1
            try:
                patience = self.dice.uniform(*PATIENCE)
                response = await self.scim.request(method, path, body, timeout=patience, **options)
            except httpx.HTTPError:
                pass
            else:
                if response.status_code not in TRY_AGAIN:
                    return response, tries
            self.repeated += 1
            await asyncio.sleep(BACK_OFF)


@asynccontextmanager
async def running(scim: Scim, seed: int, domain: str) -> AsyncIterator[Load]:
    """16 clients that write within the block; afterwards every acknowledged write has been checked."""
    load = Load(scim, seed, domain, dice=random.Random(seed))
    async with asyncio.TaskGroup() as clients:
        for number in range(CLIENTS):
            clients.create_task(load.client(number))
        yield load
        load.ending.set()
    for one in load.registers:
        await load.check(one)
