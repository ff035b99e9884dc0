"""Threat T58 on a real broker and a real server: each principal does its work over TLS, and is refused all else."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import httpx
import pytest
import pytest_asyncio
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    KafkaConnectionError,
    KafkaError,
    TopicAuthorizationFailedError,
    for_code,
)
from pydantic import ValidationError

import directory
from admin_api.topics import create_topics
from contracts import TOPICS
from devstack.ports import HOST, free_port
from secured import SecuredKafka, TlsFront, kafka_users, make_certificates
from servicekit.kafka import KafkaSettings, address, new_consumer, open_producer
from servicekit.postgres import open_pool

PASSWORDS = {name: f"{name}-password" for name in ("scim-gateway", "provisioner", "admin-api", "topics", "keda-kafka")}
REFUSED = (TopicAuthorizationFailedError, GroupAuthorizationFailedError, ClusterAuthorizationFailedError)
module_fixture = pytest_asyncio.fixture(scope="module", loop_scope="session")

# What the work of each needs; everything else is refused.
MAY_WRITE = {
    "scim-gateway": {"scim.changes", "scim.refusals"},
    "provisioner": {"scim.outcomes", "scim.changes.dlq", "directory.events"},
    "admin-api": {"scim.changes"},
    "topics": set(),
    "keda-kafka": set(),
}
MAY_READ = {
    "scim-gateway": {"scim.outcomes"},
    "provisioner": {"scim.changes", "scim.refusals"},
    "admin-api": set(),
    "topics": set(),
    "keda-kafka": set(),
}
MAY_JOIN = {"provisioner"}
GROUPS = {"provisioner": "scim.changes", "provisioner-refusals": "scim.refusals"}
NAMES = sorted({topic.name for topic in TOPICS} | {"somebody.elses"})


@module_fixture
async def certificates(devstack_folder: Path) -> AsyncIterator[Path]:
    folder = devstack_folder / "certificates"
    folder.mkdir()
    await asyncio.to_thread(make_certificates, folder)
    yield folder


@module_fixture
async def broker(devstack_folder: Path, certificates: Path) -> AsyncIterator[SecuredKafka]:
    kafka = SecuredKafka(devstack_folder / "secured-kafka", certificates=certificates, passwords=PASSWORDS)
    async with kafka:
        await kafka.allow(kafka_users())
        # As the job does it: with its own name.
        await create_topics(kafka.settings_of("topics").kafka(), TOPICS, 1)
        admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap)
        await admin.start()
        await admin.create_topics([NewTopic(name, 1, 1) for name in NAMES])  # those that are there stay
        await admin.close()
        async with open_producer(kafka.bootstrap, client_id="test") as producer:
            for name in NAMES:
                await producer.send_and_wait(name, b"something to read", partition=0)
        yield kafka


@pytest.mark.parametrize("user", PASSWORDS)
async def test_t58_a_user_writes_where_its_work_is_and_nowhere_else(broker: SecuredKafka, user: str) -> None:
    cluster = broker.settings_of(user).kafka()

    async def write(name: str) -> None:
        async with open_producer(cluster, client_id=user) as producer:
            await producer.send_and_wait(name, b"x")

    assert await allowed(write) == MAY_WRITE[user]


@pytest.mark.parametrize("user", PASSWORDS)
async def test_t58_a_user_reads_what_its_work_is_and_nothing_else(broker: SecuredKafka, user: str) -> None:
    cluster = broker.settings_of(user).kafka()

    async def read(name: str) -> None:
        consumer = new_consumer(cluster, client_id=user)
        await consumer.start()
        try:
            # Without the right to describe a topic a consumer of aiokafka waits for ever; the producer's way tells.
            await consumer._client._wait_on_metadata(name)
            consumer.assign([TopicPartition(name, 0)])
            consumer.seek(TopicPartition(name, 0), 0)
            while not await consumer.getmany(timeout_ms=300):
                pass
        finally:
            await consumer.stop()

    assert await allowed(read) == MAY_READ[user]


async def allowed(attempt: Callable[[str], Awaitable[None]]) -> set[str]:
    """The topics with which `attempt` succeeds; with all others it has to be refused, not to fail otherwise."""

    async def succeeds(name: str) -> bool:
        try:
            await asyncio.wait_for(attempt(name), 20)
        except REFUSED:
            return False
        return True

    results = await asyncio.gather(*(succeeds(name) for name in NAMES))
    return {name for name, result in zip(NAMES, results, strict=True) if result}


@pytest.mark.parametrize("user", PASSWORDS)
@pytest.mark.parametrize(("group", "topic"), GROUPS.items())
async def test_t58_only_the_provisioner_joins_its_groups(
    broker: SecuredKafka, user: str, group: str, topic: str
) -> None:
    consumer = new_consumer(broker.settings_of(user).kafka(), client_id=user, group_id=group)
    consumer.subscribe([topic])
    try:
        await asyncio.wait_for(consumer.start(), 20)
    except REFUSED:
        assert user not in MAY_JOIN
    else:
        assert user in MAY_JOIN
    finally:
        await consumer.stop()


@pytest.mark.parametrize("user", PASSWORDS)
@pytest.mark.parametrize("name", ["somebody.elses.new", "scim.new"])
async def test_t58_only_the_job_makes_topics_and_only_ours(broker: SecuredKafka, user: str, name: str) -> None:
    admin = AIOKafkaAdminClient(**address(broker.settings_of(user).kafka()))
    await admin.start()
    try:
        response: Any = await admin.create_topics([NewTopic(f"{name}.{user}", 1, 1)])
    finally:
        await admin.close()

    refused = for_code(response.topic_errors[0][1]) is TopicAuthorizationFailedError
    assert refused == (user != "topics" or not name.startswith("scim."))


async def test_t58_keda_sees_the_lag(broker: SecuredKafka) -> None:
    admin = AIOKafkaAdminClient(**address(broker.settings_of("keda-kafka").kafka()))
    await admin.start()
    try:
        assert isinstance(await admin.list_consumer_group_offsets("provisioner"), dict)
        with pytest.raises(GroupAuthorizationFailedError):
            await admin.list_consumer_group_offsets("another")
    finally:
        await admin.close()


@pytest.mark.parametrize(
    "wrong",
    [
        {"kafka_username": "nobody"},
        {"kafka_password": "wrong"},
        {"kafka_security_protocol": "SASL_PLAINTEXT"},
        {"kafka_security_protocol": "PLAINTEXT"},
        {"kafka_security_protocol": "SSL"},
        {"kafka_ca": ""},
    ],
    ids=str,
)
async def test_t58_nobody_else_gets_in(broker: SecuredKafka, wrong: dict[str, str]) -> None:
    cluster = broker.settings_of("scim-gateway", **wrong).kafka()
    consumer = AIOKafkaConsumer(**address(cluster), request_timeout_ms=3000)
    try:
        with pytest.raises((KafkaError, TimeoutError)):
            await asyncio.wait_for(consumer.start(), 5)
    finally:
        await consumer.stop()


async def test_a_broker_with_another_authority_is_not_believed(broker: SecuredKafka, certificates: Path) -> None:
    other = (certificates / "other.crt").read_text()
    consumer = AIOKafkaConsumer(**address(broker.settings_of("scim-gateway", kafka_ca=other).kafka()))
    try:
        with pytest.raises(KafkaConnectionError):
            await asyncio.wait_for(consumer.start(), 10)
    finally:
        await consumer.stop()


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"kafka_security_protocol": "SASL_SSL"}, "KAFKA_USERNAME and KAFKA_PASSWORD"),
        ({"kafka_security_protocol": "SASL_SSL", "kafka_username": "u"}, "KAFKA_USERNAME and KAFKA_PASSWORD"),
        ({"kafka_security_protocol": "SSL", "kafka_ca": "no certificate"}, "KAFKA_CA"),
        ({"kafka_security_protocol": "SSL", "kafka_certificate_path": "/nowhere"}, "KAFKA_CERTIFICATE_PATH"),
        ({"kafka_security_protocol": "TLS"}, "SASL_PLAINTEXT"),
    ],
)
def test_settings_that_cannot_work_are_named(given: dict[str, str], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        KafkaSettings(**{"kafka_bootstrap": "kafka:9092", **given})  # type: ignore[arg-type]


@module_fixture
async def front(postgres_module_database: str, certificates: Path) -> AsyncIterator[str]:
    """The owner's DSN of a database that is reached by TLS only."""
    await directory.set_role_passwords(postgres_module_database, dict.fromkeys(directory.Role, "password"))
    parts = urlsplit(postgres_module_database)
    async with TlsFront(parts.port or 5432, certificates) as front:
        yield parts._replace(netloc=f"{parts.username}:{parts.password}@{HOST}:{front.port}").geturl()


