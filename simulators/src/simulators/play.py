"""A whole script for one provider: the first sync, what happens then, and the check."""

import asyncio
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from simulators.check import Contents, Difference, count, differences, read_all
from simulators.company import Company
from simulators.entra import Entra, EntraFlagged
from simulators.idp import IdentityProvider, Progress
from simulators.life import Event, GroupEvent, Kind, PersonEvent, Round, make_life
from simulators.okta import Okta
from simulators.onelogin import OneLogin
from simulators.wire import Traffic, Wire

PROVIDERS: Mapping[str, type[IdentityProvider]] = {
    "okta": Okta,
    "entra": Entra,
    "entra-flagged": EntraFlagged,
    "onelogin": OneLogin,
}


@dataclass(frozen=True)
class Result:
    """What one provider did, and what came of it."""

    idp: IdentityProvider
    traffic: Traffic  # the provider's own; the check's is not in it
    seconds: float  # from the first request to the last one before the check
    events: Counter[Kind]
    before: tuple[int, int]  # users, groups
    after: Contents
    differences: Sequence[Difference]


async def play(
    idp: IdentityProvider,
    company: Company,
    *,
    seed: int = 1,
    pace: float = 0,
    progress: Progress | None = None,
) -> Result:
    """Sync `company`, let its life of this seed happen at `pace` events a second (0: at once), read all back, compare.

    The connection should be a new one: what it has already and the provider does not know is a difference.
    """
    progress = progress or Progress()
    reader = Wire(idp.wire.http, idp.wire.token)
    before = await count(reader, "/Users"), await count(reader, "/Groups")
    began = time.monotonic()
    await idp.initial_sync(company, progress)
    await idp.settle()
    rounds = make_life(company, seed=seed)
    await live(idp, rounds, pace=pace, progress=progress)
    await idp.settle()
    seconds = time.monotonic() - began
    progress.begin("check", 1)
    contents = await read_all(reader)
    progress.step()
    return Result(
        idp,
        idp.wire.traffic,
        seconds,
        Counter(event.kind for events in rounds for event in events),
        before,
        contents,
        differences(idp, contents),
    )


async def live(
    idp: IdentityProvider, rounds: Sequence[Round], *, pace: float = 0, progress: Progress | None = None
) -> None:
    """Let all events happen, round after round, `pace` of them a second (0: as fast as the server answers)."""
    progress = progress or Progress()
    progress.begin("life", sum(map(len, rounds)))
    clock = _Clock(pace)
    for events in rounds:
        async with asyncio.TaskGroup() as tasks:
            for event in events:
                await clock.tick()
                tasks.create_task(_happen(idp, event, progress))


async def _happen(idp: IdentityProvider, event: Event, progress: Progress) -> None:
    await happen(idp, event)
    progress.step()


async def happen(idp: IdentityProvider, event: Event) -> None:
    """Turn one event into the provider's intent."""
    match event:
        case PersonEvent(Kind.JOINER | Kind.REHIRE, person):
            await idp.assign(person)
        case PersonEvent(Kind.MOVER | Kind.RENAME, person):
            await idp.update(person)
        case PersonEvent(Kind.LEAVER, person):
            await idp.deactivate(person.key)
        case PersonEvent(Kind.REMOVAL, person):
            await idp.remove(person.key)
        case GroupEvent(Kind.GROUP_OPENED, group, name, members):
            await idp.open_group(group, name, members)
        case GroupEvent(Kind.GROUP_RENAMED, group, name):
            await idp.rename_group(group, name)
        case GroupEvent(Kind.GROUP_CLOSED, group):
            await idp.close_group(group)
        case _:
            raise ValueError(f"nobody does {event}")


class _Clock:
    """Ticks `pace` times a second; all at once for 0."""

    def __init__(self, pace: float) -> None:
        self.interval = 1 / pace if pace else 0.0
        self.next = time.monotonic()

    async def tick(self) -> None:
        self.next = max(self.next + self.interval, time.monotonic())
        await asyncio.sleep(self.next - time.monotonic() if self.interval else 0)
