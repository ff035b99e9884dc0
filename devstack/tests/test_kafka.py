from pathlib import Path

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from devstack import Kafka


async def create_topic(bootstrap: str, name: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(name, 1, 1)])
    finally:
        await admin.close()


async def send(bootstrap: str, topic: str, value: bytes) -> None:
    async with AIOKafkaProducer(
        bootstrap_servers=bootstrap, enable_idempotence=True, max_request_size=16_000_000
    ) as producer:
        await producer.send_and_wait(topic, value)


async def receive(bootstrap: str, topic: str, count: int) -> list[bytes]:
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest")
    async with consumer:
        consumer.assign([TopicPartition(topic, 0)])
        return [(await consumer.getone()).value or b"" for _ in range(count)]


async def test_a_record_of_15_mb_goes_through_the_broker(kafka_bootstrap: str):
    record = b"x" * 15_000_000
    await create_topic(kafka_bootstrap, "large")

    await send(kafka_bootstrap, "large", record)

    assert await receive(kafka_bootstrap, "large", 1) == [record]


async def test_a_killed_broker_starts_again_with_its_port_and_records(folder: Path):
    async with Kafka(folder / "kafka") as broker:
        await create_topic(broker.bootstrap, "kept")
        await send(broker.bootstrap, "kept", b"before")
        killed = broker.pid

        await broker.kill()
        await broker.start()
        await send(broker.bootstrap, "kept", b"after")

        assert broker.pid != killed
        assert await receive(broker.bootstrap, "kept", 2) == [b"before", b"after"]
