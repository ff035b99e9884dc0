"""One seed, one run."""

from dataclasses import dataclass
from uuid import UUID

from chaos.history import End
from chaos.simulator.checks import violations
from chaos.simulator.clients import Client, furnish
from chaos.simulator.scheduler import Home, Work
from chaos.simulator.world import Bug, World, assassinate, disturb, heal, new_world

CLIENTS = 6
OPERATIONS = 9  # of each client
DISTURBED = 40.0  # virtual seconds
HEALED = 120.0  # virtual seconds by which every client has its answer and the log is applied
DEATHS = 10  # of each run of deaths
DEATHS_OVER = 1000.0  # virtual seconds


@dataclass(frozen=True, slots=True)
class Run:
    """What came of one seed."""

    seed: int
    broken: tuple[str, ...]
    faults: int
    acknowledged: int
    unknown: int
    refused: int


def run(seed: int, bug: Bug | None = None) -> Run:
    """Clients against two gateways and two provisioners, disturbed, healed, and checked."""
    world = new_world(seed, bug)
    furnish(world)
    known: list[tuple[str, UUID]] = []
    clients = [Client(world, f"c{number}", known) for number in range(CLIENTS)]
    outside = Home("outside")
    for client in clients:
        world.scheduler.spawn(outside, client.run(OPERATIONS))
    world.scheduler.spawn(world.network, disturb(world, DISTURBED))
    finish(world, outside, Client(world, "last", known))
    return Run(seed, tuple(violations(world)), world.faults, *counts(world))


def finish(world: World, outside: Home, last: Client) -> None:
    """Let everybody end, and look at everything once more."""
    world.scheduler.run(DISTURBED)
    heal(world)
    world.scheduler.run(HEALED)
    assert not outside.tasks, "a client was never answered"
    world.scheduler.spawn(outside, last.look_at_everything())
    world.scheduler.run(HEALED + 20)


def counts(world: World) -> tuple[int, int, int]:
    """Operations acknowledged, of unknown end, and refused."""
    ends = [op.end for ops in world.history.operations.values() for op in ops]
    return ends.count(End.ANSWERED), ends.count(End.UNKNOWN), ends.count(End.REFUSED)


def run_deaths(seed: int) -> Run:
    """Creates that are repeated until they are answered; processes die between publication and answer (P2, P3)."""
    world = new_world(seed)
    furnish(world)
    outside, client, broken = Home("outside"), Client(world, "idp", []), []
    world.scheduler.spawn(outside, create_through_deaths(world, client, broken))
    world.scheduler.spawn(world.network, assassinate(world, DEATHS))
    world.scheduler.run(DEATHS_OVER)
    heal(world)
    world.scheduler.run(DEATHS_OVER + HEALED)
    assert world.deaths == DEATHS, f"only {world.deaths} deaths"
    return Run(seed, (*broken, *violations(world)), world.deaths, *counts(world))


def create_through_deaths(world: World, client: Client, broken: list[str]) -> Work[None]:
    """One create after the other; each ends with one resource and one id, or a 409 and a resource that can be found."""
    number = 0
    while world.deaths < DEATHS:
        number += 1
        name = f"person-{number}"
        outcome = yield from client.create_until_answered(name, name)
        found = world.store.directory.user_named(world.connection.id, name)
        if found is None or found.resource["title"] != name:
            broken.append(f"P3: {outcome.status} for {name}, and it cannot be found")
        elif outcome.status == 201 and outcome.resource_id != found.id:
            broken.append(f"P2: {name} was answered as {outcome.resource_id} and is {found.id}")
        elif outcome.status not in (201, 409):
            broken.append(f"P3: {outcome.status} for {name}")
        yield 0.1
