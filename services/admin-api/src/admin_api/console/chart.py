"""The chart of the status page as numbers: bars for a drawing of 100 units in height that CSS stretches."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from admin_api.store.live import Hour

HEIGHT = 100.0
# What happened at all is seen, however much more there was of the other.
_VISIBLE = 2.0


@dataclass(frozen=True, slots=True)
class Bar:
    """An hour; `applied` stands on the ground, `refused` on `applied`."""

    hour: Hour
    x: int
    applied: float
    refused: float


@dataclass(frozen=True, slots=True)
class Chart:
    bars: list[Bar]
    top: int  # what the full height stands for

    @property
    def applied(self) -> int:
        return sum(bar.hour.applied for bar in self.bars)

    @property
    def refused(self) -> int:
        return sum(bar.hour.refused for bar in self.bars)

    @property
    def hours(self) -> list[datetime]:
        return [bar.hour.hour for bar in self.bars]


def chart_of(hours: Sequence[Hour]) -> Chart:
    """Bars of these hours."""
    top = nice(max((hour.applied + hour.refused for hour in hours), default=0))
    return Chart([_bar(hour, x, top) for x, hour in enumerate(hours)], top)


def nice(number: int) -> int:
    """The next round number, at least 4: an axis that ends there can be read."""
    step = 1
    while True:
        for top in (4 * step, 6 * step, 10 * step, 20 * step):
            if number <= top:
                return top
        step *= 10


def _bar(hour: Hour, x: int, top: int) -> Bar:
    refused = max(_VISIBLE, hour.refused / top * HEIGHT) if hour.refused else 0.0
    applied = max(_VISIBLE, hour.applied / top * HEIGHT) if hour.applied else 0.0
    return Bar(hour, x, round(min(applied, HEIGHT - refused), 2), round(refused, 2))
