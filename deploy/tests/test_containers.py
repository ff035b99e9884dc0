"""The images in testcontainers, with Kafka and Postgres from their public images: `make test-containers`."""

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

# Its reaper is an image to pull; what is started here is removed here.
os.environ["TESTCONTAINERS_RYUK_DISABLED"] = "true"

import pytest
import yaml
from testcontainers.core.container import DockerContainer
from testcontainers.core.network import Network
from testcontainers.core.wait_strategies import ExecWaitStrategy, HealthcheckWaitStrategy, LogMessageWaitStrategy

from deployments import (
    ADMIN_EMAIL,
    HOUSE,
    ORGANIZATION,
    PROVIDER,
    SCIM_PATH,
    VERSION,
    following,
    run,
    run_e2e,
    write_stack,
)
from devstack.ports import free_port

pytestmark = pytest.mark.timeout(1800)
LOGS = {"gateway": "scim-gateway", "provisioner": "provisioner", "admin-api": "admin-api"}


class Containers:
    """The system in one network; the names in it are those of docker-compose.yml, so that its secrets fit."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder, self.secrets, self.logs = folder, folder / "secrets", folder / "logs"
        self.stack_file = folder / "stack.json"
        self._stack = stack
        self._network = stack.enter_context(Network())
        self._project = yaml.safe_load((HOUSE / "docker-compose.yml").read_text())["services"]
        self.ids: dict[str, str] = {}

    def secret(self, name: str) -> str:
        return (self.secrets / name).read_text()

    def container(self, name: str, image: str, **environment: str) -> DockerContainer:
        container = (
            DockerContainer(image).with_network(self._network).with_network_aliases(name).with_envs(**environment)
        )
        for secret in self._project[name].get("secrets", []):
            container.with_volume_mapping(str(self.secrets / secret), f"/run/secrets/{secret}", "ro")
        return container

    def start(self, name: str, container: DockerContainer) -> DockerContainer:
        started = self._stack.enter_context(container)
        self.ids[name] = started.get_wrapped_container().id or ""
        return started

    def like_compose(self, name: str) -> dict[str, str]:
        """The variables that docker-compose.yml gives, without those that it takes from its user."""
        given = self._project[name].get("environment", {})
        return {key: str(value) for key, value in given.items() if "$" not in str(value)}

    def job(self, name: str, *command: str, **environment: str) -> str:
        """Run a command of admin-api's image to its end; what it printed."""
        mounts = [
            part
            for secret in self._project[name].get("secrets", [])
            for part in ("--volume", f"{self.secrets / secret}:/run/secrets/{secret}:ro")
        ]
        variables = [
            part
            for key, value in {**self.like_compose(name), **environment}.items()
            for part in ("--env", f"{key}={value}")
        ]
        image = f"directory-sync/admin-api:{VERSION}"
        network = self._network.name
        return run(
            "docker", "run", "--rm", "--network", network, *mounts, *variables, image, "directory-sync", *command
        )


@contextmanager
def contained() -> Iterator[Containers]:
    with tempfile.TemporaryDirectory(prefix="containers-") as name, ExitStack() as stack:
        folder = Path(name)
        run("deploy/docker/make-secrets", str(folder / "secrets"))
        (folder / "logs").mkdir()
        system = Containers(folder, stack)
        postgres_port = start_servers(system)
        system.job("migrate", "migrate")
        system.job("topics", "topics")
        urls = start_services(system)
        bootstrapped = system.job(
            "bootstrap",
            *("bootstrap", "--json", "--password-file", "/run/secrets/admin_password"),
            *("--organization", ORGANIZATION, "--email", ADMIN_EMAIL, "--provider-id", PROVIDER),
        )
        write_stack(
            system.stack_file,
            json.loads(bootstrapped),
            scimBaseUrl=urls["scim-gateway"] + SCIM_PATH,
            adminUrl=urls["admin-api"],
            adminPassword=system.secret("admin_password"),
            databaseUrl=system.secret("database_url").replace("@postgres:5432", f"@127.0.0.1:{postgres_port}"),
            logs=str(system.logs),
        )
        follow = {system.logs / f"{n}.log": ("docker", "logs", "--follow", system.ids[s]) for n, s in LOGS.items()}
        stack.enter_context(following(follow, {}))
        yield system


def start_servers(system: Containers) -> int:
    """Kafka and Postgres; the port of this machine at which Postgres is."""
    kafka = system.container("kafka", "apache/kafka:4.3.1", **system.like_compose("kafka"))
    system.start("kafka", kafka.waiting_for(LogMessageWaitStrategy("Kafka Server started").with_startup_timeout(240)))
    port = free_port()
    init = HOUSE / "deploy" / "docker" / "postgres-init.sh"
    postgres = (
        system.container("postgres", "postgres:17-trixie", **system.like_compose("postgres"))
        .with_volume_mapping(str(init), "/docker-entrypoint-initdb.d/owner.sh", "ro")
        .with_bind_ports(5432, port)
        .with_command("postgres -c max_connections=200")
    )
    ready = ExecWaitStrategy(["pg_isready", "-q", "-h", "127.0.0.1"]).with_startup_timeout(240)
    system.start("postgres", postgres.waiting_for(ready))
    return port


def start_services(system: Containers) -> dict[str, str]:
    """The three services, ready; the origins of those that serve."""
    urls = {}
    for name, port in (("scim-gateway", 8080), ("admin-api", 8081), ("provisioner", 0)):
        container = system.container(name, f"directory-sync/{name}:{VERSION}", **system.like_compose(name))
        if port:
            published = free_port()
            urls[name] = f"http://127.0.0.1:{published}"
            container.with_bind_ports(port, published).with_env("PUBLIC_URL", urls[name])
        healthy = HealthcheckWaitStrategy().with_startup_timeout(240)
        system.start(name, container.with_kwargs(read_only=True, cap_drop=["ALL"]).waiting_for(healthy))
    return urls


async def test_the_black_box_suite_passes_against_testcontainers() -> None:
    with contained() as system:
        await run_e2e(system.stack_file)
