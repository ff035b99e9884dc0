"""A provisioner with a planted mistake, to see whether the checks notice: `python -m chaos.planted MISTAKE`.

The mistakes are made here, in the memory of a test's process; the provisioner's code has no switch for them.
"""

import asyncio
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from provisioner import engine, service
from provisioner.store import flush

FENCED = "AND next_offset = $3 AND epoch = $5"
UNFENCED = "AND $3::bigint IS NOT NULL AND $5::bigint IS NOT NULL"


def no_fence() -> None:
    """A flush is written whoever has claimed the partition since."""
    assert FENCED in flush.ADVANCE, "the fence is written in another way now"
    text = flush.FLUSH.text
    flush.FLUSH.text = lambda needed: text(needed).replace(FENCED, UNFENCED)


def advance_first() -> None:
    """The offset moves in a transaction of its own, before the one that writes the rows."""
    whole = flush.flush

    async def flushed(db: Any, held: Any, end: int, *rest: Any) -> None:
        moved = await db.fetchval(flush.ADVANCE, held.topic, held.partition, held.next_offset, end, held.epoch)
        if moved is None:
            raise flush.FenceFailed
        await whole(db, replace(held, next_offset=end), end, *rest)

    flush.flush = flushed


def reply_first() -> None:
    """The outcome is sent before it is true."""
    whole, start = flush.flush, engine.Engine.__init__
    publish: list[Callable[..., Any]] = []

    def started(self: Any, pool: Any, publish_replies: Callable[..., Any], *rest: Any, **more: Any) -> None:
        publish.append(publish_replies)
        start(self, pool, publish_replies, *rest, **more)

    async def flushed(db: Any, held: Any, end: int, results: Any, *rest: Any) -> None:
        await publish[-1](results)
        await asyncio.sleep(0.01)
        await whole(db, held, end, results, *rest)

    setattr(engine.Engine, "__init__", started)  # noqa: B010 - of another signature
    flush.flush = flushed


MISTAKES = {"no-fence": no_fence, "advance-first": advance_first, "reply-first": reply_first}

if __name__ == "__main__":
    MISTAKES[sys.argv[1]]()
    service.main()
