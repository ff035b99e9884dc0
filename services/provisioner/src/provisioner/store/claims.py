"""The right to apply a partition, and how far it was applied."""

from dataclasses import dataclass, replace

import asyncpg

type Db = asyncpg.Connection | asyncpg.pool.PoolConnectionProxy


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to apply one partition from `next_offset` on, for as long as nobody raises the epoch."""

    topic: str
    partition: int
    next_offset: int
    epoch: int


CLAIM = """
    INSERT INTO partition_offsets (topic, partition, next_offset, epoch, owner)
    VALUES ($1, $2, $3, 1, $4)
    ON CONFLICT (topic, partition) DO UPDATE SET epoch = partition_offsets.epoch + 1, owner = excluded.owner
    RETURNING next_offset, epoch
"""

CURRENT = "SELECT next_offset, epoch FROM partition_offsets WHERE topic = $1 AND partition = $2"


async def claim(db: Db, topic: str, partition: int, first_offset: int, owner: str) -> Claim:
    """Take the partition over: every earlier claim is void. A partition never seen starts at `first_offset`."""
    row = await db.fetchrow(CLAIM, topic, partition, first_offset, owner)
    assert row is not None
    return Claim(topic, partition, row["next_offset"], row["epoch"])


async def current(db: Db, held: Claim) -> Claim | None:
    """The partition's offset and epoch as committed."""
    row = await db.fetchrow(CURRENT, held.topic, held.partition)
    return replace(held, next_offset=row["next_offset"], epoch=row["epoch"]) if row else None
