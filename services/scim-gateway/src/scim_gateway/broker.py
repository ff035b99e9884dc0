"""Is Kafka there? What the last second has shown, so that a change is refused before anything is sent, not after."""

import time

FRESH_SECONDS = 2.5  # above two pings: one slow answer under load is not an outage


class Reachability:
    """Every sign of life counts: a ping answered, a record acknowledged, an outcome received."""

    def __init__(self) -> None:
        self._seen_at = float("-inf")

    def seen(self) -> None:
        self._seen_at = time.monotonic()

    def lost(self) -> None:
        self._seen_at = float("-inf")

    @property
    def is_reachable(self) -> bool:
        return time.monotonic() - self._seen_at < FRESH_SECONDS
