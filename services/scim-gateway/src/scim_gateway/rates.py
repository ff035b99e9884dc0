"""Token buckets: how often somebody may do something (threat T50)."""

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable

MAX_KEYS = 10_000


class Buckets[K: Hashable]:
    """A bucket for each key: `burst` at once, `rate` a second in the long run; a `rate` of 0 limits nothing.

    Only the MAX_KEYS keys that spent last are remembered.
    """

    def __init__(self, rate: float, burst: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._burst = burst
        self._clock = clock
        self._buckets: OrderedDict[K, tuple[float, float]] = OrderedDict()  # what is left, and when that was so

    def wait(self, key: K) -> int:
        """Seconds (whole, at least 1) until there is something left for `key`; 0 when there is."""
        left = self._left(key) if self._rate else 1
        return 0 if left >= 1 else math.ceil((1 - left) / self._rate)

    def spend(self, key: K) -> None:
        """Take one; there is never less than none."""
        if not self._rate:
            return
        self._buckets[key] = (max(self._left(key) - 1, 0.0), self._clock())
        self._buckets.move_to_end(key)
        if len(self._buckets) > MAX_KEYS:
            self._buckets.popitem(last=False)

    def _left(self, key: K) -> float:
        left, at = self._buckets.get(key, (self._burst, 0.0))
        return min(self._burst, left + (self._clock() - at) * self._rate)
