"""Failed sign-ins, counted before any password is hashed (threat T50)."""

import time
from collections import OrderedDict, deque
from collections.abc import Hashable

from admin_api import metrics
from admin_api.errors import TooManyRequests

MAX_FAILURES = 10
WINDOW = 300.0  # seconds
MAX_KEYS = 10_000  # the longest unused are forgotten first


class Failures:
    """At most MAX_FAILURES attempts per key and WINDOW that did not succeed; each process counts its own."""

    def __init__(self) -> None:
        self._attempts: OrderedDict[Hashable, deque[float]] = OrderedDict()

    def attempt(self, key: Hashable) -> None:
        """Count an attempt, which has failed until `succeeded`: many at once count too. Raises TooManyRequests."""
        now = time.monotonic()
        attempts = self._attempts.setdefault(key, deque(maxlen=MAX_FAILURES))
        self._attempts.move_to_end(key)
        while attempts and attempts[0] <= now - WINDOW:
            attempts.popleft()
        if len(attempts) == MAX_FAILURES:
            retry_after = int(attempts[0] + WINDOW - now) + 1
            metrics.SIGN_IN_THROTTLED.inc()
            raise TooManyRequests("too many failed sign-ins; wait before trying again", retry_after=retry_after)
        attempts.append(now)
        if len(self._attempts) > MAX_KEYS:
            self._attempts.popitem(last=False)

    def succeeded(self, key: Hashable) -> None:
        """Forget the key's attempts."""
        self._attempts.pop(key, None)
