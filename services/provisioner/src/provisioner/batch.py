"""A batch of records: decoded, decided one by one, gathered into rows. Pure, like the rules."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from itertools import groupby
from uuid import NAMESPACE_URL, UUID, uuid5

import orjson
from pydantic import ValidationError

from contracts import CHANGE_VERSION, Change, Operation, Outcome, ResourceType
from provisioner import rules
from provisioner.state import Account, Directory, Group, Link, Tombstone, User
from servicekit.logs import describe

QUARANTINED = "The change could not be applied because of a fault on our side; it is kept for the operator"


@dataclass(frozen=True, slots=True)
class Record:
    """One Kafka record of `scim.changes`."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    sent_at: int = 0  # Unix milliseconds


@dataclass(frozen=True, slots=True)
class Poison:
    """A record that cannot be applied, with what is known of it."""

    record: Record
    error: str
    change: Change | None = None

    @property
    def id(self) -> UUID:
        """The same for the same record, so that a redelivery does not quarantine it twice."""
        return uuid5(NAMESPACE_URL, f"kafka:{self.record.topic}/{self.record.partition}/{self.record.offset}")


class NewerVersion(Exception):
    """A record from a newer release: a mistake in the order of a roll-out, not poison. The consumer must stop."""


type Item = tuple[Record, Change | Poison]


@dataclass(frozen=True, slots=True)
class Reply:
    """An outcome on its way to the gateway that waits for it."""

    change_id: UUID
    partition: int
    value: bytes
    traceparent: str | None = None


@dataclass(slots=True)
class Results:
    """What a batch decided: the rows to write, each in its last state, and the replies to send afterwards."""

    decided: list[tuple[Change, Outcome, bytes]] = field(default_factory=list)
    replies: list[Reply] = field(default_factory=list)
    poison: list[Poison] = field(default_factory=list)
    links: list[Link] = field(default_factory=list)
    removed_groups: list[UUID] = field(default_factory=list)
    closed_connections: list[UUID] = field(default_factory=list)
    _users: dict[UUID, User] = field(default_factory=dict)
    _accounts: dict[UUID, Account] = field(default_factory=dict)
    _tombstones: dict[UUID, Tombstone] = field(default_factory=dict)
    _groups: dict[UUID, Group] = field(default_factory=dict)
    _memberships: dict[tuple[UUID, UUID], str | None] = field(default_factory=dict)

    @property
    def users(self) -> list[User]:
        return list(self._users.values())

    @property
    def accounts(self) -> list[Account]:
        return list(self._accounts.values())

    @property
    def tombstones(self) -> list[Tombstone]:
        return list(self._tombstones.values())

    @property
    def groups(self) -> list[Group]:
        return list(self._groups.values())

    @property
    def joined(self) -> list[tuple[UUID, UUID, str]]:
        """Group, member and its type, of every membership that stands at the end."""
        return [(*pair, member_type) for pair, member_type in self._memberships.items() if member_type]

    @property
    def left(self) -> list[tuple[UUID, UUID]]:
        """Group and member of every membership that does not."""
        return [pair for pair, member_type in self._memberships.items() if not member_type]

    @property
    def tokens(self) -> list[UUID]:
        """The tokens whose changes were applied or refused by a rule: they were in use."""
        return list(
            {change.token_id for change, outcome, _ in self.decided if change.token_id and outcome.status != 401}
        )

    def add(self, change: Change, decision: rules.Decision) -> None:
        """Take a decision in."""
        reply = decision.outcome.model_dump_json(exclude_none=True).encode()
        self.decided.append((change, decision.outcome, reply))
        self.answer(change, reply)
        if decision.user:
            self._users[decision.user.id] = decision.user
        if decision.removed_user:
            self._users.pop(decision.removed_user.id, None)
            self._tombstones[decision.removed_user.id] = decision.removed_user
        self._take_groups(decision)
        if decision.account:
            self._accounts[decision.account.id] = decision.account
        if decision.link:
            self.links.append(decision.link)
        if decision.closed_connection:
            self.closed_connections.append(decision.closed_connection)

    def _take_groups(self, decision: rules.Decision) -> None:
        for group in decision.groups:
            self._groups[group.id] = group
        for pair in decision.left:
            self._memberships[pair] = None
        for group_id, member_id, member_type in decision.joined:
            self._memberships[group_id, member_id] = member_type
        if removed := decision.removed_group:
            self.removed_groups.append(removed)
            self._groups.pop(removed, None)
            self._memberships = {pair: kind for pair, kind in self._memberships.items() if pair[0] != removed}

    def answer(self, change: Change, reply: bytes) -> None:
        """Send `reply` to the gateway that waits, if one does."""
        if change.reply_partition is not None:
            self.replies.append(Reply(change.id, change.reply_partition, reply, change.traceparent))

    def counts(self, at: datetime) -> list[tuple[UUID, int, int, datetime | None, datetime | None]]:
        """Per connection: users and groups gained or lost, and when a change succeeded and when one failed."""
        counted: dict[UUID, Counted] = defaultdict(Counted)
        for change, outcome, _ in self.decided:
            counted[change.connection_id].take(change, outcome)
        return [
            (connection, count.users, count.groups, at if count.succeeded else None, at if count.failed else None)
            for connection, count in counted.items()
        ]


