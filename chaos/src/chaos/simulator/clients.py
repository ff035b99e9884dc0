"""Identity providers: they write registers, names, memberships and activations, read them, and try again."""

from collections.abc import Hashable
from typing import Any
from uuid import UUID

from chaos.history import End, Op
from chaos.models import Members, Model, Names, Register
from chaos.simulator.scheduler import Event, Home, Wait, Work
from chaos.simulator.store import at
from chaos.simulator.world import NOT_ACCEPTED, UNKNOWN, World, new_change, submit
from contracts import Change, MemberChange, Operation, Outcome, ResourceType
from provisioner.batch import decide_all
from provisioner.records import decode
from scim.keys import identity_key

USERS = [UUID(int=100 + number * 2) for number in range(3)]
GROUP = UUID(int=200)
NAMES = ("ada", "bob", "cid")
PATIENCE = (1.0, 15.0)  # seconds until a client gives a request up: below and above the gateway's own deadline


def models() -> dict[str, Model]:
    """What each resource of the history is."""
    registers: dict[str, Model] = {}
    for user in USERS:
        registers[f"title of {user}"] = Register("")
        registers[f"active of {user}"] = Register(True)
    return {**registers, "names": Names(), "members": Members()}


def change_of(
    world: World, operation: Operation, resource_type: ResourceType, resource_id: UUID, **more: Any
) -> Change:
    now = at(world.scheduler.now)
    return Change(
        id=UUID(int=0),
        organization_id=world.connection.organization_id,
        connection_id=world.connection.id,
        token_id=world.token_id,
        actor="scim:simulated",
        resource_type=resource_type,
        operation=operation,
        resource_id=resource_id,
        received_at=now,
        deadline=now,
        reply_partition=0,
        **more,
    )


def furnish(world: World) -> None:
    """Three users and a group, applied before anything goes wrong."""
    for number, user in enumerate(USERS):
        resource = {"userName": f"user-{number}@example.com", "title": ""}
        world.log.append(
            new_change(world, change_of(world, Operation.CREATE, ResourceType.USER, user, resource=resource))
        )
    group = change_of(world, Operation.CREATE, ResourceType.GROUP, GROUP, resource={"displayName": "Staff"})
    world.log.append(new_change(world, group))
    claim, directory = world.store.claim("setup"), world.store.load()
    results = decide_all(directory, [(record, decode(record)) for record in world.log.records], at(0))
    world.store.flush(claim, len(world.log.records), directory, results, at(0))


