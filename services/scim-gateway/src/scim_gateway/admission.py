"""In-flight slots: how many changes a connection, and all of them together, may have under way."""

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


class Slot:
    """One admission; releasing it twice is releasing it once."""

    __slots__ = ("_connection_id", "_slots")

    def __init__(self, slots: "Slots", connection_id: UUID) -> None:
        self._slots: Slots | None = slots
        self._connection_id = connection_id

    def release(self) -> None:
        slots, self._slots = self._slots, None
        if slots is not None:
            slots._give_back(self._connection_id)

    def __enter__(self) -> "Slot":
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


class Slots:
    """Counts what is under way, per connection and in all; `reserved` of a connection's slots, and as large a share of
    all, are for urgent ones. `kind` is what the metrics call them.
    """

    def __init__(self, total: int, per_connection: int, reserved: int = 0, *, kind: str = "changes") -> None:
        self._total = total
        self._per_connection = per_connection
        self._reserved = reserved
        self._reserved_of_all = total * reserved // per_connection
        self._taken: dict[UUID, int] = {}
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
        taken = self._taken.get(connection_id, 0)
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
        self._taken[connection_id] = self._taken.get(connection_id, 0) + 1
        self.in_use += 1
        return Slot(self, connection_id)

    def _give_back(self, connection_id: UUID) -> None:
        self.in_use -= 1
        left = self._taken[connection_id] - 1
        if left:
            self._taken[connection_id] = left
        else:
            del self._taken[connection_id]
