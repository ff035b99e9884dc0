"""docker-compose.yml under test: a project of its own, with its own secrets, ports and volumes."""

import json
import os
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deployments import ADMIN_EMAIL, ORGANIZATION, PROVIDER, SCIM_PATH, VERSION, following, run, write_stack
from devstack.ports import free_port

# The tests look at the database, which the file itself publishes nowhere.
OVERRIDE = """
services:
  postgres:
    networks: [inside, outside]
    ports: ["127.0.0.1:{port}:5432"]
"""
LOGS = {"gateway": "scim-gateway", "provisioner": "provisioner", "admin-api": "admin-api", "proxy": "proxy"}


class Compose:
    """One project; `stack_file` and `ca_file` are what the black-box suite needs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.secrets = folder / "secrets"
        self.logs = folder / "logs"
        self.stack_file = folder / "stack.json"
        self.ca_file = self.secrets / "tls_certificate"
        self.project = f"directory-sync-test-{uuid.uuid4().hex[:8]}"
        self.https_port, self.postgres_port = free_port(), free_port()
        self.url = f"https://localhost:{self.https_port}"
        self._override = folder / "override.yml"
        self.env = {"SECRETS": str(self.secrets), "HTTPS_PORT": str(self.https_port), "VERSION": VERSION}

    def secret(self, name: str) -> str:
        return (self.secrets / name).read_text()

    def command(self, *arguments: str) -> list[str]:
        files = ("-f", "docker-compose.yml", "-f", str(self._override))
        return ["docker", "compose", "--project-name", self.project, *files, *arguments]

    def __call__(self, *arguments: str, timeout: float = 600) -> str:
        return run(*self.command(*arguments), env=self.env, timeout=timeout)

    def prepare(self) -> None:
        self.logs.mkdir()
        run("deploy/docker/make-secrets", str(self.secrets))
        self._override.write_text(OVERRIDE.format(port=self.postgres_port))

    def up(self) -> None:
        """From whatever there is to serving."""
        self("up", "--detach", "--wait", "--no-build", "--wait-timeout", "240")

    def bootstrap(self) -> None:
        """The first organization; `stack.json`."""
        given = ("--organization", ORGANIZATION, "--email", ADMIN_EMAIL, "--provider-id", PROVIDER)
        command = ("directory-sync", "bootstrap", "--json", "--password-file", "/run/secrets/admin_password", *given)
        write_stack(
            self.stack_file,
            json.loads(self("run", "--rm", "--no-TTY", "bootstrap", *command)),
            scimBaseUrl=self.url + SCIM_PATH,
            adminUrl=self.url,
            adminPassword=self.secret("admin_password"),
            databaseUrl=self.secret("database_url").replace("@postgres:5432", f"@127.0.0.1:{self.postgres_port}"),
            logs=str(self.logs),
        )

    @contextmanager
    def logging(self) -> Iterator[None]:
        """Keep the services' logs in a folder, as `make run` does."""
        follow = ("logs", "--follow", "--no-log-prefix", "--no-color")
        with following({self.logs / f"{n}.log": self.command(*follow, s) for n, s in LOGS.items()}, self.env):
            yield


@contextmanager
def composed() -> Iterator[Compose]:
    """A project that serves, with its first organization; gone with its volumes afterwards."""
    with tempfile.TemporaryDirectory(prefix="compose-") as folder:
        compose = Compose(Path(folder))
        compose.prepare()
        try:
            compose.up()
            compose.bootstrap()
            with compose.logging():
                yield compose
        except BaseException:
            if not os.environ.get("QUIET"):
                print(compose("logs", "--no-color", "--tail", "30"))
            raise
        finally:
            compose("down", "--volumes", "--remove-orphans", "--timeout", "20")
