"""A roll-out under load: every process is replaced in its turn, and no request fails (P13).

Two of a service beside those of the stack; LONG says how often (e2e.fleet.rounds).
"""

import asyncio
import random
import uuid
from dataclasses import replace

import pytest

from e2e import load as loads
from e2e.admin import another_organization
from e2e.fleet import balanced, copies, rounds
from e2e.scim import Scim
from e2e.stack import Stack, until

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(3600)]

WRITES_BETWEEN = 40


async def test_p13_a_rolling_restart_of_gateways_and_provisioners_fails_no_request(
    chaos_stack: Stack, monkeypatch: pytest.MonkeyPatch
):
    # Clients wait longer than the server's own deadline, so that whatever fails is the server's failure.
    monkeypatch.setattr(loads, "PATIENCE", (25.0, 30.0))
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed {seed}")
    await chaos_stack.is_whole()
    async with (
        another_organization(chaos_stack) as organization,
        copies(chaos_stack, "gateway", 2) as gateways,
        copies(chaos_stack, "provisioner", 2) as provisioners,
        balanced(gateways, chaos_stack.scim_url) as (http, balancer),
    ):
        scim = Scim(http, organization.scim.token)
        async with loads.running(scim, seed, f"{uuid.uuid4().hex[:8]}.example.com") as load:
            for _ in range(rounds()):
                for process in (gateways[0], provisioners[0], gateways[1], provisioners[1]):
                    await load.progress(WRITES_BETWEEN)
                    await process.restart()
            await load.progress(WRITES_BETWEEN)
        print(f"{rounds()} rounds, {load.acknowledged} writes acknowledged, {balancer.requests} requests")

    assert balancer.failures == []
    assert load.repeated == 0


async def test_p13_a_rolling_restart_of_admin_api_fails_no_request(chaos_stack: Stack):
    await chaos_stack.is_whole()
    done, ending = 0, asyncio.Event()
    async with (
        another_organization(chaos_stack) as organization,
        copies(chaos_stack, "admin-api", 2) as processes,
        balanced(processes, chaos_stack.admin_url) as (http, balancer),
    ):
        admin = replace(organization.admin, http=http)

        async def work() -> None:
            nonlocal done
            while not ending.is_set():
                role = {"name": f"Role {uuid.uuid4()}", "permissions": []}
                made = await admin.request("POST", "/api/v1/admin/roles", role)
                assert made.status_code == 201, made.text
                gone = await admin.request("DELETE", f"/api/v1/admin/roles/{made.json()['id']}")
                assert gone.status_code == 204, gone.text
                done += 1

        async with asyncio.TaskGroup() as clients:
            for _ in range(8):
                clients.create_task(work())
            for process in processes * rounds():
                await until(lambda enough=done + WRITES_BETWEEN: done >= enough, "writes", 90)
                await process.restart()
            await until(lambda enough=done + WRITES_BETWEEN: done >= enough, "writes", 90)
            ending.set()
        print(f"{rounds()} rounds, {balancer.requests} requests")

    assert balancer.failures == []
