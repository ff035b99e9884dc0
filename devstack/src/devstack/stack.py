"""The stack of `make run`: Kafka, Postgres and our services, wired together by environment variables."""

import asyncio
import json
import os
import shutil
import sys
import time
from collections.abc import Coroutine, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from devstack.cache import cache_folder
from devstack.console import follow, say, write
from devstack.errors import StartError
from devstack.kafka import Kafka
from devstack.part import Part
from devstack.ports import HOST, free_port, is_free
from devstack.postgres import Postgres
from devstack.run_folder import RunFolder, write_private
from devstack.service import Service, run_once
from devstack.settings import Settings
from devstack.supervisor import keep_running, stop_in_order, until_signalled

NEEDED_BYTES = 1_000_000_000
# A stack that was killed a moment ago may still be letting its ports go.
PORTS_DEADLINE = 3.0
ADMIN_EMAIL = "admin@example.com"
ORGANIZATION = "Example"
PROVIDER = "okta"
SCIM_PATH = "/api/auth/scim/v2"


async def run(settings: Settings) -> None:
    """Run the stack until a signal asks it to stop; `StartError` when it cannot run."""
    folder = RunFolder(settings.run_dir)
    folder.make()
    with folder.locked():
        check_disk([folder.path, cache_folder()])
        await check_ports(settings)
        await Stack(settings, folder).run()


class Stack:
    def __init__(self, settings: Settings, folder: RunFolder) -> None:
        self.folder = folder
        self.gateway_url = f"http://{HOST}:{settings.gateway_port}"
        self.admin_url = f"http://{HOST}:{settings.admin_port}"
        self.kafka = Kafka(folder.kafka, port=settings.kafka_port, log=folder.log("kafka"), report=say)
        self.postgres = Postgres(folder.postgres, port=settings.postgres_port, log=folder.log("postgres"))
        self.ports = {"GATEWAY_PORT": str(settings.gateway_port), "ADMIN_PORT": str(settings.admin_port)}
        self.services: list[Service] = []
        self.followers: list[asyncio.Task[None]] = []
        self.bootstrapped: dict[str, Any] = {}

    async def run(self) -> None:
        self.folder.stack_file.unlink(missing_ok=True)
        try:
            await until_signalled(self._serve)
        finally:
            say("stopping")
            self.folder.stack_file.unlink(missing_ok=True)
            await stop_in_order(self._stop_order())
            for task in self.followers:
                task.cancel()
            await asyncio.gather(*self.followers, return_exceptions=True)
            say("stopped")

    def _stop_order(self) -> list[list[Part]]:
        """Requests in flight need the provisioner for their answers, and everybody needs the servers."""
        fronts: list[Part] = [service for service in self.services if service.name != "provisioner"]
        rest: list[Part] = [service for service in self.services if service.name == "provisioner"]
        return [fronts, rest, [self.kafka, self.postgres]]

    async def _serve(self) -> None:
        began = time.monotonic()
        await self._start_servers()
        await self._bootstrap()
        self.services = self._make_services()
        await self._start_services()
        self._write()
        print_next_steps(self, time.monotonic() - began)
        await together(*(keep_running(part, self._write) for part in (self.kafka, self.postgres, *self.services)))

    async def _start_servers(self) -> None:
        say(f"starting Kafka on port {self.kafka.port} and Postgres on port {self.postgres.port}")
        has_data = self.folder.kafka.exists() or self.folder.postgres.exists()
        try:
            await together(*(self._start(part) for part in (self.kafka, self.postgres)))
        except StartError as error:
            hint = "; if the data are damaged, `make clean-run` deletes them" if has_data else ""
            raise StartError(f"{error}{hint}") from error

    async def _start_services(self) -> None:
        say("starting " + ", ".join(service.name for service in self.services))
        self.followers = [asyncio.create_task(follow(service.log, service.name)) for service in self.services]
        await together(*(self._start(service) for service in self.services))

    async def _start(self, part: Part) -> None:
        began = time.monotonic()
        await part.start()
        say(f"{part.name} is ready after {time.monotonic() - began:.1f} s (process {part.pid})")

    async def _bootstrap(self) -> None:
        """Bring schema and topics up to date; make the first organization, admin and connection, once."""
        log = self.folder.log("setup")
        owner = {
            "DATABASE_URL": self.postgres.dsn,
            "KAFKA_BOOTSTRAP": self.kafka.bootstrap,
            "TOKEN_PEPPER_FILE": str(self.folder.secret("token_pepper")),
            **{f"{name}_DB_PASSWORD": self._role_password(name) for name in ("GATEWAY", "PROVISIONER", "ADMIN")},
        }
        say("migrating the database, creating topics")
        operate = partial(run_once, "directory-sync", variables=owner, log=log)
        await operate("migrate")
        await operate("topics")
        bootstrap = partial(
            operate,
            *("bootstrap", "--json", "--organization", ORGANIZATION, "--email", ADMIN_EMAIL),
            *("--password-file", str(self.folder.secret("admin_password")), "--provider-id", PROVIDER),
        )
        self._take(await bootstrap())
        if not self._token_file.exists():
            # A token is shown once; whoever lost it (a crash right here, a deleted file) gets another.
            self._take(await bootstrap("--rotate-token"))

    def _take(self, output: str) -> None:
        """Remember what `bootstrap` printed; the token is there only when it was issued just now."""
        self.bootstrapped = json.loads(output)
        if token := self.bootstrapped.get("scimToken"):
            write_private(self._token_file, token)

    @property
    def _token_file(self) -> Path:
        return self.folder.secrets / "scim_token"

    def _role_password(self, name: str) -> str:
        return self.folder.secret(f"{name.lower()}_db_password").read_text()

    def _make_services(self) -> list[Service]:
        health_port = free_port()
        return [
            self._service("gateway", "scim-gateway", "scim_gateway", self.gateway_url, PUBLIC_URL=self.gateway_url),
            self._service(
                "provisioner",
                "provisioner",
                "scim_provisioner",
                f"http://{HOST}:{health_port}",
                HEALTH_HOST=HOST,
                HEALTH_PORT=str(health_port),
            ),
            self._service(
                "admin-api",
                "admin-api",
                "scim_admin",
                self.admin_url,
                PUBLIC_URL=self.admin_url,
                GATEWAY_URL=self.gateway_url,
                SCIM_PUBLIC_URL=self.gateway_url,
            ),
        ]

    def _service(self, name: str, program: str, role: str, health: str, **variables: str) -> Service:
        short = name.removesuffix("-api").upper()
        metrics_port = free_port()
        environment = {
            **self.ports,
            f"{short}_HOST": HOST,
            f"{short}_DATABASE_URL": self.postgres.dsn_of(role, self._role_password(short)),
            "METRICS_HOST": HOST,
            "METRICS_PORT": str(metrics_port),
            "KAFKA_BOOTSTRAP": self.kafka.bootstrap,
            "TOKEN_PEPPER_FILE": str(self.folder.secret("token_pepper")),
            "LOG_FORMAT": os.environ.get("LOG_FORMAT") or ("pretty" if sys.stdout.isatty() else "json"),
            **variables,
        }
        metrics = f"http://{HOST}:{metrics_port}"
        return Service(name, program, environment, health=health, metrics=metrics, log=self.folder.log(name))

    def _write(self) -> None:
        """Bring `stack.json` up to date."""
        self.folder.write_stack(self.describe())

    def describe(self) -> dict[str, Any]:
        return {
            "scimBaseUrl": self.gateway_url + SCIM_PATH,
            "scimToken": self._token_file.read_text(),
            "adminUrl": self.admin_url,
            "adminEmail": ADMIN_EMAIL,
            "adminPassword": self.folder.secret("admin_password").read_text(),
            "organizationId": self.bootstrapped["organizationId"],
            "connectionId": self.bootstrapped["connectionId"],
            "kafkaBootstrap": self.kafka.bootstrap,
            "databaseUrl": self.postgres.dsn,
            "processes": {part.name: part.pid for part in (*self.services, self.kafka, self.postgres)},
            "healthUrls": {service.name: f"{service.health}/health/ready" for service in self.services},
            "metricsUrls": {service.name: f"{service.metrics}/metrics" for service in self.services},
            "logs": str(self.folder.logs),
        }


