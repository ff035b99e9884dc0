"""The processes around the store, and the faults that befall them."""

from dataclasses import dataclass, field, fields, replace
from datetime import timedelta
from enum import StrEnum
from uuid import UUID

from chaos.history import History
from chaos.simulator.scheduler import Event, Home, Scheduler, Wait, Work
from chaos.simulator.store import Claim, Duplicate, FenceFailed, Log, Store, at, new_directory
from contracts import Change, Outcome
from provisioner.batch import decide_all
from provisioner.records import Record, decode
from provisioner.results import Results
from provisioner.state import Connection, Directory

SESSION_TIMEOUT = 6.0  # seconds without a heartbeat after which the group gives a partition to another
DEADLINE = 10.0  # seconds that a gateway waits for an outcome
POLL_AFTER, POLL_EVERY = 2.0, 0.25  # seconds; how a gateway asks for an outcome whose reply does not come
NOT_ACCEPTED = 503
UNKNOWN = 504  # a 503 whose detail says that the outcome is unknown


class Bug(StrEnum):
    """Mistakes that the checks must notice."""

    NO_FENCE = "no-fence"
    ADVANCE_FIRST = "advance-first"
    REPLY_FIRST = "reply-first"


class ClaimLost(Exception):
    """Another provisioner has the partition."""


class ConnectionLost(Exception):
    """The store did not answer: what was asked may have been done."""


@dataclass(slots=True)
class Odds:
    """How likely each fault is, by seed; 0 once the world is healed."""

    lost_reply: float = 0.0
    failed_commit: float = 0.0
    ambiguous_commit: float = 0.0
    not_accepted: float = 0.0
    slow_publish: float = 0.0


@dataclass(slots=True)
class World:
    """Everything of one run."""

    scheduler: Scheduler
    log: Log
    store: Store
    start: Directory
    connection: Connection
    token_id: UUID
    bug: Bug | None
    odds: Odds
    history: History = field(default_factory=History)
    provisioners: list[Home] = field(default_factory=lambda: [Home("provisioner-1"), Home("provisioner-2")])
    gateways: list[Home] = field(default_factory=lambda: [Home("gateway-1"), Home("gateway-2")])
    network: Home = field(default_factory=lambda: Home("network"))
    owner: Home | None = None
    replies: dict[UUID, Event] = field(default_factory=dict)
    grown: Event = field(default_factory=Event)
    faults: int = 0
    deaths: int = 0
    """Of a process between a publication and its answer."""

    def happens(self, odds: float) -> bool:
        if odds and self.scheduler.dice.random() < odds:
            self.faults += 1
            return True
        return False

    def delay(self, longest: float = 0.02) -> float:
        return self.scheduler.dice.random() * longest

    def new_id(self) -> UUID:
        return UUID(int=self.scheduler.dice.getrandbits(128))

    def append(self, change: Change) -> None:
        self.log.append(change)
        grown, self.grown = self.grown, Event()
        grown.set()


def new_world(seed: int, bug: Bug | None = None) -> World:
    """A directory with one connection, two provisioners, two gateways, and the odds that the seed draws."""
    scheduler = Scheduler(seed)
    dice = scheduler.dice
    connection = Connection(UUID(int=1), UUID(int=2), is_open=True, has_plan=True, link_existing_accounts=False)
    start = new_directory(connection, UUID(int=3))
    log = Log()
    likely = [0.0, 0.02, 0.1, 0.3]
    odds = Odds(*[dice.choice(likely) for _ in fields(Odds)])
    world = World(scheduler, log, Store(log, start), start, connection, UUID(int=3), bug, odds)
    for home in world.provisioners:
        scheduler.spawn(home, provision(world, home))
    scheduler.spawn(world.network, coordinate(world))
    return world


# --- the consumer group --------------------------------------------------------------------------------------------


def coordinate(world: World) -> Work[None]:
    """Give the partition to a provisioner that lives, and to another when it was silent for too long."""
    silent_since = 0.0
    while True:
        yield 0.5
        now, owner = world.scheduler.now, world.owner
        if owner and owner.is_alive and owner.paused_until <= now:
            silent_since = now
        elif owner is None or not owner.is_alive or now - silent_since > SESSION_TIMEOUT:
            living = [home for home in world.provisioners if home.is_alive and home.paused_until <= now]
            world.owner = world.scheduler.dice.choice(living) if living else None
            silent_since = now


# --- a provisioner -------------------------------------------------------------------------------------------------


def provision(world: World, home: Home) -> Work[None]:
    """Apply the log while the group says that the partition is ours."""
    while True:
        while world.owner is not home:
            yield 0.2
        yield world.delay()
        claim = world.store.claim(home.name)
        try:
            while world.owner is home:
                records = world.log.records[claim.next_offset :][: world.scheduler.dice.randint(1, 8)]
                if records:
                    claim = yield from apply(world, claim, records)
                else:
                    yield Wait(world.grown, 0.5)
        except ClaimLost:
            yield world.delay()


def apply(world: World, claim: Claim, records: list[Record]) -> Work[Claim]:
    """One batch: again while the store is away, one by one when its rows are refused."""
    while True:
        try:
            results = yield from attempt(world, claim, records)
        except ConnectionLost:
            yield world.delay(2.0)
            continue
        except Duplicate:
            if len(records) == 1:
                raise
            for record in records:
                claim = yield from apply(world, claim, [record])
            return claim
        yield from send(world, results)
        return replace(claim, next_offset=records[-1].offset + 1)


