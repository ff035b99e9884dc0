"""The simulated identity providers against the stack: what they send and leave behind, and what their check sees."""

import asyncio
import itertools
import json
import re
import sys
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from rich.console import Console

from e2e.admin import Organization
from e2e.scim import PATCH_OP, Scim, client, user
from e2e.stack import Stack, until
from simulators.check import Difference, differences, read_all
from simulators.company import Company, make_company
from simulators.entra import NOBODY
from simulators.idp import ENTERPRISE, IdentityProvider
from simulators.onelogin import OneLogin
from simulators.play import PROVIDERS, play
from simulators.report import summarize
from simulators.wire import open_wire

EVERY_DIALECT = pytest.mark.parametrize("dialect", PROVIDERS)


@dataclass(frozen=True)
class Connected:
    """A provider with a connection of its own, whose token `scim` has too."""

    idp: IdentityProvider
    domain: str
    scim: Scim

    def company(self, size: int) -> Company:
        return make_company(size, domain=self.domain)

    async def differences(self) -> list[Difference]:
        return differences(self.idp, await read_all(self.idp.wire))


@asynccontextmanager
async def connected(
    stack: Stack, organization: Organization, dialect: str, transport: httpx.AsyncBaseTransport | None = None
) -> AsyncIterator[Connected]:
    name = f"{dialect}-{uuid.uuid4().hex[:8]}"
    made = await organization.admin.generate_token(name)
    async with (
        open_wire(stack.scim_url, made["scimToken"], transport=transport, back_off=0.05) as wire,
        client(stack.scim_url, made["scimToken"]) as scim,
    ):
        yield Connected(PROVIDERS[dialect](wire), f"{name}.example", scim)


class Listening(httpx.AsyncHTTPTransport):
    """Passes requests on and remembers them: method, target below the base, body."""

    def __init__(self, stack: Stack) -> None:
        super().__init__()
        self.base = httpx.URL(stack.scim_url).path
        self.heard: list[tuple[str, str, Any]] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        content = await request.aread()
        target = request.url.raw_path.decode().removeprefix(self.base)
        self.heard.append((request.method, target, json.loads(content) if content else None))
        return await super().handle_async_request(request)

    def forget(self) -> None:
        self.heard.clear()

    def bodies(self, method: str, start: str) -> list[Any]:
        return [body for how, target, body in self.heard if how == method and target.startswith(start)]

    def steps(self) -> list[str]:
        """What was asked, with ids and addresses as blanks."""
        return [f"{method} {re.sub(r'[0-9a-f-]{36}|%22.*?%22', '_', target)}" for method, target, _ in self.heard]


