"""The right to apply a partition, and how far it was applied."""

from dataclasses import dataclass, replace

import asyncpg

type Db = asyncpg.Connection | asyncpg.pool.PoolConnectionProxy


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to apply one partition from `next_offset` on, for as long as nobody raises the epoch.

    `times`: how often the partition was claimed at the offset where it stood, this claim included.
    """

    topic: str
    partition: int
    next_offset: int
    epoch: int
    times: int = 1


# A mark that still stands counts as a claim: the record behind others was reached, and nothing after it.
# A claim for another cluster finds no row: it must not void the claim of who reads the right one.
CLAIM = """
    INSERT INTO partition_offsets AS held (topic, partition, next_offset, epoch, owner, cluster_id, claims,
                                           claimed_offset)
    VALUES ($1, $2, $3, 1, $4, $5, 1, $3)
    ON CONFLICT (topic, partition) DO UPDATE SET
        epoch = held.epoch + 1, owner = excluded.owner, cluster_id = coalesce(excluded.cluster_id, held.cluster_id),
        claims = CASE WHEN held.claimed_offset = held.next_offset
                        OR held.marked_offset = held.next_offset AND held.marks > 0 THEN held.claims + 1 ELSE 1 END,
        claimed_offset = held.next_offset
    WHERE held.cluster_id IS NULL OR excluded.cluster_id IS NULL OR held.cluster_id = excluded.cluster_id
    RETURNING next_offset, epoch, claims
"""

CLUSTER = "SELECT cluster_id FROM partition_offsets WHERE topic = $1 AND partition = $2"

CURRENT = "SELECT next_offset, epoch FROM partition_offsets WHERE topic = $1 AND partition = $2"

MARK = """
    UPDATE partition_offsets SET
        marks = CASE WHEN marked_offset = next_offset THEN marks + 1 ELSE 1 END, marked_offset = next_offset
    WHERE topic = $1 AND partition = $2 AND next_offset = $3 AND epoch = $4
    RETURNING marks
"""

UNMARK = """
    UPDATE partition_offsets SET marks = marks - 1
    WHERE topic = $1 AND partition = $2 AND next_offset = $3 AND epoch = $4
"""


class OtherCluster(Exception):
    """The offsets in Postgres are those of another Kafka cluster: they say nothing about this one's log."""


async def claim(
    db: Db, topic: str, partition: int, first_offset: int, owner: str, cluster_id: str | None = None
) -> Claim:
    """Take the partition over: every earlier claim is void. A partition never seen starts at `first_offset`.

    Raises OtherCluster, and leaves the earlier claim, when the offset was stored for another `cluster_id`.
    """
    row = await db.fetchrow(CLAIM, topic, partition, first_offset, owner, cluster_id)
    if row is None:
        raise OtherCluster(
            f"{topic}/{partition} was applied from the Kafka cluster {await db.fetchval(CLUSTER, topic, partition)}, "
            f"and KAFKA_BOOTSTRAP is the cluster {cluster_id}: set it right, or, if the cluster was made anew, "
            "do what docs/runbooks/offset-outside-log.md says"
        )
    return Claim(topic, partition, row["next_offset"], row["epoch"], row["claims"])


async def current(db: Db, held: Claim) -> Claim | None:
    """The partition's offset and epoch as committed."""
    row = await db.fetchrow(CURRENT, held.topic, held.partition)
    return replace(held, next_offset=row["next_offset"], epoch=row["epoch"]) if row else None


async def mark(db: Db, held: Claim) -> int | None:
    """Note that the record at the claim's offset is about to be applied; how often it was. None: the claim is lost."""
    return await db.fetchval(MARK, held.topic, held.partition, held.next_offset, held.epoch)


async def unmark(db: Db, held: Claim) -> None:
    """Take a mark back: the record was not applied, and did not end the process either."""
    await db.execute(UNMARK, held.topic, held.partition, held.next_offset, held.epoch)
