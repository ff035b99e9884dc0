"""Kafka clients of a service, with the settings that its promises need."""

import re
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Annotated, Any, Literal, Self

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.partitioner import DefaultPartitioner, murmur2
from pydantic import AfterValidator, SecretStr, model_validator
from pydantic_core import PydanticCustomError

from servicekit.settings import ServiceSettings

REQUEST_TIMEOUT = 10_000  # milliseconds
MAX_RECORD_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Cluster:
    """Where the brokers are, and what proves to each other who we and they are: arguments of aiokafka's clients."""

    bootstrap: str
    security: Mapping[str, Any] = field(default_factory=dict, repr=False)


type Brokers = str | Cluster
"""A plain `host:port` (or several with commas) is a cluster without TLS and without names."""


_ADDRESS = re.compile(r"[^\s,:]+:\d{1,5}(,[^\s,:]+:\d{1,5})*")


def _check_address(bootstrap: str) -> str:
    if not _ADDRESS.fullmatch(bootstrap):
        raise PydanticCustomError("brokers", "must be host:port, or several of them separated by commas")
    return bootstrap


class KafkaSettings(ServiceSettings):
    """KAFKA_BOOTSTRAP and how to connect there: with TLS (KAFKA_CA is the authority's certificate in PEM, otherwise
    those of the system are believed), with a client certificate (the files at the two paths), with a name and a
    password."""

    kafka_bootstrap: Annotated[str, AfterValidator(_check_address)]
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    kafka_ca: str = ""
    kafka_certificate_path: str = ""
    kafka_key_path: str = ""
    kafka_sasl_mechanism: Literal["SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN"] = "SCRAM-SHA-512"
    kafka_username: str = ""
    kafka_password: SecretStr = SecretStr("")

    @model_validator(mode="after")
    def _check_kafka(self) -> Self:
        has_name = bool(self.kafka_username and self.kafka_password.get_secret_value())
        if self.kafka_security_protocol.startswith("SASL") and not has_name:
            raise PydanticCustomError("sasl", "KAFKA_USERNAME and KAFKA_PASSWORD are needed with SASL")
        if self.kafka_security_protocol.endswith("SSL"):
            try:
                self._tls()
            except OSError as error:
                names = "KAFKA_CA, KAFKA_CERTIFICATE_PATH or KAFKA_KEY_PATH"
                raise PydanticCustomError("tls", "{names}: {error}", {"names": names, "error": str(error)}) from error
        return self

    def kafka(self) -> Cluster:
        """The cluster that these settings name."""
        security: dict[str, Any] = {"security_protocol": self.kafka_security_protocol}
        if self.kafka_security_protocol.endswith("SSL"):
            security["ssl_context"] = self._tls()
        if self.kafka_security_protocol.startswith("SASL"):
            security["sasl_mechanism"] = self.kafka_sasl_mechanism
            security["sasl_plain_username"] = self.kafka_username
            security["sasl_plain_password"] = self.kafka_password.get_secret_value()
        return Cluster(self.kafka_bootstrap, security)

    def _tls(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cadata=self.kafka_ca or None)
        if self.kafka_certificate_path:
            context.load_cert_chain(self.kafka_certificate_path, self.kafka_key_path or None)
        return context


def address(brokers: Brokers) -> dict[str, Any]:
    """The arguments of any of aiokafka's clients that say whom to connect to, and how."""
    cluster = Cluster(brokers) if isinstance(brokers, str) else brokers
    return {"bootstrap_servers": cluster.bootstrap, **cluster.security}


@asynccontextmanager
async def open_producer(brokers: Brokers, *, client_id: str) -> AsyncIterator[AIOKafkaProducer]:
    """An idempotent producer with acks=all and no lingering; raises KafkaConnectionError when no broker answers."""
    producer = AIOKafkaProducer(
        **address(brokers),
        client_id=client_id,
        acks="all",
        enable_idempotence=True,
        linger_ms=0,
        max_batch_size=256 * 1024,
        max_request_size=MAX_RECORD_BYTES,
        request_timeout_ms=REQUEST_TIMEOUT,
        metadata_max_age_ms=60_000,
        partitioner=_Partitioner(),
    )
    await producer.start()
    try:
        yield producer
    finally:
        await producer.stop()


def new_consumer(brokers: Brokers, *, client_id: str, group_id: str | None = None) -> AIOKafkaConsumer:
    """A consumer that commits nothing by itself and never resets a position; call start() and stop()."""
    return AIOKafkaConsumer(
        **address(brokers),
        client_id=client_id,
        group_id=group_id,
        enable_auto_commit=False,
        auto_offset_reset="none",
        fetch_max_wait_ms=500,
        max_partition_fetch_bytes=MAX_RECORD_BYTES + 1024 * 1024,
        session_timeout_ms=6_000,
        heartbeat_interval_ms=1_500,
        request_timeout_ms=REQUEST_TIMEOUT,
        metadata_max_age_ms=60_000,
    )


@lru_cache(4096)
def partition_of(key: bytes, partitions: int) -> int:
    """Where Kafka's default partitioner puts a key."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions


class _Partitioner(DefaultPartitioner):
    """The same, which remembers: hashing an organization's id takes longer than all else that sending does."""

    @classmethod
    def __call__(cls, key: bytes | None, all_partitions: Sequence[int], available: Sequence[int]) -> int:
        if key is None:
            return super().__call__(key, all_partitions, available)
        return all_partitions[partition_of(key, len(all_partitions))]
