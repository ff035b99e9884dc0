"""The overlays in a real cluster: `make test-k8s`."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from deployments import HOUSE, SERVICES, run, run_e2e
from kube import NAMESPACE, Cluster, Deployed, delete, deployed, running_cluster, until
from rendered import K8S, OVERLAYS, render

pytestmark = pytest.mark.timeout(3600)

DRY = "directory-sync-dry"
CORE_USER = "urn:ietf:params:scim:schemas:core:2.0:User"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with running_cluster() as found:
        yield found


@pytest.fixture(scope="module")
def dry(cluster: Cluster) -> Iterator[Cluster]:
    """A cluster that knows the operators' resources, and a namespace to try manifests in."""
    run(str(K8S / "schemas" / "fetch"))
    cluster.kubectl("apply", "--server-side", "-f", str(HOUSE / ".cache" / "crds"))
    crds = cluster.kubectl("get", "crd", "-o", "name").split()
    cluster.kubectl("wait", "--for=condition=Established", *crds, "--timeout=60s")
    delete(cluster, DRY)
    cluster.kubectl("create", "namespace", DRY)
    cluster.kubectl("label", "namespace", DRY, "pod-security.kubernetes.io/enforce=restricted")
    yield cluster
    delete(cluster, DRY)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_api_server_takes_every_overlay(dry: Cluster, overlay: str) -> None:
    manifests = render(overlay).replace(f"namespace: {NAMESPACE}\n", f"namespace: {DRY}\n")
    manifests = manifests.replace(f"  name: {NAMESPACE}\n", f"  name: {DRY}\n")

    said = dry.kubectl("apply", "--dry-run=server", "--validate=strict", "-f", "-", input=manifests)

    assert "(server dry run)" in said
    assert "Warning" not in said


@pytest.fixture(scope="module")
def system(cluster: Cluster) -> Iterator[Deployed]:
    with deployed(cluster) as system:
        yield system


async def test_the_black_box_suite_passes_through_the_services(system: Deployed) -> None:
    with system.logging():
        await run_e2e(system.stack_file)


class Load:
    """Clients that create, change and read users one after the other, each request on a connection of its own."""

    def __init__(self, stack_file: Path) -> None:
        stack = json.loads(stack_file.read_text())
        self._url, self._headers = stack["scimBaseUrl"], {"authorization": f"Bearer {stack['scimToken']}"}
        self.created: list[str] = []
        self.failed: list[str] = []
        self.stopping = asyncio.Event()

    async def client(self) -> None:
        while not self.stopping.is_set():
            body = {"schemas": [CORE_USER], "userName": f"load-{uuid.uuid4().hex}@example.com"}
            created = await self.send("POST", "/Users", body)
            if created is None:
                continue
            self.created.append(created["id"])
            await self.send("GET", f"/Users/{created['id']}")

    async def send(self, method: str, path: str, body: object = None) -> dict[str, str] | None:
        try:
            async with httpx.AsyncClient(trust_env=False, timeout=30) as http:
                answer = await http.request(method, self._url + path, json=body, headers=self._headers)
        except httpx.HTTPError as error:
            self.failed.append(f"{method} {type(error).__name__}: {error}")
            return None
        if answer.is_success:
            return answer.json()
        self.failed.append(f"{method} {answer.status_code}: {answer.text[:200]}")
        return None

    async def check(self) -> None:
        """Every user whose creation was acknowledged is there."""
        for user_id in self.created:
            assert await self.send("GET", f"/Users/{user_id}"), user_id


@asynccontextmanager
async def under_load(system: Deployed, clients: int = 3) -> AsyncIterator[Load]:
    load = Load(system.stack_file)
    tasks = [asyncio.create_task(load.client()) for _ in range(clients)]
    try:
        while len(load.created) < clients:
            await asyncio.sleep(0.1)
        yield load
        seen = len(load.created)
        while len(load.created) < seen + clients:
            await asyncio.sleep(0.1)
    finally:
        load.stopping.set()
        await asyncio.gather(*tasks)


@pytest.mark.parametrize("name", SERVICES)
async def test_p13_a_deployment_restarts_under_load_without_a_failed_request(system: Deployed, name: str) -> None:
    async with under_load(system) as load:
        await asyncio.to_thread(system.cluster, "rollout", "restart", f"deployment/{name}")
        await asyncio.to_thread(system.cluster.rolled_out, name)

    assert load.failed == []
    await load.check()


async def test_a_migration_rolls_under_load_without_a_failed_request(system: Deployed) -> None:
    async with under_load(system) as load:
        await asyncio.to_thread(system.upgrade)

    assert load.failed == []


@pytest.mark.parametrize("name", SERVICES)
async def test_p1_a_killed_pod_loses_nothing_that_was_acknowledged(system: Deployed, name: str) -> None:
    async with under_load(system) as load:
        pod = system.cluster.pods(name)[0]
        await asyncio.to_thread(system.cluster, "delete", pod, "--force", "--grace-period=0")
        await asyncio.to_thread(until, lambda: pod not in system.cluster.pods(name), "the pod to go")
        await asyncio.to_thread(system.cluster.rolled_out, name)

    load.failed.clear()  # whoever was connected to it may repeat
    await load.check()
    assert load.failed == []


async def test_the_provisioner_scales_under_load_without_a_failed_request(system: Deployed) -> None:
    async with under_load(system) as load:
        for number in (4, 1, 2):
            await asyncio.to_thread(system.cluster, "scale", "deployment/provisioner", f"--replicas={number}")
            await asyncio.to_thread(system.cluster.rolled_out, "provisioner")
            await asyncio.to_thread(
                until, lambda n=number: len(system.cluster.pods("provisioner")) == n, f"{number} provisioners"
            )

    assert load.failed == []
    await load.check()