def print_next_steps(stack: Stack, seconds: float) -> None:
    here, folder = Path.cwd(), stack.folder.path
    folder = folder.relative_to(here) if folder.is_relative_to(here) else folder
    scim = stack.gateway_url + SCIM_PATH
    user = (
        '{"schemas":["urn:ietf:params:scim:schemas:core:2.0:User"],"userName":"ada@example.com",'
        '"name":{"givenName":"Ada","familyName":"Lovelace"},"emails":[{"value":"ada@example.com","primary":true}],'
        '"active":true}'
    )
    write(f"""
Everything runs after {seconds:.0f} s.

  SCIM     {scim}   (token in {folder}/secrets/scim_token)
  admin    {stack.admin_url}   ({ADMIN_EMAIL}, password in {folder}/secrets/admin_password)
  logs     {folder}/logs
  all of it for programs: {folder}/stack.json

Provision a user, then list:

  curl -sS {scim}/Users -H "Authorization: Bearer $(cat {folder}/secrets/scim_token)" \\
    -H 'Content-Type: application/scim+json' \\
    -d '{user}'

  curl -sS {scim}/Users -H "Authorization: Bearer $(cat {folder}/secrets/scim_token)"

Ctrl-C stops everything and keeps the data; `make clean-run` deletes them.

""")


async def together(*works: Coroutine[Any, Any, None]) -> None:
    """Await all; the first failure cancels the others and is raised as it is."""
    try:
        async with asyncio.TaskGroup() as tasks:
            for work in works:
                tasks.create_task(work)
    except ExceptionGroup as group:
        raise group.exceptions[0] from None


def check_disk(folders: Sequence[Path]) -> None:
    for folder in folders:
        free = shutil.disk_usage(folder).free
        if free < NEEDED_BYTES:
            raise StartError(f"only {free / 1e6:.0f} MB are free for {folder}: 1 GB is needed")


async def check_ports(settings: Settings) -> None:
    """Refuse ports that somebody uses, or that are given twice."""
    ports = settings.ports
    if len(set(ports.values())) < len(ports):
        raise StartError(f"two of {', '.join(ports)} are the same port: {', '.join(map(str, ports.values()))}")
    deadline = time.monotonic() + PORTS_DEADLINE
    while taken := [f"{name} {port}" for name, port in ports.items() if not is_free(port)]:
        if time.monotonic() > deadline:
            raise StartError(
                f"in use: {', '.join(taken)}; stop what listens there, or choose another: "
                f"`{taken[0].split()[0]}={free_port()} make run`"
            )
        await asyncio.sleep(0.2)
