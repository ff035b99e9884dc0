"""More than can be served, against a real stack: goodput, fairness and the reserved slots (promise P14, threat T50).

Rates and times are those of this machine at this moment, so each is compared with what the same load generator reached
just before; only the latencies of the slow connection have limits in milliseconds.
"""

import asyncio
import json
import os
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg

from chaos.openloop import Answer, Client, Request, closed_loop, in_turn, open_loop, percentile
from contracts import CHANGES
from e2e import stack as stacks
from e2e.admin import bootstrap
from e2e.scim import patch, user
from e2e.stack import Stack
from servicekit.kafka import partition_of

WORKERS = 64
TIMES = 5  # the capacity, offered
MEASURED = 6.0  # seconds of each measurement
WARM_UP = 3.0
OVERLOADED = 10.0
RECOVERY = 30.0
GOODPUT = 0.8  # of the capacity
CONNECTIONS = 6  # of two organizations: their slots are more than the gateway's, so that both limits are met
PACE = 5.0  # changes a second of the slow connection
SLOW = 20.0  # seconds of it: 100 changes
ELSEWHERE, BESIDE = 0.150, 0.400  # seconds: p99 of the slow one on another partition, and on the same
QUICK = 1.0  # seconds: p99 of refusals
DEACTIVATIONS = 5.0  # a second, below a flood of creates
REFUSED = (429, 503)


@dataclass(frozen=True, slots=True)
class Tenant:
    """A connection of an organization whose changes go to `partition`."""

    organization_id: str
    connection_id: str
    token: str

    @property
    def partition(self) -> int:
        return partition_of(self.organization_id.encode(), CHANGES.partitions)


@dataclass
class Report:
    """Lines of a table, and which limits were missed."""

    lines: list[str] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)

    def say(self, what: str, value: str) -> None:
        self._add(what, value, "")

    def at_least(self, what: str, value: float, limit: float, unit: str = "") -> None:
        self._limit(what, f"{value:.1f}{unit}", f">= {limit:.1f}{unit}", value >= limit)

    def at_most(self, what: str, value: float, limit: float, unit: str = "") -> None:
        self._limit(what, f"{value:.1f}{unit}", f"<= {limit:.1f}{unit}", value <= limit)

    def _limit(self, what: str, value: str, limit: str, is_met: bool) -> None:
        self._add(what, value, limit + ("" if is_met else "  MISSED"))
        if not is_met:
            self.missed.append(what)

    def _add(self, what: str, value: str, limit: str) -> None:
        self.lines.append(f"{what:58}{value:>22}   {limit}")
        print(self.lines[-1].rstrip(), flush=True)


class Creates:
    """Creates of users never seen before, by turns through several clients; remembers what became of each."""

    def __init__(self, *clients: Client) -> None:
        self._next = in_turn(*clients)
        self._mark = uuid.uuid4().hex[:8]
        self.answers: dict[str, Answer] = {}

    async def send(self, due: float) -> Answer:
        name = f"{self._mark}-{len(self.answers)}@example.com"
        self.answers[name] = Answer(due, 0.0, 0)  # the name is taken
        self.answers[name] = answer = await self._next().send("POST", "/Users", user(name), due=due)
        return answer

    async def check(self, db: asyncpg.Connection, report: Report) -> None:
        """What was answered 2xx is there; what was refused, or not accepted, is not."""
        rows = await db.fetch("SELECT user_name FROM users WHERE user_name LIKE $1", f"{self._mark}-%")
        stored = {row["user_name"] for row in rows}
        acknowledged = {name for name, answer in self.answers.items() if answer.is_success}
        refused = {name for name, answer in self.answers.items() if is_refusal(answer)}
        report.at_most("  answered 2xx and not stored", len(acknowledged - stored), 0)
        report.at_most("  refused and stored all the same", len(refused & stored), 0)


def is_refusal(answer: Answer) -> bool:
    """Whether it says that nothing was done."""
    return answer.status == 429 or (answer.status == 503 and "unknown" not in answer.text)


