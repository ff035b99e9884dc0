"""Whether one resource's history can be explained by operations that each took effect at one instant.

The search of Wing & Gong with Lowe's memory of visited states. An operation of unknown end may take effect any time
after its invocation or never; those with the same effect are interchangeable, so only how many of them were used
counts.
"""

from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from math import inf

from chaos.history import End, Op
from chaos.models import READS, REJECTED, Model, reads_of

MAX_STATES = 2_000_000
SHOWN = 8  # operations of a conflict
KNOWN = object()


class Undecided(Exception):
    """Too many states to search; the history is neither proved nor refuted."""


@dataclass(frozen=True, slots=True)
class Conflict:
    """The first answer that cannot be explained, and the operations before it, the latest last."""

    answer: Op
    before: tuple[Op, ...]

    def __str__(self) -> str:
        lines = [f"    {op}" for op in self.before]
        return "\n".join([*lines, f"    {self.answer}   <- cannot be"])


@dataclass(frozen=True, slots=True)
class Node:
    """How far a search has come: the known operations used (bits), how many of each unknown effect, and the state.

    `base` is the state before the last operations when those are unknown ones, else KNOWN.
    """

    used: int
    effects: tuple[int, ...]
    state: Hashable
    base: Hashable = KNOWN


def find_conflict(ops: Sequence[Op], model: Model) -> Conflict | None:
    """None when the history is linearizable; raises Undecided."""
    if is_linearizable(ops, model):
        return None
    answered = sorted((op for op in ops if op.end is End.ANSWERED), key=lambda op: op.returned)
    good, bad = 0, len(answered)  # the first `good` answers can be explained, the first `bad` cannot
    while bad - good > 1:
        middle = (good + bad) // 2
        if is_linearizable(until(ops, answered[middle - 1].returned), model):
            good = middle
        else:
            bad = middle
    answer = answered[bad - 1]
    before = [op for op in ops if op.invoked <= answer.returned and op.end is not End.REFUSED and op is not answer]
    return Conflict(answer, tuple(sorted(before, key=lambda op: op.invoked)[-SHOWN:]))


def until(ops: Sequence[Op], end: float) -> list[Op]:
    """The history as it was known at `end`: what was not answered by then is unknown."""
    return [
        op if op.returned <= end else replace(op, returned=inf, end=End.UNKNOWN)
        for op in ops
        if op.invoked <= end and op.end is not End.REFUSED
    ]


def is_linearizable(ops: Sequence[Op], model: Model) -> bool:
    """Search for an order of the operations that gives each answer; raises Undecided."""
    known = sorted((op for op in ops if op.end is End.ANSWERED), key=lambda op: op.invoked)
    effects = unknown_effects(ops, model)
    everything = (1 << len(known)) - 1
    start = Node(0, (0,) * len(effects), model.initial)
    seen, waiting = {start}, [start]
    while waiting:
        node = waiting.pop()
        if node.used == everything:
            return True
        for following in successors(node, known, effects, model):
            if following not in seen:
                seen.add(following)
                waiting.append(following)
        if len(seen) > MAX_STATES:
            raise Undecided(f"{len(ops)} operations, {sum(map(len, effects))} of unknown end")
    return False


def unknown_effects(ops: Sequence[Op], model: Model) -> list[list[Op]]:
    """Operations of unknown end that may have left a trace, those of the same effect together, the earliest first."""
    seen = reads_of(ops)
    effects: defaultdict[Hashable, list[Op]] = defaultdict(list)
    for op in sorted(ops, key=lambda op: op.invoked):
        if op.end is End.UNKNOWN and op.name not in READS and model.is_visible(op, seen):
            effects[op.name, op.argument].append(op)
    return list(effects.values())


def successors(node: Node, known: Sequence[Op], effects: Sequence[Sequence[Op]], model: Model) -> list[Node]:
    """Every node that one more operation leads to; what should be tried first comes last.

    A read that fits is taken at once: it changes nothing, and later it would fit no better. An unknown operation is
    worth trying only directly before an answer that needs it: with any other one it could change places, or leave no
    trace.
    """
    possible, limit = next_known(node.used, known)
    following: list[Node] = []
    for number, (count, effect) in enumerate(zip(node.effects, effects, strict=True)):
        if count < len(effect) and effect[count].invoked <= limit:
            after = model.step(node.state, effect[count])
            if after != node.state:
                counts = (*node.effects[:number], count + 1, *node.effects[number + 1 :])
                following.append(Node(node.used, counts, after, node.state if node.base is KNOWN else node.base))
    for number in reversed(possible):
        after = model.step(node.state, known[number])
        if after is REJECTED or (node.base is not KNOWN and model.step(node.base, known[number]) is not REJECTED):
            continue
        advanced = Node(node.used | 1 << number, node.effects, after)
        if known[number].name in READS:
            return [advanced]
        following.append(advanced)
    return following


def next_known(used: int, known: Sequence[Op]) -> tuple[list[int], float]:
    """The known operations that may come next, and the first return among those left: what began later must wait."""
    first = (~used & (used + 1)).bit_length() - 1
    possible, limit = [], inf
    for number in range(first, len(known)):
        if used >> number & 1:
            continue
        if known[number].invoked > limit:
            break
        possible.append(number)
        limit = min(limit, known[number].returned)
    return possible, limit
