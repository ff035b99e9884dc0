"""docker-compose.yml with our images on the machine's engine: `make test-compose`."""

import json
import ssl
import uuid
from collections.abc import Iterator

import httpx
import pytest

from compose import Compose, composed
from deployments import IMAGES, SERVICES, VERSION, run, run_e2e
from locks import locked

pytestmark = pytest.mark.timeout(1800)

MEGABYTE = 1_000_000
# Above the base image, which is not ours to shrink.
LARGEST = 200 * MEGABYTE
INSTALLED = """
import importlib.metadata, json, sys
found = importlib.metadata.distributions(path=[path for path in sys.path if path.startswith("/app")])
print(json.dumps({each.name.lower().replace("_", "-"): each.version for each in found}))
"""


@pytest.fixture(scope="module")
def compose() -> Iterator[Compose]:
    with composed() as project:
        yield project


async def test_the_black_box_suite_passes_behind_the_proxy(compose: Compose) -> None:
    await run_e2e(compose.stack_file, ca_file=compose.ca_file)


async def test_data_survive_a_restart_and_new_containers(compose: Compose) -> None:
    user_name = f"kept-{uuid.uuid4().hex}@example.com"
    assert (await send(compose, "POST", {"userName": user_name})).status_code == 201

    compose("restart")
    compose.up()
    assert await names(compose, user_name) == [user_name]

    compose("down", "--timeout", "30")
    compose.up()
    assert await names(compose, user_name) == [user_name]
    assert (await send(compose, "POST", {"userName": f"new-{user_name}"})).status_code == 201


def test_t61_our_containers_are_unprivileged_and_cannot_write(compose: Compose) -> None:
    for name in (*SERVICES, "proxy"):
        container = json.loads(run("docker", "inspect", compose("ps", "--quiet", name).strip()))[0]
        host = container["HostConfig"]
        assert container["Config"]["User"] == "10001:10001", name
        assert host["ReadonlyRootfs"], name
        assert host["CapDrop"] == ["ALL"], name
        assert "no-new-privileges:true" in host["SecurityOpt"], name
        assert not host["Privileged"], name


def test_secrets_come_as_files_and_are_in_no_environment(compose: Compose) -> None:
    secrets = {file.read_text() for file in compose.secrets.iterdir()}
    for container in compose("ps", "--all", "--quiet").split():
        described = run("docker", "inspect", container)
        assert not [secret for secret in secrets if secret in described]


def test_only_the_proxy_is_reachable_from_outside() -> None:
    project = json.loads(run("docker", "compose", "config", "--format", "json", env={"SECRETS": "/nowhere"}))

    published = {name for name, service in project["services"].items() if service.get("ports")}
    outside = {name for name, service in project["services"].items() if "outside" in service.get("networks", {})}
    assert published == outside == {"proxy"}
    assert all(network["internal"] for name, network in project["networks"].items() if name != "outside")


@pytest.mark.parametrize("image", IMAGES)
def test_an_image_is_small_labelled_and_without_build_tools(image: str) -> None:
    described = json.loads(run("docker", "inspect", image))[0]
    base = json.loads(run("docker", "inspect", "debian:trixie-slim"))[0]

    assert described["Size"] - base["Size"] < LARGEST
    assert described["Config"]["User"] == "10001:10001"
    assert described["Config"]["Healthcheck"]["Test"]
    labels = described["Config"]["Labels"]
    assert {"title", "description", "version", "revision"} <= {
        name.removeprefix("org.opencontainers.image.") for name in labels
    }
    tools = "for tool in gcc cc make pip pip3 uv git curl wget; do command -v $tool; done; true"
    assert run("docker", "run", "--rm", image, "sh", "-c", tools) == ""


@pytest.mark.parametrize("service", SERVICES)
def test_t62_an_image_holds_the_packages_of_its_lock_file_and_no_others(service: str) -> None:
    installed = json.loads(
        run("docker", "run", "--rm", f"directory-sync/{service}:{VERSION}", "python", "-c", INSTALLED)
    )
    ours = {name for name in installed if name.startswith("directory-sync-")}

    assert f"directory-sync-{service}" in ours
    assert {name: version for name, version in installed.items() if name not in ours} == locked(service)


def test_an_image_says_what_is_missing_and_ends() -> None:
    for service in SERVICES:
        with pytest.raises(AssertionError, match="exit code 2"):
            run("docker", "run", "--rm", f"directory-sync/{service}:{VERSION}")


async def send(compose: Compose, method: str, body: object = None, **options: object) -> httpx.Response:
    stack = json.loads(compose.stack_file.read_text())
    url, headers = f"{stack['scimBaseUrl']}/Users", {"authorization": f"Bearer {stack['scimToken']}"}
    document = {"schemas": ["urn:ietf:params:scim:schemas:core:2.0:User"], **body} if isinstance(body, dict) else None
    trusted = ssl.create_default_context(cafile=compose.ca_file)
    async with httpx.AsyncClient(verify=trusted, trust_env=False, timeout=30) as http:
        return await http.request(method, url, json=document, headers=headers, params=options)  # type: ignore[arg-type]


async def names(compose: Compose, user_name: str) -> list[str]:
    found = await send(compose, "GET", filter=f'userName eq "{user_name}"')
    return [user["userName"] for user in found.json()["Resources"]]
