"""Reading resources of one connection: by id, and in pages, each with one statement."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg

from scim_gateway.store.filter_sql import Layout, Where
from scim_gateway.store.reading import reading
from scim_gateway.store.walks import Order, Position, later_than

_SELECTED = "id, resource, version, created_at, last_modified"


INLINE = 1_000  # related values of a resource that come with its page; what has more is read by itself
MANY = ""


@dataclass(frozen=True, slots=True)
class Stored:
    """A resource as it is kept: canonical attributes, what `meta` is made of, and what is kept elsewhere.

    `related` is the value of the relation's attribute as JSON text; None when there is none, or it was not asked for,
    MANY when there is too much for a page.
    """

    id: UUID
    resource: dict[str, Any]
    version: int
    created_at: datetime
    last_modified: datetime
    related: str | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """A page of a listing; `total` counts everything that the condition selects."""

    resources: list[Stored]
    total: int


@dataclass(frozen=True, slots=True)
class Step:
    """A page of a walk; `last` is where it ends, None at the beginning, and `has_more` whether rows are left."""

    resources: list[Stored]
    total: int
    last: Position | None
    has_more: bool


class Table:
    """The statements of one resource type; every one is bounded by connection, $1.

    The relation's table is touched only where `base_url`, with which each `$ref` begins, is given.
    """

    def __init__(self, name: str, layout: Layout) -> None:
        self.layout = layout
        self.relation = layout.relation
        self._name = name
        self._one = f"SELECT {_SELECTED} FROM {name} WHERE connection_id = $1 AND id = $2"
        self._count_all = f"SELECT {name} FROM connection_stats WHERE connection_id = $1"

    async def find(
        self,
        pool: asyncpg.Pool,
        connection_id: UUID,
        resource_id: UUID,
        base_url: str | None = None,
        *,
        limit: int | None = None,
    ) -> Stored | None:
        """The resource, with MANY above `limit` related values; None when this connection has none of that id."""
        select, parameters = self._with_related(self._one, (connection_id, resource_id), base_url, limit)
        async with reading(pool) as db:
            row = await db.fetchrow(select, *parameters)
        return Stored(**row) if row else None

    async def find_related(
        self, pool: asyncpg.Pool, resource_ids: Sequence[UUID], base_url: str, limit: int | None = None
    ) -> dict[UUID, str | None]:
        """What the relation holds for each of the resources, as `Stored.related`; MANY above `limit` values."""
        select, parameters = self._with_related("SELECT unnest($1::uuid[]) AS id", (resource_ids,), base_url, limit)
        async with reading(pool) as db:
            return dict(await db.fetch(select, *parameters))

    async def page(
        self,
        pool: asyncpg.Pool,
        connection_id: UUID,
        where: Where | None,
        *,
        order: str | None,
        offset: int,
        limit: int,
        base_url: str | None = None,
    ) -> Page:
        """At most `limit` resources after the first `offset`, in the `order` (SQL) and then by creation."""
        bounded, parameters = _bounded(connection_id, where)
        by = f"{order}, created_at, id" if order else "created_at, id"
        rows = f"SELECT {_SELECTED} FROM {self._name} WHERE {bounded} ORDER BY {by} LIMIT {limit} OFFSET {offset}"
        select, all_parameters = self._with_related(rows, parameters, base_url, INLINE)
        async with reading(pool) as db:
            rows = await db.fetch(select, *all_parameters) if limit else []
            if where is not None and (0 < len(rows) < limit or (limit and not offset and not rows)):
                total = offset + len(rows)  # the last page tells; a look-up takes one statement
            else:
                total = await self._count(db, connection_id, where)
        return Page([Stored(**row) for row in rows], total)

    async def step(
        self,
        pool: asyncpg.Pool,
        connection_id: UUID,
        where: Where | None,
        *,
        order: Order | None,
        after: Position | None,
        limit: int,
        total: int | None,
        base_url: str | None = None,
    ) -> Step:
        """At most `limit` resources after a position; `total` is counted when it is not known."""
        bounded, parameters = _bounded(connection_id, where)
        later, position = later_than(order, after, len(parameters) + 1) if after else ("TRUE", ())
        key = f"({order.key})::text" if order else "NULL::text"
        rows = (
            f"SELECT {_SELECTED}, {key} AS key FROM {self._name} WHERE {bounded} AND {later}"
            f" ORDER BY {f'{order}, ' if order else ''}created_at, id LIMIT {limit + 1}"
        )
        select, all_parameters = self._with_related(rows, (*parameters, *position), base_url, INLINE)
        async with reading(pool) as db:
            found = [dict(row) for row in await db.fetch(select, *all_parameters)]
            has_more = len(found) > limit
            if total is None and where is not None and after is None and not has_more:
                total = len(found)
            elif total is None:
                total = await self._count(db, connection_id, where)
        keys = [row.pop("key") for row in found]
        resources = [Stored(**row) for row in found[:limit]]
        last = (
            Position(resources[-1].created_at, resources[-1].id, keys[limit - 1 if has_more else -1])
            if resources
            else after
        )
        return Step(resources, total, last, has_more)

    async def _count(self, db: asyncpg.pool.PoolConnectionProxy, connection_id: UUID, where: Where | None) -> int:
        """How many rows there are: from the counter row, or counted where there is a condition."""
        if where is None:
            return await db.fetchval(self._count_all, connection_id) or 0
        bounded, parameters = _bounded(connection_id, where)
        return await db.fetchval(f"SELECT count(*) FROM {self._name} WHERE {bounded}", *parameters)

    def _with_related(
        self, select: str, parameters: tuple[Any, ...], base_url: str | None, limit: int | None
    ) -> tuple[str, tuple[Any, ...]]:
        """`select`, its rows with their related values, or MANY above `limit` of them, in the same order."""
        if base_url is None:
            return select, parameters
        values = self.relation.values.format(row="page")
        array = _array(f"${len(parameters) + 1}", self.relation.has_display)
        related = f"SELECT {array} FROM ({values}) AS v"
        if limit is not None and self.relation.is_large:
            # Counted first, without what each looks like: that costs the same however many there are.
            some = f"SELECT FROM ({values}) AS v LIMIT {limit + 1}"
            related = f"CASE WHEN (SELECT count(*) FROM ({some}) AS s) > {limit} THEN '{MANY}' ELSE ({related}) END"
        return f"SELECT page.*, ({related}) AS related FROM ({select}) AS page", (*parameters, base_url)


def _bounded(connection_id: UUID, where: Where | None) -> tuple[str, tuple[Any, ...]]:
    """The condition on the rows of a list, and its parameters.

    `version > 0` is always true; the index for lists is made of such rows (directory, migration 0001).
    """
    bounded = "connection_id = $1 AND version > 0" + (f" AND ({where.sql})" if where else "")
    return bounded, (connection_id, *(where.parameters if where else ()))


def _array(base_url: str, has_display: bool) -> str:
    """The rows `v` as a JSON array, NULL without any; `base_url` is a parameter."""
    display = "'display', v.display, " if has_display else ""
    return (
        f"json_agg(json_build_object('value', v.value, '$ref', {base_url}::text || v.path, {display}'type', v.type)"
        " ORDER BY v.value)::text"
    )
