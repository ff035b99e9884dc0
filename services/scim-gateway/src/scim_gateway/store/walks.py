"""Keyset conditions: what comes after the last row that a client saw, whatever was created or deleted meanwhile."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from scim.filter import Target
from scim_gateway.store.filter_sql import Layout, sort_key, sort_type

MAX_KEY = 256  # characters of a text that are compared: a position travels in the client's URL


@dataclass(frozen=True, slots=True)
class Position:
    """The last row seen; `key` is its sort key as text, None when it has none or rows are in their natural order."""

    created_at: datetime
    id: UUID
    key: str | None = None


@dataclass(frozen=True, slots=True)
class Order:
    """Rows by a key, missing ones last, descending first; then by creation, as in the natural order."""

    key: str  # SQL over a row
    type: str
    is_descending: bool

    def __str__(self) -> str:
        return f"{self.key}{' DESC' if self.is_descending else ''}"


def walk_order(target: Target, layout: Layout, *, is_descending: bool) -> Order:
    """The order of a walk by the sort key of `target`."""
    key, type_ = sort_key(target, layout), sort_type(target, layout)
    return Order(f"left({key}, {MAX_KEY})" if type_ == "text" else f"({key})", type_, is_descending)


def later_than(order: Order | None, position: Position, first: int) -> tuple[str, tuple[Any, ...]]:
    """The condition that a row comes after `position`; its parameters start at ${first}."""
    later = f"(created_at, id) > (${first}, ${first + 1})"
    bound = (position.created_at, position.id)
    if order is None:
        return later, bound
    key = order.key
    if position.key is None:
        rest = f"{key} IS NOT NULL OR {later}" if order.is_descending else f"{key} IS NULL AND {later}"
        return f"({rest})", bound
    at = f"${first + 2}::text::{order.type}"
    beyond = f"{key} < {at}" if order.is_descending else f"{key} > {at} OR {key} IS NULL"
    return f"({beyond} OR ({key} = {at} AND {later}))", (*bound, position.key)