class Lossy(httpx.AsyncHTTPTransport):
    """Every seventh request is done, and its answer lost."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers = itertools.count(1)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await super().handle_async_request(request)
        if next(self.numbers) % 7 == 0:
            await response.aread()
            await response.aclose()
            raise httpx.ReadError("lost on purpose", request=request)
        return response


@EVERY_DIALECT
async def test_a_company_is_synced_lives_and_is_in_the_directory_as_believed(
    stack: Stack, organization: Organization, dialect: str
):
    async with connected(stack, organization, dialect) as one:
        result = await play(one.idp, one.company(60))

        assert [str(each) for each in result.differences] == []
        assert one.idp.failures == []
        assert len(result.after.users) >= 60
        assert result.after.memberships > 180
        assert 0 < result.after.active < len(result.after.users)


async def test_a_onelogin_that_deletes_who_leaves_leaves_nobody_inactive(stack: Stack, organization: Organization):
    async with connected(stack, organization, "onelogin") as one:
        idp = OneLogin(one.idp.wire, when_leaving="delete")
        result = await play(idp, one.company(20))

        assert [str(each) for each in result.differences] == []
        assert result.after.active == len(result.after.users)
        assert idp.wire.traffic.methods["DELETE"] > 0


@EVERY_DIALECT
async def test_lost_answers_leave_no_difference(stack: Stack, organization: Organization, dialect: str):
    async with connected(stack, organization, dialect, Lossy()) as one:
        await one.idp.initial_sync(one.company(20))
        settled = await one.idp.settle()

        assert one.idp.wire.traffic.statuses["lost"] > 5
        assert settled
        assert await one.differences() == []


async def test_what_was_done_behind_the_providers_back_is_named(stack: Stack, organization: Organization):
    async with connected(stack, organization, "okta") as one:
        await one.idp.initial_sync(one.company(12))
        idp, scim = one.idp, one.scim
        changed, gone, left = list(idp.users.values())[9:12]
        await scim.patch(changed.id, {"op": "replace", "path": "title", "value": "Impostor"})
        await scim.set_active(changed.id, False)
        await scim.delete(gone.id)
        intruder = await scim.create(user())
        everybody = idp.groups["all"]
        members = {"op": "remove", "path": f'members[value eq "{left.id}"]'}
        await scim.request("PATCH", f"/Groups/{everybody.id}", {"schemas": [PATCH_OP], "Operations": [members]})

        found = {(each.what, each.attribute) for each in await one.differences()}

        assert found >= {
            (changed.person.user_name, "title"),
            (changed.person.user_name, "active"),
            (gone.person.user_name, "user"),
            (intruder["userName"], "user"),
            (everybody.name, f"membership of {left.person.user_name}"),
        }


async def test_a_difference_is_printed_and_ends_with_status_1(stack: Stack, organization: Organization):
    """The command, while a stranger creates a user on the same connection."""
    domain = f"behind-{uuid.uuid4().hex[:8]}.example"
    made = await organization.admin.generate_token(domain)
    command = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "simulators", "--url", stack.scim_url, "--token", made["scimToken"]),
        *("--users", "2", "--pace", "3", "--domain", domain),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with client(stack.scim_url, made["scimToken"]) as scim:

        async def has_begun() -> bool:
            return bool(await scim.find("active eq true"))

        await until(has_begun, "the first user", 60)
        intruder = await scim.create(user())
    output, _ = await command.communicate()

    assert command.returncode == 1, output.decode()
    assert f"DIFFERENT {intruder['userName']}: user is id {intruder['id']}" in output.decode()


async def test_the_summary_of_a_sync_without_difference_ends_with_status_0(stack: Stack, organization: Organization):
    async with connected(stack, organization, "entra") as one:
        result = await play(one.idp, one.company(1))

        with (console := Console(width=120)).capture() as output:
            assert summarize(console, [result]) == 0
        assert "the directory has exactly that" in output.get()


async def test_okta_looks_before_it_creates_and_pushes_groups_whole(stack: Stack, organization: Organization):
    listening = Listening(stack)
    async with connected(stack, organization, "okta", listening) as one:
        await one.idp.initial_sync(one.company(1))
        (chief,) = one.idp.users.values()

        assert listening.steps()[:8] == [
            "GET /Users?startIndex=1&count=2",
            "GET /Groups?startIndex=1&count=100",
            "GET /Users?filter=userName%20eq%20_&startIndex=1&count=100",
            "POST /Users",
            *["GET /Groups?filter=displayName%20eq%20_&startIndex=1&count=100"] * 4,
        ]
        (created,) = listening.bodies("POST", "/Users")
        assert created["groups"] == []
        assert created["password"]
        assert {
            "op": "replace",
            "path": "members",
            "value": [{"value": chief.id, "display": chief.person.user_name}],
        } in [body["Operations"][0] for body in listening.bodies("PATCH", "/Groups")]


async def test_okta_deactivates_by_a_patch_without_path_and_looks_for_who_comes_back(
    stack: Stack, organization: Organization
):
    listening = Listening(stack)
    async with connected(stack, organization, "okta", listening) as one:
        await one.idp.initial_sync(one.company(1))
        (chief,) = one.idp.users.values()
        listening.forget()

        await one.idp.deactivate(chief.person.key)
        await one.idp.assign(chief.person)

        assert listening.steps() == [
            "PATCH /Users/_",
            "GET /Users?filter=userName%20eq%20_&startIndex=1&count=100",
            "PATCH /Users/_",
        ]
        assert [body["Operations"] for body in listening.bodies("PATCH", "/Users")] == [
            [{"op": "replace", "value": {"active": False}}],
            [{"op": "replace", "value": {"active": True}}],
        ]


@pytest.mark.parametrize(
    ("dialect", "flag", "deactivated", "manager", "removed"),
    [
        (
            "entra",
            "",
            {"op": "Replace", "path": "active", "value": "False"},
            "Add",
            {"op": "Remove", "path": "members", "value": [{"$ref": None, "value": "_"}]},
        ),
        (
            "entra-flagged",
            "aadOptscim062020",
            {"op": "replace", "value": {"active": False}},
            "add",
            {"op": "remove", "path": 'members[value eq "_"]'},
        ),
    ],
)
async def test_entra_writes_each_dialect(
    stack: Stack,
    organization: Organization,
    dialect: str,
    flag: str,
    deactivated: dict[str, Any],
    manager: str,
    removed: dict[str, Any],
):
    listening = Listening(stack)
    async with connected(stack, organization, dialect, listening) as one:
        await one.idp.initial_sync(one.company(2))
        chief, head = one.idp.users.values()
        reference = {"op": manager, "path": f"{ENTERPRISE}:manager", "value": chief.id}
        assert [reference] in [body["Operations"] for body in listening.bodies("PATCH", "/Users")]
        assert f"GET /Users?{flag}{'&' if flag else ''}filter=userName+eq+_" in listening.steps()
        assert all(flag in target for _, target, _ in listening.heard)
        assert NOBODY in listening.heard[0][1]
        listening.forget()

        await one.idp.deactivate(head.person.key)
        await one.idp.rename_group("all", "All of Quillmoor")
        one.idp.groups["all"].members.discard(head.person.key)
        await one.idp.settle()

        assert listening.bodies("PATCH", "/Users")[0]["Operations"] == [deactivated]
        (operation,) = listening.bodies("PATCH", "/Groups")[-1]["Operations"]
        assert json.loads(json.dumps(operation).replace(head.id, "_")) == removed
        assert await one.differences() == []


async def test_onelogin_takes_users_one_by_one_with_their_groups(stack: Stack, organization: Organization):
    listening = Listening(stack)
    async with connected(stack, organization, "onelogin", listening) as one:
        await one.idp.initial_sync(one.company(1))
        (chief,) = one.idp.users.values()

        assert listening.steps()[:6] == [
            "GET /Users?filter=userName+eq+_&",
            "GET /Users?filter=userName+eq+_&",
            "POST /Users",
            "GET /Groups?count=100&startIndex=1&",
            "POST /Groups",
            "PATCH /Groups/_",
        ]
        (created,) = listening.bodies("POST", "/Users")
        assert created["schemas"][0] == "urn:scim:schemas:core:2.0"
        assert created["locale"] is None
        listening.forget()

        await one.idp.deactivate(chief.person.key)

        steps = listening.steps()
        assert set(steps[:-1]) == {"PATCH /Groups/_"}
        assert steps[-1] == "PUT /Users/_?"
        assert list(listening.heard[0][2]["Operations"][0]) == ["value", "op", "path"]
        assert await one.differences() == []