def attempt(world: World, claim: Claim, records: list[Record]) -> Work[Results]:
    """Load, decide, flush behind the fence, each step later than the one before."""
    store, end = world.store, records[-1].offset + 1
    yield world.delay()
    if world.bug is Bug.ADVANCE_FIRST:
        yield from advance_first(world, claim, end)
        claim = replace(claim, next_offset=end)
    directory = store.load()
    yield world.delay()
    now = at(world.scheduler.now)
    results = decide_all(directory, [(record, decode(record)) for record in records], now)
    if world.bug is Bug.REPLY_FIRST:
        yield from send(world, results)
    yield world.delay()
    if world.happens(world.odds.failed_commit):
        raise ConnectionLost
    try:
        store.flush(claim, end, directory, results, now, is_fenced=world.bug is not Bug.NO_FENCE)
    except FenceFailed:
        if store.current(claim) != replace(claim, next_offset=end):
            raise ClaimLost from None
    for record in records:
        store.applied_at.setdefault(record.offset, now)
    if world.happens(world.odds.ambiguous_commit):
        raise ConnectionLost
    return results


def advance_first(world: World, claim: Claim, end: int) -> Work[None]:
    """The planted mistake: the offset moves in a transaction of its own."""
    try:
        world.store.advance(claim, end)
    except FenceFailed:
        if world.store.current(claim) != replace(claim, next_offset=end):
            raise ClaimLost from None
    yield world.delay()


def send(world: World, results: Results) -> Work[None]:
    for reply in results.replies:
        yield 0.0
        if not world.happens(world.odds.lost_reply):
            world.scheduler.spawn(world.network, deliver(world, reply.change_id, reply.value))


def deliver(world: World, change_id: UUID, value: bytes) -> Work[None]:
    yield world.delay(0.05)
    if waiting := world.replies.get(change_id):
        waiting.set(value)


# --- a gateway -----------------------------------------------------------------------------------------------------


def submit(world: World, gateway: Home, change: Change, answered: Event) -> Work[None]:
    """Publish the change, wait for its outcome; `answered` gets the Outcome, or NOT_ACCEPTED or UNKNOWN."""
    deadline = world.scheduler.now + DEADLINE
    waiting = world.replies[change.id] = Event()
    yield world.delay()
    if world.happens(world.odds.not_accepted):
        answered.set(NOT_ACCEPTED)
        return
    if world.happens(world.odds.slow_publish):
        world.scheduler.spawn(gateway, publish_later(world, change))
    else:
        world.append(change)
    came = yield Wait(waiting, POLL_AFTER)
    while not came and world.scheduler.now < deadline:
        if reply := world.store.outcomes.get(change.id):
            waiting.set(reply)
        came = yield Wait(waiting, POLL_EVERY)
    yield world.delay()
    answered.set(Outcome.model_validate_json(waiting.value) if came else UNKNOWN)


def publish_later(world: World, change: Change) -> Work[None]:
    """The producer has the record in its buffer and tries again until the broker takes it, or the process dies."""
    yield world.delay(15.0)
    world.append(change)


def new_change(world: World, change: Change) -> Change:
    """The change as the gateway stamps it: its id, its times."""
    now = at(world.scheduler.now)
    return change.model_copy(
        update={"id": world.new_id(), "received_at": now, "deadline": now + timedelta(seconds=DEADLINE)}
    )


# --- faults --------------------------------------------------------------------------------------------------------


def kill(world: World, home: Home) -> None:
    """`kill -9`; it starts again a little later."""
    if not home.is_alive:
        return
    world.faults += 1
    home.kill()
    world.scheduler.spawn(world.network, restart(world, home))


def restart(world: World, home: Home) -> Work[None]:
    yield 0.5 + world.delay(3.0)
    home.is_alive = True
    if home in world.provisioners:
        world.scheduler.spawn(home, provision(world, home))


def disturb(world: World, until: float) -> Work[None]:
    """Kill and pause at random, duplicate records, move the partition for no reason."""
    dice = world.scheduler.dice
    pace = dice.choice([1.0, 4.0, 15.0])
    homes = [*world.provisioners, *world.gateways]
    while True:
        yield dice.expovariate(1 / pace)
        if world.scheduler.now > until:
            return
        kind = dice.choice(["kill", "pause", "pause", "move", "duplicate"])
        if kind == "kill":
            kill(world, dice.choice(homes))
        elif kind == "pause":
            world.faults += 1
            dice.choice(homes).paused_until = world.scheduler.now + dice.choice([0.05, 1.0, 8.0, 20.0])
        elif kind == "move":
            world.faults += 1
            world.owner = dice.choice(world.provisioners)
        elif world.log.records:
            world.faults += 1
            world.append(world.log.change(dice.randrange(len(world.log.records))))


def assassinate(world: World, deaths: int) -> Work[None]:
    """Kill a gateway or the provisioner between the publication of a change and its answer, so many times."""
    while world.deaths < deaths:
        grown = world.grown
        yield Wait(grown, 1.0)
        if not grown.is_set:
            continue
        yield world.delay(0.06)
        waiting = [gateway for gateway in world.gateways if any(not call.is_set for call in gateway.calls)]
        if waiting:
            victims = [*waiting, world.owner] if world.owner and world.owner.is_alive else waiting
            kill(world, world.scheduler.dice.choice(victims))
            world.deaths += 1


def heal(world: World) -> None:
    """No more faults; everybody lives."""
    world.odds = Odds()
    for home in (*world.provisioners, *world.gateways):
        home.paused_until = 0.0
