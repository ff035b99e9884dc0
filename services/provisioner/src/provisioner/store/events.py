"""The rows of `events` as `directory.events` needs them: what is not published yet, and how far it is."""

from collections.abc import Mapping, Sequence
from dataclasses import fields

from contracts.events import EventRow
from provisioner.chain import ChainedEvent
from provisioner.store.claims import Db

COLUMNS = [field.name for field in fields(EventRow)]

PUBLISHED = "SELECT published_event FROM partition_offsets WHERE topic = $1 AND partition = $2"

AFTER = f"""
    SELECT seq, {", ".join(COLUMNS)}, digest, hash FROM events WHERE chain = $1 AND seq > $2 ORDER BY seq LIMIT $3
"""

MARK = """
    UPDATE partition_offsets SET published_event = marked.seq
    FROM unnest($2::int[], $3::bigint[]) AS marked(partition, seq)
    WHERE partition_offsets.topic = $1 AND partition_offsets.partition = marked.partition
        AND partition_offsets.published_event < marked.seq
"""


async def published(db: Db, topic: str, partition: int) -> int:
    """The number of the last event of the partition's chain that is known to be published."""
    return await db.fetchval(PUBLISHED, topic, partition) or 0


async def after(db: Db, partition: int, seq: int, limit: int) -> list[ChainedEvent]:
    """The committed events behind number `seq`, in order; gaps do not occur in a chain."""
    rows = await db.fetch(AFTER, partition, seq, limit)
    return [
        ChainedEvent(row["seq"], EventRow(**{name: row[name] for name in COLUMNS}), row["digest"], row["hash"])
        for row in rows
    ]


async def mark(db: Db, topic: str, published: Mapping[int, int]) -> None:
    """Note how far the chains are published; never back."""
    partitions: Sequence[int] = sorted(published)
    await db.execute(MARK, topic, partitions, [published[partition] for partition in partitions])
