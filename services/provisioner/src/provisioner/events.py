"""Publishing events: what a committed transaction has made known, in the order of its chain, at least once.

A batch hands over the rows that it has committed; whatever is missing between two of them, or was left by whoever had
the partition before, is read from Postgres. What did not commit is never seen here.
"""

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import suppress

import asyncpg
import structlog
from aiokafka import AIOKafkaProducer

from contracts import CHANGES, EVENT_CONTENT_TYPE, EVENT_ISSUER, EVENTS, Event, EventType, SecurityEvent, SubjectId
from contracts.events import EventRow, SubjectType
from provisioner import metrics
from provisioner.chain import ChainedEvent
from provisioner.store import events as store
from servicekit.lifecycle import sleep_unless
from servicekit.logs import describe

log = structlog.get_logger()

MAX_BATCH = 500  # events sent before their acknowledgements are awaited
MAX_WAITING = 5_000  # events in memory; what comes on top is read from Postgres later
LOOK_INTERVAL = (
    10.0  # seconds after which Postgres is asked for what nobody has handed over: a commit without an answer
)
LINGER = 0.05  # seconds that events wait for others: a request to Kafka costs ten times what an event in it does
RETRY_INTERVAL = 1.0  # seconds
CLOSE_TIMEOUT = 2.0  # seconds for what is waiting when a partition goes

HEADERS = [("content-type", EVENT_CONTENT_TYPE.encode())]
PATCH_OP = "urn:ietf:params:scim:api:messages:2.0:PatchOp"
# What changed is known, not the whole resource, so a replacement is told as the patch that it amounts to.
PUBLISHED_AS: dict[str, str] = {EventType.REPLACED: EventType.PATCHED}


class Chain:
    """The events of one partition on their way."""

    def __init__(self, partition: int, pool: asyncpg.Pool, producer: AIOKafkaProducer) -> None:
        self._partition = partition
        self._pool = pool
        self._producer = producer
        self._waiting: deque[ChainedEvent] = deque()
        self._woken = asyncio.Event()
        self._closing = asyncio.Event()
        self._is_behind = True
        self.published: int | None = None

    def hand_over(self, events: Sequence[ChainedEvent]) -> None:
        """Take the events that a batch has just committed."""
        if len(self._waiting) < MAX_WAITING:
            self._waiting.extend(events)
        else:
            self._is_behind = True
        self._woken.set()

    def close(self) -> None:
        """Send what is waiting, and end."""
        self._closing.set()
        self._woken.set()

    async def run(self) -> None:
        """Publish until closed; whatever is away is waited for."""
        while not (self._closing.is_set() and self._is_idle):
            try:
                if self.published is None:
                    self.published = await self._read_published()
                while events := await self._next():
                    await self._send(events)
                    self.published = events[-1].seq
            except Exception as error:  # Kafka or Postgres is away, or a bug: what is not published stays, and waits
                log.warning("events.waiting", partition=self._partition, error=describe(error))
                self._is_behind = True
                await asyncio.sleep(RETRY_INTERVAL)
                continue
            await self._sleep()

    @property
    def _is_idle(self) -> bool:
        return not self._waiting and not self._is_behind

    async def _next(self) -> list[ChainedEvent]:
        """The events that follow what is published: from memory, or from Postgres where memory has a gap."""
        assert self.published is not None
        while self._waiting and self._waiting[0].seq <= self.published:
            self._waiting.popleft()
        if self._waiting and self._waiting[0].seq > self.published + 1:
            self._is_behind = True
        if self._is_behind:
            async with self._pool.acquire() as db:
                events = await store.after(db, self._partition, self.published, MAX_BATCH)
            self._is_behind = len(events) == MAX_BATCH
            return events
        return [self._waiting.popleft() for _ in range(min(MAX_BATCH, len(self._waiting)))]

    async def _send(self, events: Sequence[ChainedEvent]) -> None:
        """Return when all are acknowledged; when one is not, all are sent again."""
        acknowledged = [
            await self._producer.send(
                EVENTS.name,
                to_event(event).model_dump_json(exclude_none=True).encode(),
                key=str(event.row.subject_id).encode(),
                headers=HEADERS,
            )
            for event in events
        ]
        await asyncio.gather(*acknowledged)
        metrics.EVENTS.inc(len(events))

    async def _read_published(self) -> int:
        async with self._pool.acquire() as db:
            return await store.published(db, CHANGES.name, self._partition)

    async def _sleep(self) -> None:
        if not self._waiting and not self._closing.is_set():
            self._woken.clear()
            try:
                async with asyncio.timeout(LOOK_INTERVAL):
                    await self._woken.wait()
            except TimeoutError:
                self._is_behind = True
        await sleep_unless(self._closing, LINGER)


