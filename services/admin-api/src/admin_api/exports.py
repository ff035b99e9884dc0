"""Files that admins take away: CSV that no spreadsheet takes for formulas (threat T52), and JSON lines."""

import csv
import io
import json
from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import datetime
from typing import Any, Literal

from fastapi.responses import StreamingResponse

type Format = Literal["csv", "jsonl"]

MEDIA_TYPES: dict[str, str] = {"csv": "text/csv; charset=utf-8", "jsonl": "application/jsonl"}
# The `responses` of a route that answers with a download.
DOWNLOADS: dict[int | str, dict[str, Any]] = {
    200: {"content": {media_type: {"schema": {"type": "string"}} for media_type in MEDIA_TYPES.values()}}
}
PAGE = 500  # rows that are read, and held, at a time

# What spreadsheets take for a formula, also in its full-width form and behind blanks.
_FORMULA = tuple("=+-@\t\r\n＝＋－＠")


def cell(value: Any) -> str:
    """A value as text that is shown as it is: one that would be a formula gets an apostrophe in front."""
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case datetime():
            return value.isoformat()
        case dict() | list():
            text = json.dumps(value, ensure_ascii=False, default=str)
        case _:
            text = str(value)
    return f"'{text}" if text.startswith(_FORMULA) or text.lstrip().startswith(_FORMULA) else text


def csv_lines(rows: Iterable[Sequence[Any]]) -> str:
    """Rows as CSV (RFC 4180)."""
    buffer = io.StringIO()
    csv.writer(buffer).writerows([cell(value) for value in row] for row in rows)
    return buffer.getvalue()


def json_lines(rows: Iterable[dict[str, Any]]) -> str:
    """Rows as JSON, one a line."""
    return "".join(json.dumps(row, ensure_ascii=False, default=_text) + "\n" for row in rows)


def download(
    name: str, format: Format, columns: Sequence[str], pages: AsyncIterator[Sequence[dict[str, Any]]]
) -> StreamingResponse:
    """A file `name` of all pages, sent as they are read; in CSV each row has these columns."""
    headers = {"Content-Disposition": f'attachment; filename="{name}.{format}"'}
    return StreamingResponse(_parts(format, columns, pages), media_type=MEDIA_TYPES[format], headers=headers)


async def _parts(
    format: Format, columns: Sequence[str], pages: AsyncIterator[Sequence[dict[str, Any]]]
) -> AsyncIterator[str]:
    if format == "csv":
        yield csv_lines([columns])
    async for page in pages:
        yield json_lines(page) if format == "jsonl" else csv_lines([row.get(c) for c in columns] for row in page)


def _text(value: Any) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)
