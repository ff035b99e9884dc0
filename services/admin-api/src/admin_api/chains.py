"""Proof that the audit trail is as it was written: each row's hash follows from the one before and from the row."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, fields
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from admin_api.store import trail
from contracts.events import FIRST_HASH, EventRow, chained, digest_of

_COLUMNS = tuple(field.name for field in fields(EventRow))


@dataclass(frozen=True, slots=True)
class ChainReport:
    """How far a chain holds: `break_at` is the place of the first row that does not, `why` what is wrong with it.

    `seq` and `hash` are those of the last row that was proved. Whoever keeps them elsewhere can tell later whether the
    chain was written anew, which no look at the chain alone can.
    """

    chain: int
    seq: int
    hash: bytes
    break_at: int | None = None
    why: str | None = None


async def verify_chains(db: AsyncSession) -> list[ChainReport]:
    """A report of every chain, in their order."""
    published = await trail.published_events(db)
    return [
        await verify_chain(chain, trail.stream_chain(db, chain), at_least=published.get(chain, 0))
        for chain in sorted({*await trail.list_chains(db), *(chain for chain, seq in published.items() if seq)})
    ]


async def verify_chain(chain: int, rows: AsyncGenerator[dict[str, Any]], at_least: int = 0) -> ChainReport:
    """Follow one chain, whose `rows` come in order, from its beginning; it must reach the place `at_least`."""
    seq, previous = 0, FIRST_HASH
    async with aclosing(rows):
        async for row in rows:
            if why := _fault(seq, previous, row):
                return ChainReport(chain, seq, previous, row["seq"], why)
            seq, previous = row["seq"], row["hash"]
    if seq < at_least:
        return ChainReport(chain, seq, previous, seq + 1, "rows that were published are missing at the end")
    return ChainReport(chain, seq, previous)


def _fault(seq: int, previous: bytes, row: Mapping[str, Any]) -> str | None:
    if row["seq"] != seq + 1:
        return f"rows are missing from {seq + 1} on"
    return fault_of(previous, row)


def fault_of(previous: bytes, row: Mapping[str, Any]) -> str | None:
    """What is wrong with a row behind the hash `previous`; None when it is as it was written."""
    event = EventRow(**{name: row[name] for name in _COLUMNS})
    # Blanked data is an erasure: the digest stands for what it was.
    if event.data is not None and digest_of(event.data) != row["digest"]:
        return "its data is not what was written"
    if chained(previous, event, row["digest"]) != row["hash"]:
        return "a column, or the row before it, is not what was written"
    return None