class EventFeed:
    """The chains of the partitions that this process works on."""

    def __init__(self, pool: asyncpg.Pool, producer: AIOKafkaProducer) -> None:
        self._pool = pool
        self._producer = producer
        self._chains: dict[int, tuple[Chain, asyncio.Task[None]]] = {}
        self._marked: dict[int, int] = {}

    def open(self, partition: int) -> None:
        """Publish what is left of a partition that was just claimed, and what will be handed over."""
        if partition not in self._chains:
            chain = Chain(partition, self._pool, self._producer)
            self._chains[partition] = chain, asyncio.create_task(chain.run())

    def hand_over(self, partition: int, events: Sequence[ChainedEvent]) -> None:
        """Publish what a batch of an open partition has committed."""
        if events and partition in self._chains:
            self._chains[partition][0].hand_over(events)

    async def close(self, partitions: Iterable[int]) -> None:
        """End the chains, with what is waiting if that goes quickly; the rest is for whoever claims the partition."""
        closing = [self._chains[partition] for partition in partitions if partition in self._chains]
        for chain, _ in closing:
            chain.close()
        tasks = [task for _, task in closing]
        if tasks:
            _, unfinished = await asyncio.wait(tasks, timeout=CLOSE_TIMEOUT)
            for task in unfinished:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        await self.mark()
        for partition in partitions:
            self._chains.pop(partition, None)
            self._marked.pop(partition, None)

    async def mark(self) -> None:
        """Note in Postgres how far the chains are published: what is not noted is published again."""
        moved = {
            partition: chain.published
            for partition, (chain, _) in self._chains.items()
            if chain.published and chain.published != self._marked.get(partition)
        }
        if not moved:
            return
        with suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            async with asyncio.timeout(CLOSE_TIMEOUT), self._pool.acquire() as db:
                await store.mark(db, CHANGES.name, moved)
            self._marked |= moved


def to_event(event: ChainedEvent) -> Event:
    """The message for a row: a CloudEvent whose data are the claims of a security event (RFC 9967)."""
    row = event.row
    kind = PUBLISHED_AS.get(row.type, row.type)
    claims = SecurityEvent(
        iss=EVENT_ISSUER,
        iat=int(row.at.timestamp()),
        jti=row.id,
        txn=row.change_id,
        sub_id=_subject(row),
        events={kind: _payload(kind, row.data or {})},
    )
    return Event(
        id=row.id,
        source=f"{EVENT_ISSUER}:organization:{row.organization_id}",
        type=kind,
        subject=row.subject_id,
        time=row.at,
        subjecttype=row.subject_type,
        organizationid=row.organization_id,
        connectionid=row.connection_id,
        sequence=f"{event.seq:019d}",
        data=claims,
    )


def _subject(row: EventRow) -> SubjectId:
    """The SCIM resource, where there is one; an account that no SCIM user stands for is an opaque id (RFC 9493)."""
    if row.subject_type == SubjectType.GROUP:
        return SubjectId(format="scim", uri=f"/Groups/{row.subject_id}")
    if row.data and "userId" in row.data:
        return SubjectId(format="scim", uri=f"/Users/{row.data['userId']}")
    return SubjectId(format="opaque", id=str(row.subject_id))


def _payload(kind: str, data: dict) -> dict:
    """What the RFC has for its event types: the resource, or the operations; ours carry what the row says."""
    match kind:
        case EventType.CREATED:
            members = [{"value": member_id} for member_id in data.get("joined", ())]
            return _counts(data) | {"data": (data.get("after") or {}) | ({"members": members} if members else {})}
        case EventType.PATCHED:
            return _counts(data) | {"data": {"schemas": [PATCH_OP], "Operations": _operations(data)}}
        case EventType.DELETED | EventType.ACTIVATED | EventType.DEACTIVATED:
            return {}
        case _:
            return data


def _operations(data: dict) -> list[dict]:
    before, after = data.get("before") or {}, data.get("after") or {}
    operations = [{"op": "remove", "path": name} for name in before if name not in after]
    operations += [{"op": "replace", "path": name, "value": value} for name, value in after.items()]
    operations += [{"op": "remove", "path": f'members[value eq "{each}"]'} for each in data.get("left", ())]
    if joined := data.get("joined"):
        operations.append({"op": "add", "path": "members", "value": [{"value": each} for each in joined]})
    return operations


def _counts(data: dict) -> dict:
    """How many members joined and left, for there may be more than an event names."""
    return {name: data[name] for name in ("joinedCount", "leftCount") if name in data}
