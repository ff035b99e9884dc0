"""The stack under test: real servers, two gateways, two provisioners, and a proxy on every path between them."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import asyncpg

from chaos.disk import Disk
from chaos.proxy import Proxy
from devstack.errors import StartError
from devstack.kafka import Kafka
from devstack.part import Part
from devstack.ports import HOST, is_free
from devstack.postgres import Postgres
from devstack.run_folder import RunFolder
from devstack.service import Service, run_once
from devstack.supervisor import back_off

GATEWAYS = ("gateway-1", "gateway-2")
PROVISIONERS = ("provisioner-1", "provisioner-2")
SERVERS = ("kafka", "postgres")
ROLES = {"gateway": "scim_gateway", "provisioner": "scim_provisioner"}
# Seconds each way between a provisioner and Postgres: most faults then find a batch between its steps.
DISTANCE = 0.015
ORGANIZATIONS = 4  # on different partitions, most probably, so that both provisioners have work
SCIM_PATH = "/api/auth/scim/v2"
PORTS = 60  # of one stack
FIRST_PORT, LAST_PORT = 32000, 32180  # below the ports that the kernel gives to clients

# Who moves an offset, and under which epoch: written by the database itself, in the transaction that moves it.
WATCH = """
    CREATE SCHEMA chaos;
    CREATE TABLE chaos.moves (
        number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, topic text, partition int, old_offset bigint,
        new_offset bigint, old_epoch bigint, new_epoch bigint, who text, at timestamptz DEFAULT clock_timestamp());
    CREATE FUNCTION chaos.note_move() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
        BEGIN
            INSERT INTO chaos.moves (topic, partition, old_offset, new_offset, old_epoch, new_epoch, who)
            VALUES (NEW.topic, NEW.partition, OLD.next_offset, NEW.next_offset, OLD.epoch, NEW.epoch,
                    current_setting('chaos.who', true));
            RETURN NULL;
        END $$;
    CREATE TRIGGER chaos_note_move AFTER INSERT OR UPDATE ON partition_offsets
        FOR EACH ROW EXECUTE FUNCTION chaos.note_move();
"""


@dataclass(frozen=True, slots=True)
class Tenant:
    """An organization with one connection, and that connection's token."""

    organization_id: str
    connection_id: str
    token: str


class Planted(Service):
    """A provisioner with a planted mistake (see chaos.planted)."""

    bug = ""

    def command(self) -> Sequence[str]:
        return [sys.executable, "-m", "chaos.planted", self.bug]


