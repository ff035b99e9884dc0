"""A batch of records: decided one by one, gathered into results. Pure, like the rules."""

from collections.abc import Iterable, Iterator
from datetime import datetime
from itertools import groupby

from contracts import Change, ResourceType
from provisioner import rules
from provisioner.records import Item, Poison, Record
from provisioner.results import Results
from provisioner.state import Directory
from servicekit.logs import describe

QUARANTINED = "The change could not be applied because of a fault on our side; it is kept for the operator"


def split(items: Iterable[Item]) -> Iterator[list[Item]]:
    """Runs that may be decided together."""
    for _, run in groupby(enumerate(items), key=_run_of):
        yield [item for _, item in run]


def _run_of(numbered: tuple[int, Item]) -> int:
    position, (_, item) = numbered
    return position if isinstance(item, Change) and stands_alone(item) else -1


def stands_alone(change: Change) -> bool:
    """The deletion of a connection, whose users are not loaded, and what is rehearsed first."""
    return change.resource_type is ResourceType.CONNECTION or is_rehearsed(change)


def is_rehearsed(change: Change) -> bool:
    """Whether its outcome tells the effects, which are known only when everything has been written once."""
    return bool(change.dry_run) or change.resource_type is ResourceType.GROUP_MAPPING


def decide_all(directory: Directory, items: Iterable[Item], applied_at: datetime) -> Results:
    """Decide each change on the state that those before it left; one that fails leaves the state as it was.

    Ends early before a change that asks for roles which the changes before it may have moved (Results.taken).
    """
    results = Results(rested=directory.rested_tokens)
    for record, item in items:
        if isinstance(item, Poison):
            quarantine(results, item)
        elif item.id in directory.replies:
            results.answer(item, directory.replies[item.id])
        elif not _decide_one(directory, results, record, item, applied_at):
            break
        else:
            directory.replies[item.id] = results.decided[-1][2]
        results.taken += 1
    return results


def quarantine(results: Results, poison: Poison) -> None:
    """Set the record aside; a change that could be read gets its outcome, 500."""
    results.poison.append(poison)
    if poison.change:
        results.add(poison.change, _fault(poison.change))


def _decide_one(directory: Directory, results: Results, record: Record, change: Change, applied_at: datetime) -> bool:
    """Decide and take in one change; False when it must wait for the changes before it to be written."""
    try:
        if change.changes is not None:
            return _decide_bulk(directory, results, record, change, applied_at)
        decision = rules.decide(directory, change, applied_at)
    except Exception as error:  # a bug in a rule: this change alone is not applied, its record set aside
        results.poison.append(Poison(record, describe(error), change))
        decision = _fault(change)
    if not results.roles.admit(directory, change, decision):
        return False
    rules.apply(directory, change, decision)
    results.add(change, decision)
    return True


def _decide_bulk(directory: Directory, results: Results, record: Record, bulk: Change, applied_at: datetime) -> bool:
    """Each operation on the state that those before it left, until `fail_on_errors` of them were refused."""
    if results.roles:
        return False
    decision = rules.refused(directory, bulk)
    if decision is None:
        results.roles.is_bulk = True
        first, errors = len(results.decided), 0
        for change in bulk.changes or ():
            _decide_one(directory, results, record, change, applied_at)
            errors += results.decided[-1][1].status >= 400
            if bulk.fail_on_errors and errors >= bulk.fail_on_errors:
                break
        # The answer names the resource; whoever wants to see it can read it.
        outcomes = [outcome.model_copy(update={"resource": None}) for _, outcome, _ in results.decided[first:]]
        decision = rules.Decision(rules.succeeded(bulk, 200).model_copy(update={"outcomes": outcomes}))
        results.roles.is_bulk = False
    results.add(bulk, decision)
    return True


def _fault(change: Change) -> rules.Decision:
    return rules.Decision(rules.failed(change, 500, None, QUARANTINED))
