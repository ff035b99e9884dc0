"""The promises, on a finished run."""

from collections.abc import Iterator

from chaos.linearizability import find_conflict
from chaos.simulator.clients import models
from chaos.simulator.store import describe, replayed
from chaos.simulator.world import World


def violations(world: World) -> Iterator[str]:
    """Every promise that the run broke, in words."""
    yield from world.store.violations
    yield from unlinearizable(world)
    yield from undecided(world)
    yield from unlike_the_log(world)
    yield from half_suspended(world)


def unlinearizable(world: World) -> Iterator[str]:
    """P4 (and P1, P3, P5, P6, of which it is made): each resource's history can be explained."""
    by_kind = models()
    for resource, ops in world.history.operations.items():
        if conflict := find_conflict(ops, by_kind[resource]):
            yield f"P4: {resource} is not linearizable:\n{conflict}"


def undecided(world: World) -> Iterator[str]:
    """P2: each record has its outcome, and there are no others."""
    store, log = world.store, world.log
    if store.next_offset != len(log.records):
        yield f"P2: the offset stands at {store.next_offset}, the log ends at {len(log.records)}"
    changes = {change.id: change for change in map(log.change, range(len(log.records)))}
    for change_id in changes.keys() - store.outcomes.keys():
        yield f"P2: no outcome for {describe(changes[change_id])}"
    for change_id in store.outcomes.keys() - changes.keys():
        yield f"P2: an outcome of {change_id}, which is not in the log"


def unlike_the_log(world: World) -> Iterator[str]:
    """P1, P2, P5: the log applied again from the start, one change at a time, gives the same outcomes and rows."""
    store = world.store
    if store.applied_at.keys() != set(range(len(world.log.records))):
        return  # said by `undecided`
    again = replayed(world.start, world.log.records, store.applied_at)
    for offset in range(len(world.log.records)):
        change = world.log.change(offset)
        if again.replies[change.id] != store.outcomes.get(change.id):
            yield f"P2: another outcome when the log is replayed: {describe(change)} (offset {offset})"
    for name, rows in vars(again).items():
        if without_empty(rows) != without_empty(vars(store.directory)[name]):
            yield f"P1: other {name.strip('_')} when the log is replayed"


def without_empty(rows: object) -> object:
    """Looking a key up in a defaultdict leaves an empty collection behind."""
    return {key: value for key, value in rows.items() if value not in (set(), {})} if isinstance(rows, dict) else rows


def half_suspended(world: World) -> Iterator[str]:
    """P6: an account is active if and only if its live user is."""
    for account in world.store.directory.accounts.values():
        user = world.store.directory.user_of(account.id)
        if account.is_active != bool(user and user.active):
            yield f"P6: the account of {user.user_name if user else 'a deleted user'} is active: {account.is_active}"
