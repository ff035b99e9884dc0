"""What a form says back: problems beside their fields, and what was typed as the API wants it."""

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, time
from typing import Any

from pydantic import BaseModel

from admin_api.console import session
from admin_api.console.frame import sentence
from admin_api.errors import ApiError, Validation

# How the API names the member of a body that it refuses.
_MEMBER = re.compile(r"body\.([A-Za-z.]+): (.+)", re.DOTALL)

Problems = dict[str, str]  # by name of the field; "" for the form as a whole


def parse[M: BaseModel](
    model: type[M], values: Mapping[str, Any], fields: Iterable[str] = ()
) -> tuple[M | None, Problems]:
    """The body that the API would get, or what is wrong; a problem of a list's item belongs to the list's field."""
    made, found = session.parse(model, values)
    problems: Problems = {}
    for name, text in found.items():
        field = next((field for field in [*fields, *values] if name == field or name.startswith(f"{field}.")), "")
        problems.setdefault(field, text)
    return made, problems


def problems_of(error: ApiError, field: str = "") -> Problems:
    """A refusal beside the field that it names, or beside `field`."""
    if named := _MEMBER.fullmatch(error.message):
        return {named[1]: sentence(named[2])}
    return {field: sentence(error.message)}


def lines(text: str) -> list[str]:
    """What stands on the lines that are not blank."""
    return [line.strip() for line in text.splitlines() if line.strip()]


def day(text: str) -> datetime | None:
    """The beginning of the day in UTC, None for an empty field; raises Validation."""
    if not text:
        return None
    try:
        return datetime.combine(date.fromisoformat(text), time(), UTC)
    except ValueError as error:
        raise Validation("body.expiresAt: must be a day like 2027-01-31") from error
