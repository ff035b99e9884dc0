"""Virtual time: tasks are generators that yield what they wait for, and one seed orders everything.

A task yields seconds to sleep, or a Wait. It belongs to a home, a simulated process that can be killed or paused with
all its tasks.
"""

import heapq
import random
from collections.abc import Generator
from dataclasses import dataclass, field
from itertools import count
from typing import Any


class Event:
    """Something that happens once; whoever waits goes on."""

    def __init__(self) -> None:
        self.is_set = False
        self.value: Any = None
        self._waiting: list[tuple[Scheduler, Task, int]] = []

    def set(self, value: Any = None) -> None:
        """The first value stays."""
        if self.is_set:
            return
        self.is_set, self.value = True, value
        for scheduler, task, step in self._waiting:
            scheduler.resume(task, step, answer=True)

    def wake(self, scheduler: "Scheduler", task: "Task", step: int) -> None:
        self._waiting.append((scheduler, task, step))


@dataclass(frozen=True, slots=True)
class Wait:
    """Wait for `event`, at most `timeout` seconds; the yield answers whether it came."""

    event: Event
    timeout: float


type Work[T] = Generator[float | Wait, bool, T]


@dataclass(slots=True, eq=False)
class Task:
    work: Work[None]
    home: "Home"
    step: int = 0  # which of its waits it is in: a timeout that comes after the event is of an earlier one


@dataclass(slots=True, eq=False)
class Home:
    """A process: `life` counts its starts; a task of an earlier life never runs again."""

    name: str
    is_alive: bool = True
    paused_until: float = 0.0
    tasks: set[Task] = field(default_factory=set)
    calls: dict[Event, None] = field(default_factory=dict)
    """What others wait for from this process; broken off when it dies."""

    def kill(self) -> None:
        self.is_alive, self.paused_until = False, 0.0
        self.tasks.clear()
        for call in list(self.calls):
            call.set(None)
        self.calls.clear()


class Scheduler:
    """Runs the tasks in the order of virtual time; those of the same instant in an order that the seed draws."""

    def __init__(self, seed: int) -> None:
        self.now = 0.0
        self.dice = random.Random(seed)
        self._heap: list[tuple[float, float, int, Task, int, bool]] = []
        self._numbers = count()

    def spawn(self, home: Home, work: Work[None]) -> None:
        task = Task(work, home)
        home.tasks.add(task)
        self._push(self.now, task, True)

    def resume(self, task: Task, step: int, *, answer: bool) -> None:
        if task.step == step:
            self._push(self.now, task, answer)

    def run(self, until: float) -> None:
        """Run everything that is due before `until`."""
        while self._heap and self._heap[0][0] <= until:
            at, _, _, task, step, answer = heapq.heappop(self._heap)
            self.now = max(self.now, at)
            if task not in task.home.tasks or task.step != step:
                continue
            if task.home.paused_until > self.now:
                self._push(task.home.paused_until, task, answer)
            else:
                self._advance(task, answer)
        self.now = max(self.now, until)

    def _advance(self, task: Task, answer: bool) -> None:
        try:
            wanted = task.work.send(answer if task.step else None)  # type: ignore[arg-type] - a generator starts with None
        except StopIteration:
            task.home.tasks.discard(task)
            return
        task.step += 1
        if isinstance(wanted, Wait):
            if wanted.event.is_set:
                self._push(self.now, task, True)
                return
            wanted.event.wake(self, task, task.step)
            self._push(self.now + wanted.timeout, task, False)
        else:
            self._push(self.now + wanted, task, True)

    def _push(self, at: float, task: Task, answer: bool) -> None:
        heapq.heappush(self._heap, (at, self.dice.random(), next(self._numbers), task, task.step, answer))
