"""How many users are stale or orphaned, for the status page."""

import time
from collections import OrderedDict
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from admin_api.store import sync_status

STALE_AFTER = timedelta(days=90)
# They are counted by reading the connections' users: not for each look at the page.
COUNTS_CACHE_SECONDS = 30.0
MAX_COUNTED = 1000  # organizations whose counts are remembered


class DriftCounts:
    """Counts of stale and orphaned users, remembered for COUNTS_CACHE_SECONDS."""

    def __init__(self) -> None:
        self._known: OrderedDict[UUID, tuple[float, dict[UUID, sync_status.DriftCount]]] = OrderedDict()

    async def of(self, db: AsyncSession, organization_id: UUID, now: datetime) -> dict[UUID, sync_status.DriftCount]:
        """By connection."""
        asked_at, counts = self._known.get(organization_id, (float("-inf"), {}))
        if time.monotonic() - asked_at < COUNTS_CACHE_SECONDS:
            return counts
        counts = await sync_status.count_drift(db, organization_id, now - STALE_AFTER)
        self._known[organization_id] = (time.monotonic(), counts)
        self._known.move_to_end(organization_id)
        if len(self._known) > MAX_COUNTED:
            self._known.popitem(last=False)
        return counts
