"""Kafka and Postgres as production has them: TLS, names and passwords, and for each name what it may do."""

import asyncio
import ssl
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import yaml
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.protocol.admin import CreateAclsRequest

from devstack.errors import StartError
from devstack.kafka import Kafka, java, new_cluster_id
from devstack.part import running
from devstack.ports import HOST, free_port
from servicekit.kafka import KafkaSettings

USERS = Path(__file__).parents[2] / "k8s" / "components" / "strimzi" / "users.yaml"
# Kafka's numbers (org.apache.kafka.common.acl.AclOperation, ...).
OPERATIONS = {"Read": 3, "Write": 4, "Create": 5, "Describe": 8, "DescribeConfigs": 10}
RESOURCES = {"topic": 2, "group": 3}
PATTERNS = {"literal": 3, "prefix": 4}
ALLOW = 3


def kafka_users() -> list[dict[str, Any]]:
    """The users of the Kubernetes manifests: the rules that are tried here are those that are deployed."""
    return list(yaml.safe_load_all(USERS.read_text()))


def make_certificates(folder: Path) -> None:
    """An authority (`ca.crt`), a certificate of 127.0.0.1 by it (`server.crt`, `server.key`), and another authority."""

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], check=True, capture_output=True, cwd=folder)

    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    for name in ("ca", "other"):
        usage = ("-addext", "keyUsage=critical,keyCertSign,cRLSign")
        openssl("req", "-x509", *key, "-subj", f"/CN={name}", *usage, "-keyout", f"{name}.key", "-out", f"{name}.crt")
    openssl("req", *key, "-subj", "/CN=server", "-keyout", "server.key", "-out", "server.csr")
    (folder / "server.ext").write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
    signing = ("-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "server.ext")
    openssl("x509", "-req", "-in", "server.csr", *signing, "-out", "server.crt")


class SecuredKafka(Kafka):
    """A second listener with TLS and SCRAM; whoever is not named in an ACL may do nothing there.

    The first one is for us: it gives the anonymous everything, so that the tests can prepare and look.
    """

    def __init__(self, data_dir: Path, *, certificates: Path, passwords: Mapping[str, str]) -> None:
        super().__init__(data_dir)
        self.secured_port = free_port()
        self._certificates = certificates
        self._passwords = passwords

    def settings_of(self, user: str, **others: Any) -> KafkaSettings:
        """What a service has in its environment."""
        given = {
            "kafka_bootstrap": f"{HOST}:{self.secured_port}",
            "kafka_security_protocol": "SASL_SSL",
            "kafka_ca": (self._certificates / "ca.crt").read_text(),
            "kafka_username": user,
            "kafka_password": self._passwords.get(user, "wrong"),
        }
        return KafkaSettings(**{**given, **others})

    def _settings(self, data: Path) -> str:
        keystore = self._certificates / "keystore.pem"
        keystore.write_text("".join((self._certificates / name).read_text() for name in ("server.key", "server.crt")))
        plain = super()._settings(data)
        before = dict(line.split("=", 1) for line in plain.splitlines())
        own = {
            "listeners": f"{before['listeners']},SECURED://{HOST}:{self.secured_port}",
            "advertised.listeners": f"{before['advertised.listeners']},SECURED://{HOST}:{self.secured_port}",
            "listener.security.protocol.map": f"{before['listener.security.protocol.map']},SECURED:SASL_SSL",
            "listener.name.secured.sasl.enabled.mechanisms": "SCRAM-SHA-512",
            "listener.name.secured.scram-sha-512.sasl.jaas.config": (
                "org.apache.kafka.common.security.scram.ScramLoginModule required;"
            ),
            "listener.name.secured.ssl.keystore.type": "PEM",
            "listener.name.secured.ssl.keystore.location": keystore,
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": "User:ANONYMOUS",
        }
        return plain + "".join(f"{name}={value}\n" for name, value in own.items())

    async def _format(self) -> None:
        self._properties.write_text(self._settings(self._folder / "data"))
        users = [f"SCRAM-SHA-512=[name={user},password={password}]" for user, password in self._passwords.items()]
        scram = [part for user in users for part in ("--add-scram", user)]
        tool = java("kafka.tools.StorageTool", "format", "-t", new_cluster_id(), "-c", str(self._properties), *scram)
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            async with running(tool, stdout=log) as formatting:
                if await formatting.wait():
                    raise StartError(f"cannot make Kafka's data folder: {self.last_words()}")

    async def allow(self, users: Sequence[Mapping[str, Any]]) -> None:
        """Give the users of the manifests what these say."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap)
        await admin.start()
        try:
            for user in users:
                for acl in user["spec"]["authorization"]["acls"]:
                    for operation in acl["operations"]:
                        await _allow(admin, user["metadata"]["name"], acl["resource"], operation)
        finally:
            await admin.close()


async def _allow(admin: AIOKafkaAdminClient, user: str, resource: Mapping[str, str], operation: str) -> None:
    request = CreateAclsRequest(
        RESOURCES[resource["type"]],
        resource["name"],
        PATTERNS[resource.get("patternType", "literal")],
        f"User:{user}",
        "*",
        OPERATIONS[operation],
        ALLOW,
    )
    response: Any = await admin._send_request(request)  # aiokafka has the request, and no method for it
    assert [code for code, _ in response.creation_responses] == [0], response


class TlsFront:
    """TLS in front of a Postgres that was built without it: what is not encrypted does not get through."""

    REQUEST = bytes.fromhex("0000000804d2162f")  # SSLRequest

    def __init__(self, port: int, certificates: Path) -> None:
        self.port = free_port()
        self._behind = port
        self._tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._tls.load_cert_chain(certificates / "server.crt", certificates / "server.key")

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, HOST, self.port)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            if await reader.readexactly(len(self.REQUEST)) == self.REQUEST:
                writer.write(b"S")
                await writer.start_tls(self._tls)
                behind_reader, behind_writer = await asyncio.open_connection(HOST, self._behind)
                await asyncio.gather(_copy(reader, behind_writer), _copy(behind_reader, writer))
        writer.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()
