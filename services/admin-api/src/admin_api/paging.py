"""Lists by cursor: `?limit=&cursor=`, answered as `{<items>: [...], nextCursor}`.

A cursor is the key of the last row that was given, so whoever keeps their key during a walk appears exactly once. It
is opaque but no secret: whatever it says is bound into a statement of the caller's own organization.
"""

import base64
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import Depends, Query

from admin_api.errors import Validation

MAX_LIMIT = 200


@dataclass(frozen=True, slots=True)
class Paging:
    """What a client asks for; stores fetch `limit + 1` rows, so that it is known whether there are more."""

    limit: int
    cursor: str | None

    def after[T](self, parse: Callable[..., T]) -> T | None:
        """The key behind which the page begins, as `parse(*parts)` makes it; None for the first page."""
        if self.cursor is None:
            return None
        try:
            return parse(*_decode(self.cursor))
        except (ValueError, TypeError, OverflowError) as error:
            raise Validation("query.cursor: is not one that this list has given") from error


async def paging(
    limit: Annotated[int, Query(ge=1, le=MAX_LIMIT, description="Rows of a page.")] = 50,
    cursor: Annotated[str | None, Query(max_length=2000, description="`nextCursor` of the page before.")] = None,
) -> Paging:
    return Paging(limit, cursor)


PagingOf = Annotated[Paging, Depends(paging)]


def page[R](rows: Sequence[R], paging: Paging, key: Callable[[R], Sequence[Any]]) -> tuple[list[R], str | None]:
    """The rows of the page and its `nextCursor`, from up to `limit + 1` rows; `key` gives text, times and ids."""
    shown = list(rows[: paging.limit])
    return shown, _encode(key(shown[-1])) if len(rows) > paging.limit else None


def time_and_id(time: str, id: str) -> tuple[datetime, UUID]:
    """Parses the key of a list that is ordered by a time and an id."""
    at = datetime.fromisoformat(time)
    if at.tzinfo is None:
        raise ValueError("a time without its zone")
    return at, UUID(id)


def _encode(key: Sequence[Any]) -> str:
    parts = [part.isoformat() if isinstance(part, datetime) else str(part) for part in key]
    return base64.urlsafe_b64encode(json.dumps(parts).encode()).decode().rstrip("=")


def _decode(cursor: str) -> list[str]:
    parts = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    if not isinstance(parts, list) or not all(isinstance(part, str) and "\0" not in part for part in parts):
        raise ValueError("no key")
    return parts