async def overload(stack_file: Path | None) -> bool:
    """Measure everything on a stack of our own, or on the one described by `stack_file`; whether no limit is missed."""
    report = Report()
    print(f"load averages: {os.getloadavg()}", flush=True)
    async with AsyncExitStack() as exits:
        stack = Stack(stack_file, is_ours=False) if stack_file else await exits.enter_async_context(stacks.started())
        db = await asyncpg.connect(stack.database_url)
        exits.push_async_callback(db.close)
        beside, elsewhere = await two_organizations(stack)
        clients = [await exits.enter_async_context(opened(stack, tenant)) for tenant in (*beside, *elsewhere)]
        await goodput(clients, db, report)
        await fairness(clients[0], clients[1], clients[len(beside)], report)
        await deactivations(clients[0], report)
    print(f"load averages: {os.getloadavg()}")
    print(f"missed: {', '.join(map(str.strip, report.missed))}" if report.missed else "every limit is kept")
    return not report.missed


# --- the measurements


async def goodput(clients: Sequence[Client], db: asyncpg.Connection, report: Report) -> None:
    """Offer TIMES the capacity through all connections."""
    creates = Creates(*clients)
    await closed_loop(creates.send, WORKERS, WARM_UP)
    capacity = rate(await closed_loop(creates.send, WORKERS, MEASURED), MEASURED)
    if not capacity:
        raise RuntimeError("no create succeeds, even without overload")
    report.say(f"capacity: creates at {WORKERS} workers", f"{capacity:.0f}/s")
    answers = await open_loop(creates.send, TIMES * capacity, OVERLOADED)
    ended = asyncio.get_running_loop().time()
    end = answers[0].due + OVERLOADED
    good = rate([answer for answer in answers if answer.ended <= end], OVERLOADED)
    report.say(f"offered for {OVERLOADED:.0f} s", f"{len(answers) / OVERLOADED:.0f}/s")
    report.say("  answered", told(answers))
    report.at_least("  goodput, of the capacity", 100 * good / capacity, 100 * GOODPUT, " %")
    report_refusals(answers, report)
    recovered = await recovery(creates.send, GOODPUT * capacity, end)
    report.say("  the last answer came after the end of the load", f"{max(0.0, ended - end):.1f} s")
    report.at_most(f"  seconds until {GOODPUT:.0%} of the capacity is served again", recovered, RECOVERY)
    await creates.check(db, report)


async def recovery(request: Request, wanted: float, since: float) -> float:
    """Seconds from `since` to the first second in which so many requests succeed again; at most a minute."""
    loop = asyncio.get_running_loop()
    while loop.time() - since < 2 * RECOVERY:
        if rate(await closed_loop(request, WORKERS, 1.0), 1.0) >= wanted:
            break
    return loop.time() - since


async def fairness(noisy: Client, beside: Client, elsewhere: Client, report: Report) -> None:
    """One connection sends twice what its slots can take; another one PACE changes a second."""
    flood = Creates(noisy)
    cap = rate(await closed_loop(flood.send, 2 * WORKERS, MEASURED), MEASURED)
    report.say("one connection with all of its slots: creates", f"{cap:.0f}/s")
    for name, client, limit in (
        ("on another partition", elsewhere, ELSEWHERE),
        ("on the same partition", beside, BESIDE),
    ):
        quiet = await open_loop(Creates(client).send, PACE, 4.0)
        slow, flooded = await asyncio.gather(
            open_loop(Creates(client).send, PACE, SLOW), open_loop(flood.send, 2 * cap, SLOW)
        )
        report.say(f"at twice that: answered in {SLOW:.0f} s", told(flooded))
        report_refusals(flooded, report)
        report.say(f"  {PACE:.0f} a second {name}: p50, alone", milliseconds(quiet, 0.5))
        report.say(f"  {PACE:.0f} a second {name}: p50, beside it", milliseconds(slow, 0.5))
        report.at_most("    p99", 1000 * percentile(seconds_of(slow), 0.99), 1000 * limit, " ms")
        report.at_most("    not answered 201", sum(answer.status != 201 for answer in slow), 0)


