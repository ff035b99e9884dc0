"""What the watchdog takes for a stall, and what it excuses."""

from collections.abc import Mapping

import pytest
from aiokafka import TopicPartition

from provisioner.watchdog import BUSY_PATIENCE, PATIENCE, Observer, Progress, Stalled, Watchdog

ONE = TopicPartition("scim.changes", 1)
ME = "provisioner-me"


class Scene:
    """A watchdog, and what it sees; `look` is told the seconds since the start."""

    def __init__(self) -> None:
        self.worker = Progress(applied=5, is_busy=False, waits=False)
        self.members = {ME}
        self.watchdog = Watchdog(Observer.__new__(Observer), ME, self.progress, self.is_away)
        self.start = self.watchdog._member_at

    def progress(self) -> Mapping[TopicPartition, Progress]:
        return {ONE: self.worker}

    async def is_away(self) -> bool:
        return False

    def look(self, second: float, end: int = 9) -> None:
        self.watchdog.look(self.start + second, {ONE: end}, self.members)


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_records_that_wait_too_long_are_a_stall(scene):
    scene.look(1)
    scene.look(1 + PATIENCE)

    with pytest.raises(Stalled, match=r"scim.changes/1 is applied up to offset 5, the log ends at 9"):
        scene.look(1.1 + PATIENCE)


def test_a_partition_without_new_records_is_no_stall(scene):
    scene.look(1, end=5)
    scene.look(10 * PATIENCE, end=5)
    scene.look(10 * PATIENCE + 1)
    scene.look(10 * PATIENCE + 2)


def test_slow_progress_is_no_stall(scene):
    for applied in range(5, 50):
        scene.worker = Progress(applied, is_busy=True, waits=False)
        scene.look(applied * PATIENCE, end=100)


def test_a_batch_in_hand_gets_more_time(scene):
    scene.worker = Progress(applied=5, is_busy=True, waits=False)
    scene.look(1)
    scene.look(1 + BUSY_PATIENCE)

    with pytest.raises(Stalled):
        scene.look(2 + BUSY_PATIENCE)


def test_a_batch_that_waits_for_postgres_is_excused_and_counted_from_then_on(scene):
    scene.worker = Progress(applied=5, is_busy=True, waits=True)
    scene.look(1)
    scene.look(10 * BUSY_PATIENCE)
    scene.worker = Progress(applied=5, is_busy=True, waits=False)
    scene.look(10 * BUSY_PATIENCE + 1)

    with pytest.raises(Stalled):
        scene.look(12 * BUSY_PATIENCE)


def test_a_partition_that_is_never_claimed_is_a_stall(scene):
    scene.worker = Progress(applied=None, is_busy=False, waits=False)
    scene.look(1, end=0)

    with pytest.raises(Stalled):
        scene.look(2 + PATIENCE, end=0)


def test_a_process_that_the_group_does_not_know_has_stalled(scene):
    scene.members = {"provisioner-another"}
    scene.worker = Progress(applied=9, is_busy=False, waits=False)
    scene.look(PATIENCE - 1)

    with pytest.raises(Stalled, match="member"):
        scene.look(PATIENCE + 1)