class Client:
    """One identity provider's worker: one operation at a time, each written into the history."""

    def __init__(self, world: World, name: str, known: list[tuple[str, UUID]]) -> None:
        self._world = world
        self._name = name
        self._known = known  # users that compete for names: label and id; shared by all clients
        self._labels = 0

    def run(self, operations: int) -> Work[None]:
        dice = self._world.scheduler.dice
        for _ in range(operations):
            yield self._world.delay(dice.choice([0.05, 0.5]))
            yield from dice.choice(
                [self.title, self.active, self.member, self.create, self.rename, self.delete, self.find]
            )()

    # --- operations

    def title(self) -> Work[None]:
        user = self._world.scheduler.dice.choice(USERS)
        yield from self._write_or_read(f"title of {user}", user, "title", f"{self._name}-{self._next()}")

    def active(self) -> Work[None]:
        user = self._world.scheduler.dice.choice(USERS)
        yield from self._write_or_read(f"active of {user}", user, "active", self._world.scheduler.dice.random() < 0.5)

    def _write_or_read(self, resource: str, user: UUID, attribute: str, value: Hashable) -> Work[None]:
        if self._world.scheduler.dice.random() < 0.5:
            yield from self._read(resource, "read", None, lambda: self._attribute(user, attribute))
            return
        patch = [{"op": "replace", "path": attribute, "value": value}]
        change = change_of(self._world, Operation.PATCH, ResourceType.USER, user, patch=patch)
        yield from self._write(resource, "write", value, change)

    def member(self) -> Work[None]:
        dice = self._world.scheduler.dice
        user, kind = dice.choice(USERS), dice.choice(["add", "remove", "read"])
        if kind == "read":
            yield from self._read(
                "members", "read", None, lambda: frozenset(self._world.store.directory.members(GROUP))
            )
            return
        members = [MemberChange(op="add" if kind == "add" else "remove", values=(str(user),))]
        change = change_of(self._world, Operation.PATCH, ResourceType.GROUP, GROUP, patch=[], members=members)
        yield from self._write("members", kind, user, change)

    def create(self) -> Work[None]:
        """Repeated until it is answered, with the same body, as an identity provider does."""
        name, label = self._world.scheduler.dice.choice(NAMES), f"{self._name}-{self._next()}"
        yield from self.create_until_answered(name, label)

    def create_until_answered(self, name: str, label: str) -> Work[Outcome]:
        resource = {"userName": name, "title": label}
        while True:
            user = (label, self._world.new_id())
            change = change_of(
                self._world, Operation.CREATE, ResourceType.USER, user[1], resource=resource, fingerprint=label
            )
            outcome = yield from self._write("names", "create", (user, name), change)
            if outcome is not None:
                break
            yield self._world.delay(3.0)
        if outcome.status == 201:
            self._known.append((label, outcome.resource_id))
        return outcome

    def rename(self) -> Work[None]:
        user, name = self._someone(), self._world.scheduler.dice.choice(NAMES)
        patch = [{"op": "replace", "path": "userName", "value": name}]
        change = change_of(self._world, Operation.PATCH, ResourceType.USER, user[1], patch=patch)
        yield from self._write("names", "rename", (user, name), change)

    def delete(self) -> Work[None]:
        user = self._someone()
        change = change_of(self._world, Operation.DELETE, ResourceType.USER, user[1])
        yield from self._write("names", "delete", user, change)

    def find(self) -> Work[None]:
        name = self._world.scheduler.dice.choice(NAMES)
        yield from self._read("names", "find", name, lambda: self._holder(name))

    def _someone(self) -> tuple[str, UUID]:
        return self._world.scheduler.dice.choice(self._known or [("nobody", UUID(int=9))])

    # --- asking, and writing down what came of it

    def _write(self, resource: str, name: str, argument: Hashable, change: Change) -> Work[Outcome | None]:
        """The outcome, or None when it is unknown or nothing was accepted."""
        op = self._invoke(resource, name, argument)
        change = new_change(self._world, change)
        answer = yield from self._ask(lambda gateway, answered: submit(self._world, gateway, change, answered))
        if answer is None or answer == UNKNOWN:
            return None
        op.returned = self._world.scheduler.now
        if answer == NOT_ACCEPTED:
            op.end = End.REFUSED
            return None
        op.end, op.result = End.ANSWERED, answer.status
        if name == "create" and answer.status == 201:
            op.result = (answer.resource["title"], answer.resource_id)
        return answer

    def _read(self, resource: str, name: str, argument: Hashable, look: Any) -> Work[None]:
        op = self._invoke(resource, name, argument)

        def answer(gateway: Home, answered: Event) -> Work[None]:
            yield self._world.delay()
            answered.set((look(),))

        found = yield from self._ask(answer)
        if found is not None:
            op.returned, op.end, op.result = self._world.scheduler.now, End.ANSWERED, found[0]

    def _ask(self, work: Any) -> Work[Any]:
        """Send a request to a gateway that lives; None when it dies, or the client's patience ends."""
        dice = self._world.scheduler.dice
        gateway = dice.choice(self._world.gateways)
        if not gateway.is_alive:
            yield self._world.delay()
            return None
        answered = Event()
        gateway.calls[answered] = None
        self._world.scheduler.spawn(gateway, work(gateway, answered))
        came = yield Wait(answered, dice.uniform(*PATIENCE))
        gateway.calls.pop(answered, None)
        return answered.value if came else None

    def _invoke(self, resource: str, name: str, argument: Hashable) -> Op:
        return self._world.history.invoke(resource, self._name, name, argument, self._world.scheduler.now)

    def _next(self) -> int:
        self._labels += 1
        return self._labels

    def _attribute(self, user: UUID, attribute: str) -> Hashable:
        found = self._world.store.directory.user(self._world.connection.id, user)
        return found.resource.get(attribute) if found else None

    def _holder(self, name: str) -> Hashable:
        found = self._world.store.directory.user_named(self._world.connection.id, identity_key(name))
        return (found.resource.get("title"), found.id) if found else None

    # --- the last look, when everything is over

    def look_at_everything(self) -> Work[None]:
        for user in USERS:
            for attribute in ("title", "active"):
                yield from self._read(
                    f"{attribute} of {user}",
                    "read",
                    None,
                    lambda user=user, name=attribute: self._attribute(user, name),
                )
        yield from self._read("members", "read", None, lambda: frozenset(self._world.store.directory.members(GROUP)))
        for name in NAMES:
            yield from self._read("names", "find", name, lambda name=name: self._holder(name))
