"""Print who changed, and how: python docs/examples/follow_events.py HOST:PORT [GROUP]. Needs aiokafka."""

import asyncio
import json
import sys

from aiokafka import AIOKafkaConsumer


async def follow(bootstrap: str, group: str) -> None:
    consumer = AIOKafkaConsumer(
        "directory.events",
        bootstrap_servers=bootstrap,
        group_id=group,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
    )
    latest: dict[str, str] = {}  # by subject; a service keeps it beside what it made of the events
    async with consumer:
        async for record in consumer:
            event = json.loads(record.value or b"")
            if event["version"] > 1:
                sys.exit("events of a newer version: update this program first")
            subject, sequence, kind = event["subject"], event["sequence"], event["type"]
            if sequence > latest.get(subject, ""):  # otherwise a repetition: events come at least once
                payload = json.dumps(event["data"]["events"][kind])
                print(event["time"], event["subjecttype"], subject, kind.rpartition("prov:")[2], payload, flush=True)
                latest[subject] = sequence
            await consumer.commit()  # after the work is done


asyncio.run(follow(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "follow-events"))
