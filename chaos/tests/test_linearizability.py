"""The history checker itself: what can be explained, what cannot, and how fast."""

import random
import time
from collections.abc import Hashable
from math import inf

import pytest

from chaos.history import End, Op
from chaos.linearizability import find_conflict, is_linearizable
from chaos.models import REJECTED, Members, Model, Names, Register


def op(name: str, argument: Hashable, invoked: float, returned: float, result: Hashable = None) -> Op:
    return Op(0, "c", name, argument, invoked, returned, result, End.ANSWERED)


def unknown(name: str, argument: Hashable, invoked: float) -> Op:
    return Op(0, "c", name, argument, invoked)


def refused(name: str, argument: Hashable, invoked: float, returned: float) -> Op:
    return Op(0, "c", name, argument, invoked, returned, end=End.REFUSED)


U, V, W = ("u", 1), ("v", 1), ("w", 1)  # label and id
U_AGAIN = ("u", 2)

EXPLAINED: dict[str, tuple[Model, list[Op]]] = {
    "a read during a write sees either value": (
        Register("a"),
        [op("write", "b", 0, 10), op("read", None, 1, 2, "a"), op("read", None, 3, 4, "b")],
    ),
    "two writes at a time end in either order": (
        Register("a"),
        [op("write", "b", 0, 10), op("write", "c", 0, 10), op("read", None, 11, 12, "b")],
    ),
    "an unknown write may take effect late": (
        Register("a"),
        [unknown("write", "b", 0), op("read", None, 1, 2, "a"), op("read", None, 50, 51, "b")],
    ),
    "an unknown write may never take effect": (
        Register("a"),
        [unknown("write", "b", 0), op("read", None, 50, 51, "a")],
    ),
    "an unknown write before and after a known one": (
        Register(True),
        [unknown("write", False, 0), op("write", True, 1, 2), op("read", None, 3, 4, False)],
    ),
    "members come and go": (
        Members(),
        [op("add", "u", 0, 1), op("add", "v", 0, 1), op("remove", "u", 2, 3), op("read", None, 4, 5, frozenset("v"))],
    ),
    "a name is free again after its user was renamed": (
        Names(),
        [
            op("create", (U, "ada"), 0, 1, U),
            op("create", (V, "ada"), 2, 3, 409),
            op("rename", (U, "bob"), 4, 5, 200),
            op("create", (W, "ada"), 6, 7, W),
            op("find", "ada", 8, 9, W),
            op("find", "bob", 8, 9, U),
        ],
    ),
    "a create that was not answered takes its name": (
        Names(),
        [unknown("create", (U, "ada"), 0), op("create", (V, "ada"), 2, 3, 409), op("find", "ada", 4, 5, U)],
    ),
    "a create that is repeated is answered with the user of its first try": (
        Names(),
        [unknown("create", (U, "ada"), 0), op("create", (U_AGAIN, "ada"), 2, 3, U), op("delete", U, 4, 5, 204)],
    ),
    "a create that is repeated is refused": (
        Names(),
        [unknown("create", (U, "ada"), 0), op("create", (U_AGAIN, "ada"), 2, 3, 409), op("find", "ada", 4, 5, U)],
    ),
}

REFUTED: dict[str, tuple[Model, list[Op]]] = {
    "a stale read": (Register("a"), [op("write", "b", 0, 1), op("read", None, 2, 3, "a")]),
    "a lost write": (
        Register("a"),
        [op("write", "b", 0, 1), op("write", "c", 2, 3), op("read", None, 4, 5, "b")],
    ),
    "two readers that disagree about the order": (
        Register("a"),
        [
            *(op("write", "b", 0, 20), op("write", "c", 0, 20)),
            *(op("read", None, 1, 2, "b"), op("read", None, 3, 4, "c"), op("read", None, 5, 6, "b")),
        ],
    ),
    "a write that was refused and seen": (
        Register("a"),
        [refused("write", "b", 0, 1), op("read", None, 2, 3, "b")],
    ),
    "an unknown write that took effect twice": (
        Register("a"),
        [
            *(unknown("write", "b", 0), op("read", None, 1, 2, "b"), op("write", "c", 3, 4)),
            *(op("read", None, 5, 6, "c"), op("read", None, 7, 8, "b")),
        ],
    ),
    "a reactivation out of nothing": (Register(True), [op("write", False, 0, 1), op("read", None, 2, 3, True)]),
    "a lost member": (
        Members(),
        [op("add", "u", 0, 1), op("add", "v", 0, 2), op("read", None, 3, 4, frozenset("v"))],
    ),
    "two users of one name": (
        Names(),
        [op("create", (U, "ada"), 0, 1, U), op("create", (V, "ada"), 2, 3, V)],
    ),
    "a create that is repeated and makes another user": (
        Names(),
        [op("create", (U, "ada"), 0, 1, U), op("create", (U_AGAIN, "ada"), 2, 3, U_AGAIN)],
    ),
    "a name that is taken by nobody": (
        Names(),
        [op("create", (U, "ada"), 0, 1, 409), op("find", "ada", 2, 3, None)],
    ),
}