@dataclass(slots=True)
class Counted:
    """What a batch did to one connection."""

    users: int = 0
    groups: int = 0
    succeeded: bool = False
    failed: bool = False

    def take(self, change: Change, outcome: Outcome) -> None:
        if outcome.status >= 400:
            self.failed = True
            return
        self.succeeded = True
        if change.resource_type is ResourceType.USER:
            self.users += _gained(change, outcome)
        elif change.resource_type is ResourceType.GROUP:
            self.groups += _gained(change, outcome)


def _gained(change: Change, outcome: Outcome) -> int:
    if change.operation is Operation.DELETE:
        return -1
    # A repeated create is answered with the resource that the first one made.
    return 1 if outcome.status == 201 and outcome.resource_id == change.resource_id else 0


def decode(record: Record) -> Change | Poison:
    """The record's change; raises NewerVersion."""
    try:
        return Change.model_validate_json(record.value or b"")
    except ValidationError as error:
        return _undecodable(record, error)


def split(items: Iterable[Item]) -> Iterator[list[Item]]:
    """Runs that may be decided together: the deletion of a connection stands alone, for its users are not loaded."""
    for _, run in groupby(enumerate(items), key=_run_of):
        yield [item for _, item in run]


def _run_of(numbered: tuple[int, Item]) -> int:
    position, (_, item) = numbered
    stands_alone = isinstance(item, Change) and item.resource_type is ResourceType.CONNECTION
    return position if stands_alone else -1


def decide_all(directory: Directory, items: Iterable[Item], applied_at: datetime) -> Results:
    """Decide each change on the state that those before it left; one that fails leaves the state as it was."""
    results = Results()
    for record, item in items:
        if isinstance(item, Poison):
            quarantine(results, item)
        elif item.id in directory.replies:
            results.answer(item, directory.replies[item.id])
        else:
            _decide_one(directory, results, record, item, applied_at)
            directory.replies[item.id] = results.decided[-1][2]
    return results


def quarantine(results: Results, poison: Poison) -> None:
    """Set the record aside; a change that could be read gets its outcome, 500."""
    results.poison.append(poison)
    if poison.change:
        results.add(poison.change, _fault(poison.change))


def _decide_bulk(
    directory: Directory, results: Results, record: Record, bulk: Change, applied_at: datetime
) -> rules.Decision:
    """Each operation on the state that those before it left, until `fail_on_errors` of them were refused."""
    if refused := rules.refused(directory, bulk):
        return refused
    outcomes: list[Outcome] = []
    errors = 0
    for change in bulk.changes or ():
        outcome = _decide_one(directory, results, record, change, applied_at)
        # The answer names the resource; whoever wants to see it can read it.
        outcomes.append(outcome.model_copy(update={"resource": None}))
        errors += outcome.status >= 400
        if bulk.fail_on_errors and errors >= bulk.fail_on_errors:
            break
    return rules.Decision(rules.succeeded(bulk, 200).model_copy(update={"outcomes": outcomes}))


def _decide_one(
    directory: Directory, results: Results, record: Record, change: Change, applied_at: datetime
) -> Outcome:
    try:
        if change.changes is None:
            decision = rules.decide(directory, change, applied_at)
        else:
            decision = _decide_bulk(directory, results, record, change, applied_at)
    except Exception as error:  # a bug in a rule: this change alone is not applied, its record set aside
        results.poison.append(Poison(record, describe(error), change))
        decision = _fault(change)
    rules.apply(directory, decision)
    results.add(change, decision)
    return decision.outcome


def _fault(change: Change) -> rules.Decision:
    return rules.Decision(rules.failed(change, 500, None, QUARANTINED))


def _undecodable(record: Record, error: ValidationError) -> Poison:
    try:
        seen = orjson.loads(record.value or b"")
    except orjson.JSONDecodeError:
        return Poison(record, "not JSON")
    if not isinstance(seen, dict):
        return Poison(record, "not a JSON object")
    version = seen.get("version")
    if isinstance(version, int) and version > CHANGE_VERSION:
        raise NewerVersion(
            f"record {record.topic}/{record.partition}@{record.offset} has version {version}, "
            f"this release knows up to {CHANGE_VERSION}: deploy the newer provisioner"
        )
    where = sorted({".".join(str(part) for part in problem["loc"]) for problem in error.errors(include_input=False)})
    return Poison(record, f"not a change: {', '.join(where)[:500]}")
