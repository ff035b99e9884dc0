"""What was found out a moment ago and need not be asked again."""

import time
from collections.abc import Callable, Hashable


class Recent[K: Hashable]:
    """Keys, each for `seconds`; the `size` that were added last."""

    def __init__(self, seconds: float, size: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._size = size
        self._clock = clock
        self._added: dict[K, float] = {}

    def add(self, key: K) -> None:
        self._added.pop(key, None)
        self._added[key] = self._clock()
        if len(self._added) > self._size:
            del self._added[next(iter(self._added))]

    def __contains__(self, key: K) -> bool:
        added = self._added.get(key)
        return added is not None and self._clock() < added + self._seconds
