"""The records of one partition that are fetched but not yet applied."""

import asyncio
from collections import deque
from collections.abc import Iterable

from provisioner.records import Record

MAX_BATCH = 500  # records in a transaction
MAX_BATCH_BYTES = 8 * 1024 * 1024  # beyond it a batch ends; a larger record makes one of its own
FULL = 2 * MAX_BATCH  # records in memory beyond which fetching pauses


class RecordQueue:
    """First in, first out; closing it ends the reader even when records are left, for they will be fetched again."""

    def __init__(self) -> None:
        self._records: deque[Record] = deque()
        self._changed = asyncio.Event()
        self._closed = False

    @property
    def is_full(self) -> bool:
        return len(self._records) > FULL

    @property
    def has_room(self) -> bool:
        return len(self._records) < MAX_BATCH

    @property
    def is_closed(self) -> bool:
        return self._closed

    @property
    def oldest(self) -> int | None:
        """When its first record was sent, in Unix milliseconds."""
        return self._records[0].sent_at if self._records else None

    def put(self, records: Iterable[Record]) -> None:
        self._records.extend(records)
        self._changed.set()

    def clear(self) -> None:
        self._records.clear()

    def close(self) -> None:
        self._closed = True
        self._changed.set()

    async def next_batch(self) -> list[Record]:
        """The next records, at least one, as many as are there within the limits; empty once closed."""
        while not self._records and not self._closed:
            self._changed.clear()
            await self._changed.wait()
        if self._closed:
            return []
        batch = [self._records.popleft()]
        size = len(batch[0].value or b"")
        while self._records and len(batch) < MAX_BATCH:
            size += len(self._records[0].value or b"")
            if size > MAX_BATCH_BYTES:
                break
            batch.append(self._records.popleft())
        return batch