async def deactivations(noisy: Client, report: Report) -> None:
    """Deactivations and deletions of a connection that is flooded with its own creates."""
    flood, number = Creates(noisy), int(DEACTIVATIONS * SLOW / 2)
    made = await open_loop(Creates(noisy).send, 5 * DEACTIVATIONS, SLOW / 10)
    paths = [f"/Users/{json.loads(answer.text)['id']}" for answer in made if answer.is_success][:number]
    off = patch({"op": "replace", "path": "active", "value": False})
    wanted = iter([("PATCH", path, off) for path in paths] + [("DELETE", path, None) for path in paths])
    cap = rate(await closed_loop(flood.send, 2 * WORKERS, WARM_UP), WARM_UP)
    urgent, flooded = await asyncio.gather(
        open_loop(lambda due: noisy.send(*next(wanted), due=due), DEACTIVATIONS, 2 * len(paths) / DEACTIVATIONS),
        open_loop(flood.send, 2 * cap, SLOW),
    )
    report.say(f"{DEACTIVATIONS:.0f} deactivations a second below a flood of creates", told(urgent))
    report.say("  the creates", told(flooded))
    report.say("  p99", milliseconds(urgent, 0.99))
    report.at_most("  refused", sum(not answer.is_success for answer in urgent), 0)


def report_refusals(answers: Sequence[Answer], report: Report) -> None:
    refused = [answer for answer in answers if answer.status in REFUSED and is_refusal(answer)]
    report.at_most("  refusals: p99", 1000 * percentile(seconds_of(refused), 0.99), 1000 * QUICK, " ms")
    report.at_most("  refusals without Retry-After", sum(not answer.retry_after for answer in refused), 0)
    strange = Counter(answer.status for answer in answers if not answer.is_success and answer.status not in REFUSED)
    report.at_most("  neither served nor refused", sum(strange.values()), 0)


# --- the stack


async def two_organizations(stack: Stack) -> tuple[list[Tenant], list[Tenant]]:
    """Connections of two organizations whose changes go to different partitions."""
    beside = await organization(stack)
    while True:
        elsewhere = await organization(stack)
        if elsewhere[0].partition != beside[0].partition:
            return beside, elsewhere


async def organization(stack: Stack) -> list[Tenant]:
    name, password, providers = uuid.uuid4().hex[:8], uuid.uuid4().hex, ("okta", "entra", "onelogin")
    made = [
        await bootstrap(
            stack,
            organization=f"Overload {name}",
            email=f"admin-{name}@example.com",
            password=password,
            provider_id=provider_id,
        )
        for provider_id in providers[: CONNECTIONS // 2]
    ]
    return [Tenant(each["organizationId"], each["connectionId"], each["scimToken"]) for each in made]


@asynccontextmanager
async def opened(stack: Stack, tenant: Tenant) -> AsyncIterator[Client]:
    url = urlsplit(stack.scim_url)
    client = Client(url.hostname or "", url.port or 80, url.path, tenant.token)
    try:
        yield client
    finally:
        await client.close()


# --- words


def rate(answers: Sequence[Answer], seconds: float) -> float:
    """Successes a second."""
    return sum(answer.is_success for answer in answers) / seconds


def seconds_of(answers: Sequence[Answer]) -> list[float]:
    return [answer.seconds for answer in answers]


def milliseconds(answers: Sequence[Answer], share: float) -> str:
    return f"{1000 * percentile(seconds_of(answers), share):.0f} ms"


def told(answers: Sequence[Answer]) -> str:
    """How often each status."""
    return ", ".join(
        f"{number} {status or 'none'}" for status, number in sorted(Counter(a.status for a in answers).items())
    )
