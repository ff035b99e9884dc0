"""Consuming `scim.changes`: one worker per assigned partition, each applying its records in order.

The consumer group only divides the partitions. Where to start is Postgres's word (the claim), and the offsets that are
committed to the group are a mirror for those who watch the lag.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass, field

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from provisioner import metrics
from provisioner.caution import divide, suspects
from provisioner.engine import ClaimLost, Engine, Stopped
from provisioner.events import EventFeed
from provisioner.queue import RecordQueue
from provisioner.records import Record
from provisioner.store.claims import Claim, OtherCluster
from provisioner.watchdog import Progress
from servicekit.lifecycle import Stopping, wait_for

log = structlog.get_logger()

MIRROR_INTERVAL = 1.0  # seconds
POLL_TIMEOUT = 1_000  # milliseconds
REVOKE_TIMEOUT = 4.0  # seconds for the batch in hand; below the session timeout, and the fence guards what comes later


class OutsideLog(Exception):
    """Postgres's offset is not in Kafka's log: one of the two was restored. Going on would skip or repeat changes."""


class NotJoined(Exception):
    """The group has not yet said which partitions are ours."""


@dataclass(slots=True)
class Worker:
    """One assigned partition: its records in memory, and the offset up to which it is applied."""

    partition: TopicPartition
    queue: RecordQueue = field(default_factory=RecordQueue)
    is_paused: bool = False
    is_busy: bool = False
    suspected: range = range(0)
    next_offset: int | None = None
    mirrored: int | None = None
    in_hand: int | None = None  # when the oldest record of the batch in hand was sent, in Unix milliseconds
    task: asyncio.Task[None] | None = None


class Consumer(ConsumerRebalanceListener):
    """Runs a worker for every partition that the group assigns to this process."""

    def __init__(
        self,
        kafka: AIOKafkaConsumer,
        engine: Engine,
        stopping: asyncio.Event,
        owner: str,
        cluster_id: str,
        events: EventFeed,
    ) -> None:
        self._has_joined = False
        self._kafka = kafka
        self._engine = engine
        self._stopping = stopping
        self._owner = owner
        self._cluster_id = cluster_id
        self._events = events
        self._workers: dict[TopicPartition, Worker] = {}
        self._failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def run(self, topic: str, watch: Callable[[], Coroutine[None, None, None]] | None = None) -> None:
        """Consume until `stopping` is set; the batches in hand are finished first.

        Raises what ended a worker (OutsideLog, OtherCluster, NewerVersion, or a bug), or what `watch` raises.
        """
        self._kafka.subscribe([topic], listener=self)
        tasks = [asyncio.create_task(task) for task in (self._poll(), self._stopping.wait(), self._mirror())]
        if watch:
            tasks.append(asyncio.create_task(watch()))
        try:
            await asyncio.wait({*tasks, self._failure}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._stopping.set()
            failures = [task for task in (*tasks, self._failure) if task.done()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._end(list(self._workers))
        for failed in failures:
            failed.result()

    async def check_joined(self) -> None:
        """Raise NotJoined until the group has assigned partitions, perhaps none, to this process."""
        if not self._has_joined:
            raise NotJoined

    def progress(self) -> dict[TopicPartition, Progress]:
        """How far each assigned partition is applied."""
        return {
            partition: Progress(worker.next_offset, worker.is_busy, partition.partition in self._engine.waiting)
            for partition, worker in self._workers.items()
        }

    async def on_partitions_assigned(  # pyright: ignore[reportIncompatibleMethodOverride] - awaited when it is one
        self, assigned: Iterable[TopicPartition]
    ) -> None:
        self._has_joined = True
        for partition in assigned:
            # Paused until claimed: nothing is fetched from a position that Postgres has not named.
            self._kafka.pause(partition)
            # Any position will do until then; without one, and without a committed one, aiokafka would raise.
            self._kafka.seek(partition, 0)
            worker = self._workers[partition] = Worker(partition, is_paused=True)
            worker.task = asyncio.create_task(self._guarded(worker))

    async def on_partitions_revoked(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, revoked: Iterable[TopicPartition]
    ) -> None:
        await self._end(list(revoked))

    async def _end(self, partitions: list[TopicPartition]) -> None:
        """Let the workers finish the batch in hand, and no other; mirror what they reached."""
        workers = [self._workers[partition] for partition in partitions if partition in self._workers]
        for worker in workers:
            worker.queue.close()
        tasks = [worker.task for worker in workers if worker.task]
        if tasks:
            _, unfinished = await asyncio.wait(tasks, timeout=REVOKE_TIMEOUT)
            for task in unfinished:
                task.cancel()
            await asyncio.gather(*unfinished, return_exceptions=True)
        await self._events.close([partition.partition for partition in partitions])
        await self._commit_mirror()
        for partition in partitions:
            self._workers.pop(partition, None)
            metrics.hide_lag(partition.partition)
        metrics.PARTITIONS.set(len(self._workers))

    async def _poll(self) -> None:
        while True:
            fetched = await self._kafka.getmany(timeout_ms=POLL_TIMEOUT)
            for partition, records in fetched.items():
                worker = self._workers.get(partition)
                if worker is None:
                    continue
                worker.queue.put(_record(record) for record in records)
                if worker.queue.is_full and not worker.is_paused:
                    worker.is_paused = True
                    self._kafka.pause(partition)

    async def _guarded(self, worker: Worker) -> None:
        try:
            await self._work(worker)
        except (Stopped, Stopping):
            return
        except Exception as error:
            if not self._failure.done():
                self._failure.set_exception(error)

    async def _work(self, worker: Worker) -> None:
        claim = await self._claim(worker)
        self._events.open(worker.partition.partition)
        while records := await worker.queue.next_batch():
            records = [record for record in records if record.offset >= claim.next_offset]
            if not records:
                continue
            if records[0].offset > claim.next_offset:
                raise OutsideLog(f"{claim}: the log goes on at offset {records[0].offset}")
            worker.is_busy, worker.in_hand = True, records[0].sent_at
            try:
                claim = await self._apply(worker, claim, records)
            except ClaimLost as lost:
                metrics.CLAIMS_LOST.inc()
                log.warning("partition.claim_lost", partition=claim.partition, reason=str(lost))
                claim = await self._go_on(worker, claim)
            finally:
                worker.is_busy, worker.in_hand = False, None
            worker.next_offset = claim.next_offset
            if worker.is_paused and worker.queue.has_room:
                worker.is_paused = False
                self._kafka.resume(worker.partition)

    async def _apply(self, worker: Worker, claim: Claim, records: Sequence[Record]) -> Claim:
        """All as one batch, but first those alone that may have ended a process."""
        alone, together = divide(records, worker.suspected)
        for record in alone:
            if worker.queue.is_closed:
                return claim
            claim = await self._engine.apply_alone(claim, record)
            worker.next_offset = claim.next_offset
        return await self._engine.apply(claim, together) if together else claim

    async def _claim(self, worker: Worker) -> Claim:
        partition = worker.partition
        self._engine.waiting.discard(partition.partition)

        async def take() -> Claim | OtherCluster:
            first = (await self._kafka.beginning_offsets([partition]))[partition]
            try:
                return await self._engine.claim(
                    partition.topic, partition.partition, first, self._owner, self._cluster_id
                )
            except OtherCluster as other:  # waiting would not help
                return other

        claim = await wait_for(take, "the claim of a partition", self._stopping)
        if isinstance(claim, OtherCluster):
            raise claim
        worker.suspected = suspects(claim, await self._seek(worker, claim))
        if worker.suspected:
            log.warning("partition.single_record_mode", partition=partition.partition, offset=claim.next_offset)
        metrics.CLAIMS.inc()
        log.info("partition.claimed", partition=partition.partition, offset=claim.next_offset, epoch=claim.epoch)
        return claim

    async def _go_on(self, worker: Worker, lost: Claim) -> Claim:
        """The claim at the offset as it is now, while its epoch is ours; otherwise the partition is another's."""
        now = await self._engine.current(lost)
        if now is None or now.epoch != lost.epoch:
            raise Stopped
        worker.queue.clear()
        await self._seek(worker, now)
        return now

    async def _seek(self, worker: Worker, claim: Claim) -> int:
        """Fetch from the claim's offset on; the offset at which the log ends now."""
        partition = worker.partition
        first = (await self._kafka.beginning_offsets([partition]))[partition]
        end = (await self._kafka.end_offsets([partition]))[partition]
        if not first <= claim.next_offset <= end:
            raise OutsideLog(f"{claim}: the log holds offsets {first} to {end}")
        self._kafka.seek(partition, claim.next_offset)
        worker.next_offset = worker.mirrored = claim.next_offset
        worker.is_paused = False
        self._kafka.resume(partition)
        return end

    async def _mirror(self) -> None:
        while True:
            await asyncio.sleep(MIRROR_INTERVAL)
            await self._events.mark()
            self._show_lag()
            await self._commit_mirror()

    def _show_lag(self) -> None:
        metrics.PARTITIONS.set(len(self._workers))
        ours = self._kafka.assignment()
        for partition, worker in self._workers.items():
            end = self._kafka.highwater(partition) if partition in ours else None
            if end is not None and worker.next_offset is not None:
                metrics.show_lag(partition.partition, end - worker.next_offset, worker.in_hand or worker.queue.oldest)

    async def _commit_mirror(self) -> None:
        """Tell the group how far we are; only observers read it, so a failure is theirs alone."""
        moved = {
            worker.partition: worker.next_offset
            for worker in self._workers.values()
            if worker.next_offset is not None and worker.next_offset != worker.mirrored
        }
        if not moved:
            return
        try:
            await self._kafka.commit(moved)
        except KafkaError as error:
            log.info("offsets.mirror_failed", error=type(error).__name__)
            return
        for partition, offset in moved.items():
            self._workers[partition].mirrored = offset


def _record(record: ConsumerRecord) -> Record:
    return Record(record.topic, record.partition, record.offset, record.key, record.value, record.timestamp)
