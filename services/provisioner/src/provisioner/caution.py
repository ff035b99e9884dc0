"""Records that may have ended the process: each alone, marked before it is applied, set aside when marked twice.

A record that aborts the interpreter leaves no error behind, only an offset that does not move from claim to claim.
"""

import asyncio
from collections.abc import Sequence

import asyncpg
import structlog

from provisioner.queue import MAX_BATCH
from provisioner.records import Record
from provisioner.store import claims
from provisioner.store.claims import Claim

log = structlog.get_logger()

SUSPICIOUS = 2  # claims at an unmoved offset
MAX_MARKS = 2
ENDED = "ended the process"
UNMARK_TIMEOUT = 1.0  # seconds


def suspects(claim: Claim, log_end: int) -> range:
    """Offsets of the records that may have ended a process before this claim.

    They are among those that made its next batch, and were in the log; an idle partition has none, however often it is
    claimed.
    """
    if claim.times < SUSPICIOUS:
        return range(0)
    return range(claim.next_offset, min(log_end, claim.next_offset + MAX_BATCH))


def divide(records: Sequence[Record], suspected: range) -> tuple[Sequence[Record], Sequence[Record]]:
    """The suspects, which come first, and the rest."""
    count = sum(record.offset in suspected for record in records)
    return records[:count], records[count:]


async def mark(pool: asyncpg.Pool, claim: Claim) -> int | None:
    """Mark the record at the claim's offset; how often it was marked. None: the claim is lost."""
    async with pool.acquire() as db:
        marks = await claims.mark(db, claim)
    if marks and marks > MAX_MARKS:
        log.error("record.ended_the_process", partition=claim.partition, offset=claim.next_offset, marks=marks)
    return marks


async def unmark(pool: asyncpg.Pool, claim: Claim) -> None:
    """Take the mark back, if Postgres is there."""
    try:
        async with asyncio.timeout(UNMARK_TIMEOUT), pool.acquire() as db:
            await claims.unmark(db, claim)
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:  # a TimeoutError is an OSError
        log.info("record.unmark_failed", partition=claim.partition, error=type(error).__name__)
