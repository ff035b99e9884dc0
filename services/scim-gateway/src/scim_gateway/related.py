"""Related values for answers to changes: what is asked for together is read together.

The outcomes of one batch arrive together, and the requests that waited for them go on in the same turn of the event
loop. Whatever they ask for in that turn becomes one statement, for which each would otherwise borrow a connection and
wait a round trip of its own.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from uuid import UUID

import asyncpg

from scim_gateway.store.resources import MANY, Table

type Key = tuple[UUID, Table, int | None]
type Found = Mapping[UUID, str | None]


@dataclass(slots=True)
class _Batch:
    """The ids that are asked for in this turn, in the order of asking, and the task that will read them."""

    task: asyncio.Task[Found]
    ids: dict[UUID, None] = field(default_factory=dict)


class TooMany(Exception):
    """There are more related values than the caller wants."""


class Related:
    """Reads what the relations of resources hold. Nothing is remembered: a statement begins after the turn in which it
    was asked for, so it shows all that was committed by then.

    Connections are read apart: nobody waits for the groups of another one's users. So is what has no limit and may be
    large, which comes in tens of megabytes.
    """

    def __init__(self, pool: asyncpg.Pool, base_url: str) -> None:
        self._pool = pool
        self._base_url = base_url
        self._batches: dict[Key, _Batch] = {}

    async def of(self, connection_id: UUID, table: Table, resource_id: UUID, limit: int | None = None) -> str | None:
        """What the relation holds for a resource of this connection, as `Stored.related`.

        Raises TooMany above `limit` values, Unavailable when Postgres cannot be asked. The statement goes on when one
        of those who wait for it is cancelled.
        """
        if limit is None and table.relation.is_large:
            return (await table.find_related(self._pool, [resource_id], self._base_url))[resource_id]
        batch = self._batch((connection_id, table, limit))
        batch.ids[resource_id] = None
        related = (await asyncio.shield(batch.task))[resource_id]
        if related == MANY:
            raise TooMany
        return related

    def _batch(self, key: Key) -> _Batch:
        """The one that is being gathered; its task starts with the next turn."""
        batch = self._batches.get(key)
        if batch is None:
            batch = self._batches[key] = _Batch(asyncio.create_task(self._read(key)))
        return batch

    async def _read(self, key: Key) -> Found:
        _, table, limit = key
        ids = self._batches.pop(key).ids
        return await table.find_related(self._pool, list(ids), self._base_url, limit)
