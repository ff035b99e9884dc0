"""What clients asked for and what they were told: the only thing that linearizability is judged by."""

from collections.abc import Hashable
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import count
from math import inf


class End(StrEnum):
    """How an operation ended, as far as its client can know."""

    ANSWERED = "answered"
    REFUSED = "refused"
    """Certainly without effect: nothing was published, or nobody was reached."""
    UNKNOWN = "unknown"
    """It may take effect at any time after its invocation, once, or never."""


@dataclass(slots=True, eq=False)
class Op:
    """One operation on one resource; times are seconds of one clock, `result` is what the model compares."""

    number: int
    client: str
    name: str
    argument: Hashable
    invoked: float
    returned: float = inf
    result: Hashable = None
    end: End = End.UNKNOWN
    note: str = ""
    """For people: through which gateway, with what status."""

    def __str__(self) -> str:
        until = "..." if self.end is End.UNKNOWN else f"{self.returned:.3f}"
        answer = f" -> {self.result}" if self.end is End.ANSWERED else f" -> {self.end}"
        asked = f"{self.name} {self.argument}" if self.argument is not None else self.name
        return f"#{self.number} {self.client} [{self.invoked:.3f}, {until}] {asked}{answer} {self.note}".rstrip()


@dataclass(slots=True)
class History:
    """The operations on each resource, in the order of their invocation."""

    operations: dict[str, list[Op]] = field(default_factory=dict)
    _numbers: count = field(default_factory=lambda: count(1))

    def invoke(self, resource: str, client: str, name: str, argument: Hashable, at: float) -> Op:
        """Write down that `client` asks for something; it is unknown until it is ended."""
        op = Op(next(self._numbers), client, name, argument, at)
        self.operations.setdefault(resource, []).append(op)
        return op
