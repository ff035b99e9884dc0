"""What several of the tests need."""

import time
from collections.abc import Callable

import pytest


@pytest.fixture
def cpu_seconds() -> Callable[[Callable[[], object]], float]:
    """The CPU time that a piece of work takes, at best of five: what a hostile input may cost (threats T29, T33, T37).

    Not the time of the clock: another process, or a garbage collection, is not the input's fault.
    """

    def measure(work: Callable[[], object]) -> float:
        spent = []
        for _ in range(5):
            started = time.process_time()
            work()
            spent.append(time.process_time() - started)
        return min(spent)

    return measure
