"""Creating the Kafka topics, and comparing those that exist with what the services expect."""

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import NoError, TopicAlreadyExistsError, for_code

from contracts import Topic
from servicekit.kafka import Brokers, address

REQUEST_TIMEOUT = 15_000  # milliseconds


class TopicMismatch(Exception):
    """A topic exists with another number of partitions: its keys are already placed, so nothing here can mend it."""


class TopicRefused(Exception):
    """The broker did not create a topic."""


@dataclass(frozen=True, slots=True)
class Report:
    """What `create_topics` found and did; `deviations` are settings that an operator has changed."""

    created: list[str]
    existing: list[str]
    deviations: list[str]


async def create_topics(brokers: Brokers, topics: Iterable[Topic], replication_factor: int) -> Report:
    """Create what is missing, with its settings; those that exist keep theirs.

    Raises TopicMismatch, TopicRefused, or the driver's KafkaError.
    """
    wanted = {topic.name: topic for topic in topics}
    async with open_admin(brokers) as admin:
        partitions = await _partitions(admin)
        missing = [topic for name, topic in wanted.items() if name not in partitions]
        await _create(admin, missing, replication_factor)
        existing = [topic for name, topic in wanted.items() if name in partitions]
        _check_partitions(existing, partitions)
        deviations = await _deviations(admin, existing)
    return Report([topic.name for topic in missing], [topic.name for topic in existing], deviations)


@asynccontextmanager
async def open_admin(brokers: Brokers) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(**address(brokers), request_timeout_ms=REQUEST_TIMEOUT)
    await admin.start()
    try:
        yield admin
    finally:
        await admin.close()


async def _partitions(admin: AIOKafkaAdminClient) -> dict[str, int]:
    """The number of partitions of each topic of the cluster; asking for one by name could create it."""
    return {topic["topic"]: len(topic["partitions"]) for topic in await admin.describe_topics()}


async def _create(admin: AIOKafkaAdminClient, topics: Iterable[Topic], replication_factor: int) -> None:
    new = [NewTopic(t.name, t.partitions, replication_factor, topic_configs=t.settings()) for t in topics]
    if not new:
        return
    response: Any = await admin.create_topics(new)  # the classes of the answers are made at run time
    for name, code, message in response.topic_errors:
        error = for_code(code)
        # Another job may have created it since we asked.
        if error not in (NoError, TopicAlreadyExistsError):
            raise TopicRefused(f"{name}: {message or error.__name__}")


def _check_partitions(topics: Iterable[Topic], partitions: Mapping[str, int]) -> None:
    wrong = [
        f"{topic.name} has {partitions[topic.name]} partitions, {topic.partitions} are needed"
        for topic in topics
        if partitions[topic.name] != topic.partitions
    ]
    if wrong:
        raise TopicMismatch("; ".join(wrong))


async def _deviations(admin: AIOKafkaAdminClient, topics: Iterable[Topic]) -> list[str]:
    found = []
    for topic in topics:
        actual = await _settings(admin, topic)
        for key, value in topic.settings().items():
            if actual.get(key) != value:
                found.append(f"{topic.name}: {key} is {actual.get(key)}, we would set {value}")
    return found


async def _settings(admin: AIOKafkaAdminClient, topic: Topic) -> dict[str, Any]:
    resource = ConfigResource(ConfigResourceType.TOPIC, topic.name, dict.fromkeys(topic.settings()))
    response: Any = (await admin.describe_configs([resource]))[0]
    [(_, _, _, _, entries)] = response.resources
    return {entry[0]: entry[1] for entry in entries}
