"""What a client asks of a list, by query or by POST to `.search`, and the list that answers it.

RFC 7644 sections 3.4.2 and 3.4.3; cursors by RFC 9865.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from scim.errors import InvalidCount, InvalidCursor, InvalidPath, InvalidSyntax, InvalidValue
from scim.filter import AttributePath
from scim.grammar import attribute_path
from scim.projection import EVERYTHING, Projection
from scim.urns import LIST_RESPONSE, SEARCH_REQUEST

DEFAULT_COUNT = 100
MAX_COUNT = 200
MAX_START_INDEX = 2**53  # far past the end of every list, and within Postgres's bigint
MAX_CURSOR = 2_048  # characters

type SortOrder = Literal["ascending", "descending"]

_INTEGER = re.compile(r"[+-]?[0-9]{1,400}", re.ASCII)
_PARAMETERS = {
    name.lower(): name
    for name in (
        "attributes", "excludedAttributes", "filter", "sortBy", "sortOrder", "startIndex", "count", "cursor",
    )
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class ListQuery:
    """A checked list request.

    `start_index` is 1 or more, `count` 0 to `MAX_COUNT`; `filter` is text for `scim.filter.compile_filter`. `cursor` is
    None for index paging, "" for the first page of cursor paging; with a cursor, `start_index` means nothing.
    """

    start_index: int = 1
    count: int = DEFAULT_COUNT
    filter: str | None = None
    sort_by: AttributePath | None = None
    sort_order: SortOrder = "ascending"
    projection: Projection = EVERYTHING
    cursor: str | None = None

    @classmethod
    def from_params(cls, params: Mapping[str, str] | Sequence[tuple[str, str]]) -> "ListQuery":
        """Read query parameters, named in any case (Entra sends `startindex`); unknown ones are ignored.

        Raises InvalidPath, InvalidCursor, InvalidCount, or InvalidValue naming the parameter.
        """
        return cls._read(params.items() if isinstance(params, Mapping) else params)

    @classmethod
    def from_search_request(cls, document: Any) -> "ListQuery":
        """Read a SearchRequest message; raises as `from_params` does, and InvalidSyntax when it is not one."""
        if not isinstance(document, dict):
            raise InvalidSyntax("A search request is a JSON object.")
        schemas = next((value for name, value in document.items() if name.lower() == "schemas"), None)
        if not isinstance(schemas, list) or SEARCH_REQUEST not in schemas:
            raise InvalidValue(f"schemas is required: it must hold {SEARCH_REQUEST}.")
        return cls._read((name, value) for name, value in document.items() if value is not None)

    @classmethod
    def _read(cls, pairs: Iterable[tuple[str, Any]]) -> "ListQuery":
        given = _known(pairs)
        cursor = _cursor(given.get("cursor"))
        return cls(
            start_index=min(max(_integer(given.get("startIndex"), "startIndex", 1), 1), MAX_START_INDEX),
            count=_count(given.get("count"), cursor),
            filter=_text(given["filter"], "filter") if "filter" in given else None,
            sort_by=_sort_by(given.get("sortBy")),
            sort_order=_sort_order(given.get("sortOrder")),
            projection=Projection.parse(given.get("attributes"), given.get("excludedAttributes")),
            cursor=cursor,
        )


def list_response(
    resources: Sequence[Any],
    total: int | None,
    start_index: int | None = None,
    items_per_page: int | None = None,
    *,
    next_cursor: str | None = None,
    previous_cursor: str | None = None,
) -> dict[str, Any]:
    """The ListResponse message; `Resources` is there when empty too, for clients that index it.

    `items_per_page` defaults to the resources at hand. A page by cursor has no `start_index`, and `total` may be
    None (RFC 9865 section 2); no `next_cursor` says that it is the last.
    """
    fields = {
        "totalResults": total,
        "startIndex": start_index,
        "itemsPerPage": len(resources) if items_per_page is None else items_per_page,
        "nextCursor": next_cursor,
        "previousCursor": previous_cursor,
    }
    given = {name: value for name, value in fields.items() if value is not None}
    return {"schemas": [LIST_RESPONSE], **given, "Resources": list(resources)}


def _known(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """The parameters that we know, under their own spelling; two spellings of one would hide one (T28)."""
    given: dict[str, Any] = {}
    for name, value in pairs:
        known = _PARAMETERS.get(name.lower())
        if known is None:
            continue
        if known in given:
            raise InvalidValue(f"{known} is given more than once.")
        given[known] = value
    return given


def _integer(value: Any, name: str, default: int) -> int:
    if value is None:
        return default
    if type(value) is int:
        return value
    if isinstance(value, str) and _INTEGER.fullmatch(value.strip()):
        return int(value)
    raise InvalidValue(f"{name} must be an integer.")


def _count(value: Any, cursor: str | None) -> int:
    try:
        return min(max(_integer(value, "count", DEFAULT_COUNT), 0), MAX_COUNT)
    except InvalidValue as error:
        if cursor is None:
            raise
        raise InvalidCount(error.detail) from error


def _cursor(value: Any) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or len(value) > MAX_CURSOR:
        raise InvalidCursor("The cursor is not one that this server issued.")
    return value


def _sort_by(value: Any) -> AttributePath | None:
    text = "" if value is None else _text(value, "sortBy").strip()
    if not text:
        return None
    path = attribute_path(text)
    if path is None:
        raise InvalidPath("sortBy is not an attribute name.")
    return path


def _sort_order(value: Any) -> SortOrder:
    text = "" if value is None else _text(value, "sortOrder").strip().lower()
    if text in ("", "ascending"):
        return "ascending"
    if text == "descending":
        return "descending"
    raise InvalidValue("sortOrder must be ascending or descending.")


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise InvalidValue(f"{name} must be a string.")
    return value
