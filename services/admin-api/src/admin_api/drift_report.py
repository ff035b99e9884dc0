"""`POST /api/v1/admin/scim/verify`: drift of one organization, told and not repaired.

Repairs are the operator's (`directory-sync verify --repair`): no service may write what they write.
"""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any
from uuid import UUID

from pydantic import Field
from pydantic.alias_generators import to_camel

from admin_api import drift
from admin_api.principals import Admin
from admin_api.service import ServiceOf
from admin_api.shapes import Body, Shape, new_router
from admin_api.store.drift import set_timeout

router = new_router("/scim/verify", "drift")

TIMEOUT = 30  # seconds of one statement


class Wish(Body):
    stale_after_days: Annotated[int, Field(ge=1, le=3650, description="For the list of stale users.")] = 90


class DriftView(Shape):
    """Rows at fault: `examples` names the first of them by their ids."""

    kind: Annotated[str, Field(examples=["missing_grants"])]
    says: str
    found: int
    examples: list[dict[str, Any]]


class StaleUser(Shape):
    """A user that the identity provider has not mentioned for long."""

    user_id: UUID
    connection_id: UUID
    account_id: UUID
    user_name: str
    active: bool
    mentioned_at: datetime


class OrphanUser(Shape):
    """A user whose create was applied after the identity provider had given up, never referred to since."""

    user_id: UUID
    connection_id: UUID
    account_id: UUID
    user_name: str
    created_at: datetime


class DriftReport(Shape):
    is_clean: bool
    drifts: list[DriftView]
    stale: list[StaleUser]
    orphans: list[OrphanUser]


@router.post("")
async def verify_directory(principal: Admin, service: ServiceOf, body: Wish | None = None) -> DriftReport:
    """Recompute roles, counters, links and memberships from raw rows, and tell what differs."""
    stale_after = timedelta(days=(body or Wish()).stale_after_days)
    async with service.transaction() as db:
        await set_timeout(db, TIMEOUT)
        report = await drift.verify(db, principal.organization.id, datetime.now(UTC), stale_after)
    return DriftReport(
        is_clean=report.is_clean,
        drifts=[
            DriftView(
                kind=each.kind, says=each.says, found=each.found, examples=[camelized(row) for row in each.examples]
            )
            for each in report.drifts
        ],
        stale=[StaleUser.model_validate(row) for row in report.stale],
        orphans=[OrphanUser.model_validate(row) for row in report.orphans],
    )


def camelized(row: dict[str, Any]) -> dict[str, Any]:
    """The row with the names that JSON has here."""
    return {to_camel(name): value for name, value in row.items()}
