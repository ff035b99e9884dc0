"""Bodies as JSON has them, and what every router under `/api/v1/admin` has in common."""

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

PREFIX = "/api/v1/admin"


class Shape(BaseModel):
    """Base of answers: names in camelCase in JSON; can be made from a row (`model_validate(row)`)."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, from_attributes=True)


class Body(BaseModel):
    """Base of requests: members that it does not know are refused, so that a typing error is not taken for consent."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid")


_EXAMPLE = {"error": "not_found", "message": "there is nothing of this id", "requestId": "9f86d081884c7d65"}


class Refusal(Shape):
    """Every refusal; `error` is for programs, `requestId` is in the logs."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"error": "not_found", "message": "there is nothing of this id", "requestId": "9f86d081884c7d65"}
            ]
        }
    )

    error: str
    message: str
    request_id: str


_MEANINGS = {
    400: "`validation`: the request is not what the endpoint takes",
    401: "`unauthenticated`: no valid session or API key",
    403: "`forbidden`, or `enterprise_required` when the plan does not include directory sync",
    404: "`not_found`: unknown, or another organization's",
    409: "`conflict`: the state of things does not allow it",
    429: "`too_many_requests`: wait as long as `Retry-After` says",
    503: "`unavailable`: trying again helps; the message says whether the change may have been made",
}


def refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route for these statuses."""
    return {status: {"model": Refusal, "description": _MEANINGS[status]} for status in statuses}


def new_router(path: str, tag: str) -> APIRouter:
    """A router for `/api/v1/admin<path>`; routes add `responses=refusals(404, ...)` of their own."""
    return APIRouter(prefix=PREFIX + path, tags=[tag], responses={**refusals(400, 401, 403)})
