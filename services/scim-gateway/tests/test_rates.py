"""Token buckets."""

from scim_gateway import rates
from scim_gateway.rates import Buckets


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_burst_passes_and_then_one_each_period():
    clock = Clock()
    buckets: Buckets[str] = Buckets(rate=0.5, burst=3, clock=clock)
    for _ in range(3):
        assert buckets.wait("a") == 0
        buckets.spend("a")
    assert buckets.wait("a") == 2
    assert buckets.wait("b") == 0
    clock.now += 1.9
    assert buckets.wait("a") == 1
    clock.now += 0.1
    assert buckets.wait("a") == 0


def test_no_more_than_a_burst_is_saved_up_or_owed():
    clock = Clock()
    buckets: Buckets[str] = Buckets(rate=1, burst=2, clock=clock)
    for _ in range(50):
        buckets.spend("a")
    assert buckets.wait("a") == 1
    clock.now += 1000
    buckets.spend("a")
    buckets.spend("a")
    assert buckets.wait("a") == 1


def test_a_rate_of_nothing_limits_nothing():
    buckets: Buckets[str] = Buckets(rate=0, burst=0)
    buckets.spend("a")
    assert buckets.wait("a") == 0


def test_only_so_many_keys_are_remembered(monkeypatch):
    monkeypatch.setattr(rates, "MAX_KEYS", 3)
    buckets: Buckets[int] = Buckets(rate=0.001, burst=1, clock=Clock())
    for key in range(5):
        buckets.spend(key)
    assert [buckets.wait(key) > 0 for key in range(5)] == [False, False, True, True, True]
