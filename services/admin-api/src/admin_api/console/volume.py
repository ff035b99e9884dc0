"""How much identity providers sent, hour by hour, for the chart of the status page."""

import time
from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Annotated
from uuid import UUID

from fastapi import Depends, Request

from admin_api.provisioning_log import first_id_at
from admin_api.store import live as store
from admin_api.store.database import Transaction
from admin_api.store.live import Hour

HOURS = 24
_HOUR = timedelta(hours=1)
# After its end, entries of an hour may still come: those that waited in the log of changes.
_SETTLED_AFTER = timedelta(minutes=30)
_EFFORT = 20  # a count is kept for this many times as long as it took
_MAX_KEPT = 1000  # organizations


@dataclass
class _Counted:
    settled: dict[datetime, Hour] = field(default_factory=dict)
    hours: list[Hour] = field(default_factory=list)
    fresh_until: float = float("-inf")  # on the monotonic clock


class Volume:
    """Counts each hour that is over once, and the latest ones again as often as that is cheap."""

    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction
        self._counted: OrderedDict[UUID, _Counted] = OrderedDict()

    async def of(self, organization_id: UUID, now: datetime) -> list[Hour]:
        """The last HOURS hours, oldest first; the last one is not over. Raises Unavailable."""
        counted = self._counted.setdefault(organization_id, _Counted())
        self._counted.move_to_end(organization_id)
        if len(self._counted) > _MAX_KEPT:
            self._counted.popitem(last=False)
        if time.monotonic() >= counted.fresh_until:
            began = time.monotonic()
            counted.hours = await self._count(organization_id, counted, now)
            took = time.monotonic() - began
            counted.fresh_until = began + took + _EFFORT * took
        return counted.hours

    async def _count(self, organization_id: UUID, counted: _Counted, now: datetime) -> list[Hour]:
        this_hour = now.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
        hours = [this_hour - _HOUR * back for back in range(HOURS - 1, -1, -1)]
        missing = next(hour for hour in [*hours, this_hour] if hour not in counted.settled)
        async with self._transaction() as db:
            rows = {row.hour: row for row in await store.count_by_hour(db, organization_id, first_id_at(missing))}
        found = [counted.settled.get(hour) or rows.get(hour) or Hour(hour) for hour in hours]
        counted.settled = {row.hour: row for row in found if row.hour + _HOUR + _SETTLED_AFTER <= now}
        return found


async def volume_of(request: Request) -> Volume:
    return request.app.state.volume


VolumeOf = Annotated[Volume, Depends(volume_of)]