@pytest.mark.parametrize("case", EXPLAINED)
def test_what_can_be_explained_is_no_conflict(case: str):
    model, ops = EXPLAINED[case]

    assert find_conflict(ops, model) is None


@pytest.mark.parametrize("case", REFUTED)
def test_what_cannot_be_explained_is_a_conflict(case: str):
    model, ops = REFUTED[case]

    assert find_conflict(ops, model) is not None


def test_a_conflict_names_the_first_answer_too_many_and_what_led_to_it():
    ops = [op("write", "b", 0, 1), op("read", None, 2, 3, "a"), op("write", "c", 4, 5), op("read", None, 6, 7, "c")]

    conflict = find_conflict(ops, Register("a"))

    assert conflict is not None
    assert (conflict.answer, conflict.before) == (ops[1], (ops[0],))
    assert "write b" in str(conflict)


def simulated(seed: int, length: int) -> list[Op]:
    """A history of 16 clients on a register that is atomic: each operation takes effect at one instant within it."""
    dice = random.Random(seed)
    instants: list[tuple[float, Op]] = []
    for client in range(16):
        at = 0.0
        for turn in range(length // 16):
            invoked, at = at + dice.random(), at + 1 + dice.random() * 3
            made = Op(0, str(client), "write", f"{client}-{turn}", invoked, at, end=End.ANSWERED)
            if dice.random() < 0.5:
                made.name, made.argument = "read", None
            elif dice.random() < 0.2:
                made.end, made.returned = End.UNKNOWN, inf
            instants.append((dice.uniform(invoked, at), made))
    state: Hashable = "0"
    for _, made in sorted(instants, key=lambda pair: pair[0]):
        if made.name == "write":
            state = made.argument
        made.result = state
    return [made for _, made in instants]


def test_histories_of_300_operations_at_16_clients_are_decided_quickly():
    began = time.process_time()

    for seed in range(2):
        ops = simulated(seed, 300)
        assert is_linearizable(ops, Register("0"))
        reads = [each for each in ops if each.name == "read" and each.invoked > 30]
        reads[0].result = "0"  # a value that was overwritten long ago
        assert not is_linearizable(ops, Register("0"))

    assert time.process_time() - began < 10


def random_history(dice: random.Random, model: Model) -> list[Op]:
    """A few operations with answers that may or may not be right."""
    users, names = [U, U_AGAIN, V], "ab"
    ops = []
    for _ in range(dice.randrange(2, 7)):
        invoked = dice.randrange(8)
        made = op("read", None, invoked, invoked + dice.randrange(1, 6))
        if isinstance(model, Register):
            made.name, made.argument, made.result = (
                dice.choice(["write", "read"]),
                dice.choice("xyz"),
                dice.choice("xyz"),
            )
        elif isinstance(model, Members):
            made.name, made.argument = dice.choice(["add", "remove", "read"]), dice.choice(users)
            made.result = frozenset(dice.sample(users, dice.randrange(3)))
        else:
            made.name = dice.choice(["create", "rename", "delete", "find"])
            made.argument = {"delete": dice.choice(users), "find": dice.choice(names)}.get(
                made.name, (dice.choice(users), dice.choice(names))
            )
            made.result = dice.choice([*users, None] if made.name == "find" else [*users, 200, 204, 404, 409])
        if dice.random() < 0.3:
            made.end, made.returned = End.UNKNOWN, inf
        ops.append(made)
    return ops


def by_trying_everything(ops: list[Op], model: Model) -> bool:
    """Linearizability by its definition: every order of the answered and of any of the unknown operations."""
    known = frozenset(number for number, each in enumerate(ops) if each.end is End.ANSWERED)

    def search(left: frozenset[int], state: Hashable) -> bool:
        if not left & known:
            return True
        limit = min(ops[number].returned for number in left & known)
        for number in left:
            if ops[number].invoked <= limit:
                after = model.step(state, ops[number])
                if after is not REJECTED and search(left - {number}, after):
                    return True
        return False

    return search(frozenset(range(len(ops))), model.initial)


@pytest.mark.parametrize("model", [Register("x"), Members(), Names()], ids=lambda model: type(model).__name__)
def test_the_search_agrees_with_trying_everything(model: Model):
    dice = random.Random(1)
    answers = []

    for _ in range(1500):
        ops = random_history(dice, model)
        answers.append(by_trying_everything(ops, model))
        assert is_linearizable(ops, model) is answers[-1], "\n".join(map(str, ops))

    assert 100 < sum(answers) < 1400
