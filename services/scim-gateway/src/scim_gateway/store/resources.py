"""Reading resources of one connection: by id, and in pages."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg

from scim_gateway.store.filter_sql import Layout, Where
from scim_gateway.store.reading import reading

_SELECTED = "id, resource, version, created_at, last_modified"


@dataclass(frozen=True, slots=True)
class Stored:
    """A resource as it is kept: canonical attributes, and what `meta` is made of."""

    id: UUID
    resource: dict[str, Any]
    version: int
    created_at: datetime
    last_modified: datetime


@dataclass(frozen=True, slots=True)
class Page:
    """A page of a listing; `total` counts everything that the condition selects."""

    resources: list[Stored]
    total: int


class Table:
    """The statements of one resource type; every one is bounded by connection, $1.

    `counter` is the column of `connection_stats` with the number of rows.
    """

    def __init__(self, name: str, counter: str, layout: Layout) -> None:
        self.layout = layout
        self._name = name
        self._find = f"SELECT {_SELECTED} FROM {name} WHERE connection_id = $1 AND id = $2"
        self._count_all = f"SELECT {counter} FROM connection_stats WHERE connection_id = $1"

    async def find(self, pool: asyncpg.Pool, connection_id: UUID, resource_id: UUID) -> Stored | None:
        """The resource; None when this connection has none of that id."""
        async with reading(pool) as db:
            row = await db.fetchrow(self._find, connection_id, resource_id)
        return Stored(**row) if row else None

    async def page(
        self,
        pool: asyncpg.Pool,
        connection_id: UUID,
        where: Where | None,
        *,
        order: str | None,
        offset: int,
        limit: int,
    ) -> Page:
        """At most `limit` resources after the first `offset`, in the `order` (SQL) and then by creation."""
        # `version > 0` is always true; the index for lists is made of such rows (directory, migration 0001).
        bounded = "connection_id = $1 AND version > 0" + (f" AND ({where.sql})" if where else "")
        parameters = (connection_id, *(where.parameters if where else ()))
        by = f"{order}, created_at, id" if order else "created_at, id"
        select = f"SELECT {_SELECTED} FROM {self._name} WHERE {bounded} ORDER BY {by} LIMIT {limit} OFFSET {offset}"
        async with reading(pool) as db:
            rows = await db.fetch(select, *parameters) if limit else []
            if where is None:
                total = await db.fetchval(self._count_all, connection_id) or 0
            elif 0 < len(rows) < limit or (limit and not offset and not rows):
                total = offset + len(rows)  # the last page tells; a look-up takes one statement
            else:
                total = await db.fetchval(f"SELECT count(*) FROM {self._name} WHERE {bounded}", *parameters)
        return Page([Stored(**row) for row in rows], total)
