"""What a resource is to its clients: its states, and which answers each state allows.

`step` gives the state after an operation, or REJECTED when the operation's answer cannot have been given in that state;
an operation whose end is unknown has no answer to compare.
"""

from collections.abc import Hashable, Iterable
from typing import Protocol

from chaos.history import End, Op

REJECTED = object()
READS = ("read", "find")

type User = tuple[Hashable, Hashable]  # label, id


class Model(Protocol):
    """A resource's state machine; states are hashable."""

    @property
    def initial(self) -> Hashable: ...

    def step(self, state: Hashable, op: Op) -> Hashable: ...

    def is_visible(self, op: Op, seen: set[Hashable]) -> bool:
        """Whether an unknown operation could have left a trace; `seen` holds the results of all reads."""
        ...


def reads_of(ops: Iterable[Op]) -> set[Hashable]:
    """What was read; the members of sets one by one."""
    seen: set[Hashable] = set()
    for op in ops:
        if op.end is End.ANSWERED and op.name in READS:
            seen.update(op.result if isinstance(op.result, frozenset) else [op.result])
    return seen


class Register:
    """One attribute of one user: `write value`, `read -> value`."""

    def __init__(self, initial: Hashable) -> None:
        self.initial = initial

    def step(self, state: Hashable, op: Op) -> Hashable:
        if op.name == "write":
            return op.argument
        return state if op.result == state else REJECTED

    def is_visible(self, op: Op, seen: set[Hashable]) -> bool:
        return op.argument in seen


class Members:
    """A group: `add user`, `remove user`, `read -> frozenset of users`."""

    initial: frozenset[Hashable] = frozenset()

    def step(self, state: Hashable, op: Op) -> Hashable:
        assert isinstance(state, frozenset)
        if op.name == "add":
            return state | {op.argument}
        if op.name == "remove":
            return state - {op.argument}
        return state if op.result == state else REJECTED

    def is_visible(self, op: Op, seen: set[Hashable]) -> bool:
        return True


class Names:
    """Some userNames and their users: `create (user, name)`, `rename (user, name)`, `delete user`, `find name -> user`.

    A user is (label, id): a create that is repeated has the same label, and would make another id. A state is a
    frozenset of (name, user). The result of a write is its HTTP status; that of a create which is answered 201 is the
    user: the new one, or the one that an earlier try has made.
    """

    initial: frozenset[tuple[Hashable, Hashable]] = frozenset()

    def step(self, state: Hashable, op: Op) -> Hashable:
        assert isinstance(state, frozenset)
        if op.name == "find":
            return state if op.result == dict(state).get(op.argument) else REJECTED
        after, allowed = getattr(self, f"_{op.name}")(state, op.argument)
        return after if op.end is End.UNKNOWN or op.result in allowed else REJECTED

    def _create(self, state: frozenset, argument: tuple[User, Hashable]) -> tuple[frozenset, tuple[Hashable, ...]]:
        user, name = argument
        holder = dict(state).get(name)
        if holder is None:
            return state | {(name, user)}, (user,)
        return state, (409, holder) if holder[0] == user[0] else (409,)

    def _rename(self, state: frozenset, argument: tuple[User, Hashable]) -> tuple[frozenset, tuple[int, ...]]:
        user, name = argument
        before = {entry for entry in state if entry[1] == user}
        if not before:
            return state, (404,)
        if dict(state).get(name) not in (None, user):
            return state, (409,)
        return state - before | {(name, user)}, (200,)

    def _delete(self, state: frozenset, user: User) -> tuple[frozenset, tuple[int, ...]]:
        before = {entry for entry in state if entry[1] == user}
        return state - before, (204,) if before else (404,)

    def is_visible(self, op: Op, seen: set[Hashable]) -> bool:
        return True