class Stack:
    """Everything that runs; `parts` by name, `proxies` by the names of both ends."""

    def __init__(self, folder: Path, *, has_disks: bool, bug: str | None = None) -> None:
        self.run_folder = RunFolder(folder)
        self.run_folder.make()
        self.disks = {name: Disk(folder / f"disk-{name}") for name in SERVERS} if has_disks else {}
        ports = iter(free_ports())
        self.urls = {name: f"http://{HOST}:{next(ports)}" for name in GATEWAYS}
        self._bug = bug
        self._ports = ports
        self._tasks: list[asyncio.Task[None]] = []
        kafka_ports = {service: (next(ports), next(ports)) for service in (*GATEWAYS, *PROVISIONERS)}
        self.kafka = Kafka(
            self._data("kafka"),
            port=next(ports),
            log=self.run_folder.log("kafka"),
            proxied=dict(kafka_ports.values()),
        )
        self.postgres = Postgres(self._data("postgres"), port=next(ports), log=self.run_folder.log("postgres"))
        self.proxies: dict[tuple[str, str], Proxy] = {}
        for service, (listens, seen) in kafka_ports.items():
            self.proxies[service, "kafka"] = Proxy(f"{service} - kafka", seen, listens)
            distance = DISTANCE if service in PROVISIONERS else 0.0
            self.proxies[service, "postgres"] = Proxy(
                f"{service} - postgres", next(ports), self.postgres.port, distance
            )
        self.parts: dict[str, Part] = {"kafka": self.kafka, "postgres": self.postgres}
        self.tenants: list[Tenant] = []

    def _data(self, name: str) -> Path:
        folder = self.run_folder.path
        return (folder / f"disk-{name}" / "data") if self.disks else folder / name

    def services(self) -> list[Service]:
        return [part for part in self.parts.values() if isinstance(part, Service)]

    async def start(self) -> None:
        """Servers, schema, organizations, services; each part is started again when it ends."""
        await asyncio.gather(self.kafka.start(), self.postgres.start())
        await self._bootstrap()
        self.parts |= {service.name: service for service in self._make_services()}
        await asyncio.gather(*(service.start() for service in self.services()))
        self._tasks = [asyncio.create_task(keep_running(part)) for part in self.parts.values()]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        # What was frozen must go on to end.
        for part in self.parts.values():
            signal_family(part, signal.SIGCONT)
        await asyncio.gather(*(service.kill() for service in self.services()))
        await asyncio.gather(self.kafka.kill(), self.postgres.stop())

    async def is_whole(self) -> bool:
        """Whether every process runs and every service says that it is ready."""
        if not all(part.is_running for part in self.parts.values()):
            return False
        return all(await asyncio.gather(*(service.is_ready() for service in self.services())))

    async def _bootstrap(self) -> None:
        secret, log = self.run_folder.secret, self.run_folder.log("setup")
        owner = {
            "DATABASE_URL": self.postgres.dsn,
            "KAFKA_BOOTSTRAP": self.kafka.bootstrap,
            "TOKEN_PEPPER_FILE": str(secret("token_pepper")),
            **{f"{name}_DB_PASSWORD": self._password(name) for name in ("GATEWAY", "PROVISIONER", "ADMIN")},
        }
        operate = partial(run_once, "directory-sync", variables=owner, log=log)
        await operate("migrate")
        await operate("topics")
        bootstrap = partial(
            operate,
            *("bootstrap", "--json", "--password-file", str(secret("admin_password")), "--provider-id", "okta"),
        )
        made = await asyncio.gather(
            *(
                bootstrap("--organization", f"Organization {number}", "--email", f"admin-{number}@example.com")
                for number in range(ORGANIZATIONS)
            )
        )
        for each in map(json.loads, made):
            self.tenants.append(Tenant(each["organizationId"], each["connectionId"], each["scimToken"]))
        db = await asyncpg.connect(self.postgres.dsn)
        await db.execute(WATCH)
        await db.close()

    def _password(self, role: str) -> str:
        return self.run_folder.secret(f"{role.lower()}_db_password").read_text()

    def _make_services(self) -> list[Service]:
        gateways = [
            self._service(name, "scim-gateway", self.urls[name], GATEWAY_PORT=self.urls[name].rpartition(":")[2])
            for name in GATEWAYS
        ]
        provisioners = []
        for name in PROVISIONERS:
            port = str(next(self._ports))
            provisioners.append(
                self._service(name, "provisioner", f"http://{HOST}:{port}", HEALTH_HOST=HOST, HEALTH_PORT=port)
            )
        return [*gateways, *provisioners]

    def _service(self, name: str, program: str, url: str, **variables: str) -> Service:
        kind = name.partition("-")[0]
        database = self.proxies[name, "postgres"].port
        # The role's DSN leads through the proxy, and tells the database who it is.
        dsn = self.postgres.dsn_of(ROLES[kind], self._password(kind.upper()))
        metrics = f"http://{HOST}:{next(self._ports)}"
        environment = {
            f"{kind.upper()}_HOST": HOST,
            f"{kind.upper()}_DATABASE_URL": dsn.replace(f":{self.postgres.port}/", f":{database}/")
            + f"?chaos.who={name}",
            "METRICS_HOST": HOST,
            "METRICS_PORT": metrics.rpartition(":")[2],
            "KAFKA_BOOTSTRAP": f"{HOST}:{self.proxies[name, 'kafka'].port}",
            "TOKEN_PEPPER_FILE": str(self.run_folder.secret("token_pepper")),
            "PUBLIC_URL": url,
            "LOG_FORMAT": "json",
            **variables,
        }
        planted = self._bug is not None and kind == "provisioner"
        service = (Planted if planted else Service)(
            name, program, environment, health=url, metrics=metrics, log=self.run_folder.log(name)
        )
        if isinstance(service, Planted):
            service.bug = self._bug or ""
        return service


@asynccontextmanager
async def running(folder: Path, *, has_disks: bool, bug: str | None = None) -> AsyncIterator[Stack]:
    """A whole stack within the block; everything in it is killed at its end."""
    stack = Stack(folder, has_disks=has_disks, bug=bug)
    async with AsyncExitStack() as proxies:
        for proxy in stack.proxies.values():
            await proxies.enter_async_context(proxy)
        try:
            await stack.start()
            yield stack
        finally:
            await stack.stop()


async def keep_running(part: Part) -> None:
    """Start the part again whenever it ends, until cancelled; without a word, unlike `make run`."""
    quick_ends = 0
    loop = asyncio.get_running_loop()
    while True:
        since = loop.time()
        await part.wait()
        quick_ends = quick_ends + 1 if loop.time() - since < 5.0 else 0
        await asyncio.sleep(min(back_off(quick_ends), 2.0))
        with suppress(OSError, StartError):
            await part.prepare()
            await part.spawn()


def signal_family(part: Part, number: signal.Signals) -> None:
    """Send a signal to a part and its children (Postgres has many)."""
    family = [part.pid]
    with suppress(OSError):
        family += map(int, Path(f"/proc/{part.pid}/task/{part.pid}/children").read_text().split())
    for pid in family:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def free_ports() -> range:
    """Ports for one stack that nobody listens on."""
    for first in range(FIRST_PORT, LAST_PORT, PORTS):
        ports = range(first, first + PORTS)
        if all(map(is_free, ports)):
            return ports
    raise OSError(f"no {PORTS} free ports from {FIRST_PORT} on: is a chaos run under way?")
