"""In-flight slots: how many changes a connection, and all of them together, may have under way.

Of a connection's changes a window is in the log at a time. The rest waits here for its turn, in order, and is in
nobody's way: what others publish meanwhile does not queue behind it, and who gives up was certainly not accepted.
"""

import asyncio
import sys
from collections import deque
from dataclasses import dataclass, field
from enum import Enum, auto
from uuid import UUID

from scim.errors import ScimError, TooManyRequests, Unavailable
from scim_gateway import metrics

RETRY_AFTER = 1  # seconds; a slot is free again within milliseconds, and long waits hurt Entra (T51)


class Limit(Enum):
    """Whose slots are all taken."""

    CONNECTION = auto()
    GATEWAY = auto()

    def error(self) -> ScimError:
        """What the client is told."""
        if self is Limit.CONNECTION:
            return TooManyRequests(
                "Too many requests of this connection are under way; nothing was changed, try again.",
                retry_after=RETRY_AFTER,
            )
        return Unavailable("The service is busy; nothing was changed, try again.", retry_after=RETRY_AFTER)


@dataclass(slots=True)
class _Lane:
    """A connection's slots: how many are taken, how many of them are in the log, and who waits for a turn."""

    taken: int = 0
    in_log: int = 0
    waiting: deque["tuple[Slot, asyncio.Future[None]]"] = field(default_factory=deque)


class Slot:
    """One admission; releasing it twice is releasing it once."""

    __slots__ = ("_connection_id", "_is_in_log", "_is_urgent", "_slots")

    def __init__(self, slots: "Slots", connection_id: UUID, is_urgent: bool) -> None:
        self._slots: Slots | None = slots
        self._connection_id = connection_id
        self._is_urgent = is_urgent
        self._is_in_log = False

    async def turn(self) -> None:
        """Wait until the window of the connection has room, which then is taken; urgent ones do not wait.

        Whoever is cancelled meanwhile releases the slot, and with it the turn.
        """
        assert self._slots is not None
        if turn := self._slots._turn(self, self._connection_id, self._is_urgent):
            await turn

    def release(self) -> None:
        slots, self._slots = self._slots, None
        if slots is not None:
            slots._give_back(self._connection_id, self._is_in_log)

    def __enter__(self) -> "Slot":
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


class Slots:
    """Counts what is under way, per connection and in all; `reserved` of a connection's slots, and as large a share of
    all, are for urgent ones; `window` of them have their turn at a time. `kind` is what the metrics call them.
    """

    def __init__(
        self, total: int, per_connection: int, reserved: int = 0, *, window: int = sys.maxsize, kind: str = "changes"
    ) -> None:
        self._total = total
        self._per_connection = per_connection
        self._reserved = reserved
        self._reserved_of_all = total * reserved // per_connection
        self._window = window
        self._lanes: dict[UUID, _Lane] = {}
        self.in_use = 0
        self._refused = {
            Limit.CONNECTION: metrics.refusal(kind, "connection"),
            Limit.GATEWAY: metrics.refusal(kind, "gateway"),
        }
        metrics.watch_slots(kind, total, lambda: self.in_use)

    @property
    def may_be_full(self) -> bool:
        """Whether anybody at all can be refused now."""
        return self.in_use >= min(self._per_connection - self._reserved, self._total - self._reserved_of_all)

    def refusal(self, connection_id: UUID, *, urgent: bool = False) -> Limit | None:
        """The limit that refuses one more, which counts as refused; None when there is a slot."""
        lane = self._lanes.get(connection_id)
        taken = lane.taken if lane else 0
        limit = None
        if taken >= self._per_connection - (0 if urgent else self._reserved):
            limit = Limit.CONNECTION
        elif self.in_use >= self._total - (0 if urgent else self._reserved_of_all):
            limit = Limit.GATEWAY
        if limit is not None:
            self._refused[limit].inc()
        return limit

    def take(self, connection_id: UUID, *, urgent: bool = False) -> Slot:
        """Raises TooManyRequests when the connection, Unavailable when the whole gateway has no slot left."""
        if limit := self.refusal(connection_id, urgent=urgent):
            raise limit.error()
        self._lanes.setdefault(connection_id, _Lane()).taken += 1
        self.in_use += 1
        return Slot(self, connection_id, urgent)

    def _turn(self, slot: Slot, connection_id: UUID, is_urgent: bool) -> asyncio.Future[None] | None:
        lane = self._lanes[connection_id]
        if lane.in_log < self._window or is_urgent:
            lane.in_log += 1
            slot._is_in_log = True
            return None
        turn = asyncio.get_running_loop().create_future()
        lane.waiting.append((slot, turn))
        return turn

    def _give_back(self, connection_id: UUID, was_in_log: bool) -> None:
        self.in_use -= 1
        lane = self._lanes[connection_id]
        lane.taken -= 1
        lane.in_log -= was_in_log
        while lane.waiting and lane.in_log < self._window:
            slot, turn = lane.waiting.popleft()
            if not turn.done():  # else it was cancelled, and released by itself
                lane.in_log += 1
                slot._is_in_log = True
                turn.set_result(None)
        if not lane.taken:
            del self._lanes[connection_id]