def verified(dsn: str, authority: Path, role: str | None = None) -> str:
    """The DSN for one who believes this authority only."""
    parts = urlsplit(dsn)
    netloc = f"{role}:password@{parts.hostname}:{parts.port}" if role else parts.netloc
    return parts._replace(netloc=netloc, query=f"sslmode=verify-full&sslrootcert={authority}").geturl()


async def test_postgres_is_spoken_to_with_tls(front: str, certificates: Path) -> None:
    authority = certificates / "ca.crt"

    async with open_pool(verified(front, authority, "scim_gateway"), service="test") as pool:
        assert await pool.fetchval("SELECT current_user") == "scim_gateway"
    await asyncio.to_thread(directory.migrate, verified(front, authority))
    with pytest.raises((OSError, asyncpg.PostgresError, asyncpg.InterfaceError)):
        await asyncpg.connect(f"{front}?sslmode=disable")


async def test_a_database_with_another_authority_is_not_believed(front: str, certificates: Path) -> None:
    async with open_pool(verified(front, certificates / "other.crt", "scim_gateway"), service="test") as pool:
        with pytest.raises((OSError, asyncpg.PostgresError)):
            await pool.fetchval("SELECT 1")


async def test_variables_of_postgres_ask_for_tls_too(
    front: str, certificates: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGSSLMODE", "verify-full")
    monkeypatch.setenv("PGSSLROOTCERT", str(certificates / "other.crt"))

    async with open_pool(front, service="test") as pool:
        with pytest.raises((OSError, asyncpg.PostgresError)):
            await pool.fetchval("SELECT 1")


async def test_t58_the_services_work_with_these_rights_and_no_others(
    broker: SecuredKafka, front: str, certificates: Path, tmp_path: Path
) -> None:
    pepper, port, admin_port, health_port = "p" * 43, free_port(), free_port(), free_port()
    authority = certificates / "ca.crt"

    def service(program: str, role: str, **more: str) -> Any:
        environment = {
            "KAFKA_BOOTSTRAP": f"{HOST}:{broker.secured_port}",
            "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
            "KAFKA_CA_FILE": str(authority),
            "KAFKA_USERNAME": program,
            "KAFKA_PASSWORD": PASSWORDS[program],
            f"{role.removeprefix('scim_').upper()}_DATABASE_URL": verified(front, authority, role),
            "TOKEN_PEPPER": pepper,
            **more,
        }
        return running(program, environment, tmp_path / f"{program}.log")

    async with (
        service("scim-gateway", "scim_gateway", GATEWAY_PORT=str(port)),
        service("provisioner", "scim_provisioner", HEALTH_PORT=str(health_port)),
        service("admin-api", "scim_admin", ADMIN_PORT=str(admin_port)),
        httpx.AsyncClient(trust_env=False, timeout=15) as http,
    ):
        token = await bootstrap(verified(front, authority), pepper, tmp_path)
        for each in (port, health_port, admin_port):
            await until_ready(http, f"http://{HOST}:{each}/health/ready")

        answer = await http.post(
            f"http://{HOST}:{port}/api/auth/scim/v2/Users",
            json={"schemas": ["urn:ietf:params:scim:schemas:core:2.0:User"], "userName": "ada@example.com"},
            headers={"authorization": f"Bearer {token}"},
        )

        assert answer.status_code == 201, answer.text


async def until_ready(http: httpx.AsyncClient, url: str) -> None:
    async with asyncio.timeout(60):
        while True:
            try:
                if (await http.get(url)).status_code == 200:
                    return
            except httpx.HTTPError:
                pass
            await asyncio.sleep(0.1)


async def bootstrap(dsn: str, pepper: str, folder: Path) -> str:
    (folder / "password").write_text("a long password")
    options = ("--organization", "Example", "--email", "admin@example.com", "--provider-id", "okta")
    process = await asyncio.create_subprocess_exec(
        *(script("directory-sync"), "bootstrap", "--json", *options, "--password-file", str(folder / "password")),
        env=os.environ | {"DATABASE_URL": dsn, "TOKEN_PEPPER": pepper},
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate()
    return json.loads(output)["scimToken"]


def script(name: str) -> str:
    return str(Path(sys.executable).with_name(name))


@asynccontextmanager
async def running(program: str, environment: dict[str, str], log: Path) -> AsyncIterator[None]:
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            script(program), env=os.environ | environment, stdout=output, stderr=output
        )
        try:
            yield
        except BaseException:
            print(log.read_text()[-3000:])
            raise
        finally:
            ended = process.returncode
            if ended is None:
                process.terminate()
                await process.wait()
        assert ended is None, f"{program} ended by itself with {ended}:\n{log.read_text()[-3000:]}"
