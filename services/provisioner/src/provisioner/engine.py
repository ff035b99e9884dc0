"""Applying a batch: load, decide, flush behind the fence; replies afterwards (design section 4, step 5).

Loading stands before the transaction, which is the flush alone: whoever changes what was loaded moves the partition's
offset, and then the fence keeps the flush from writing (docs/decisions).
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime

import asyncpg
import structlog

from contracts import Change
from provisioner import caution, metrics
from provisioner.batch import decide_all, is_rehearsed, split
from provisioner.caution import ENDED, MAX_MARKS
from provisioner.chain import ChainedEvent
from provisioner.records import Item, NewerVersion, Poison, Record, decode
from provisioner.results import Results
from provisioner.rules import touched_by
from provisioner.state import Directory
from provisioner.store import claims, flush, load
from provisioner.store.claims import Claim
from servicekit.lifecycle import sleep_unless, wait_for
from servicekit.logs import describe

log = structlog.get_logger()

MAX_BACKOFF = 2.0  # seconds between two attempts while the database is away

# The rows themselves are refused: waiting does not help, isolating the record does. ValueError is how asyncpg refuses a
# value before it is sent.
DATA_FAULTS = (
    asyncpg.DataError,
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.ProgramLimitExceededError,
    ValueError,
)

# Everything else that Postgres or the way to it can raise: away, failing over, deadlocked, full, not migrated. It
# passes by itself or an operator mends it; the batch waits in order and nothing is skipped.
INFRASTRUCTURE = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)

type Publish = Callable[[Results], Awaitable[None]]
type HandOver = Callable[[int, Sequence[ChainedEvent]], None]
"""Takes the events of a partition that were committed, in order."""


class ClaimLost(Exception):
    """Another provisioner has claimed the partition, or its offset was moved: apply nothing more under this claim."""


class Stopped(Exception):
    """Told to stop while the database was away; nothing of the batch was applied."""


class TokenRevoked(Exception):
    """A token of the batch was revoked while it was decided; nothing was applied, and deciding again refuses it."""


class Engine:
    """Applies batches; `publish` sends replies and dead letters, and must not raise: a lost reply is polled for."""

    def __init__(
        self, pool: asyncpg.Pool, publish: Publish, stopping: asyncio.Event, hand_over: HandOver | None = None
    ) -> None:
        self._pool = pool
        self._publish = publish
        self._hand_over = hand_over
        self._stopping = stopping
        self.waiting: set[int] = set()
        """Partitions whose batch the infrastructure holds up."""

    async def claim(
        self, topic: str, partition: int, first_offset: int, owner: str, cluster_id: str | None = None
    ) -> Claim:
        """Take a partition over (see claims.claim)."""
        async with self._pool.acquire() as db:
            return await claims.claim(db, topic, partition, first_offset, owner, cluster_id)

    async def current(self, held: Claim) -> Claim | None:
        """The offset and epoch of the held partition as committed."""
        async with self._pool.acquire() as db:
            return await claims.current(db, held)

    async def apply(self, claim: Claim, records: Sequence[Record]) -> Claim:
        """Apply the partition's next `records`, exactly once in effect, and return the advanced claim.

        Raises ClaimLost, Stopped, or NewerVersion after everything before that record was applied.
        """
        items, newer = _decode_until_newer(records)
        for run in split(items):
            claim = await self._apply_run(claim, run)
        if newer:
            raise newer
        return claim

    async def apply_alone(self, claim: Claim, record: Record) -> Claim:
        """Apply a record that may end the process, marked before; set aside when it was marked twice already."""
        marks = await wait_for(lambda: caution.mark(self._pool, claim), "the mark of a record", self._stopping)
        if marks is None:
            raise ClaimLost(f"{claim.topic}/{claim.partition} at offset {claim.next_offset}")
        try:
            if marks <= MAX_MARKS:
                return await self.apply(claim, [record])
            # If decoding is what ends the process, it is not tried once more.
            change = decode(record) if marks == MAX_MARKS + 1 else None
        except (NewerVersion, Stopped):
            await caution.unmark(self._pool, claim)
            raise
        poison = Poison(record, ENDED, change if isinstance(change, Change) else None)
        return await self._apply_run(claim, [(record, poison)])

    async def _apply_run(self, claim: Claim, run: Sequence[Item]) -> Claim:
        while run:
            try:
                results = await self._retrying(claim, run)
            except (ClaimLost, Stopped):
                raise
            except Exception as error:
                if len(run) == 1 and isinstance(run[0][1], Poison):
                    raise  # not even the quarantine can be written: stop rather than drop
                metrics.ISOLATIONS.inc()
                log.warning("batch.isolating", partition=claim.partition, records=len(run), error=describe(error))
                return await self._isolate(claim, run)
            await self._answer(claim, results)
            claim = replace(claim, next_offset=_end(run[: results.taken]))
            run = run[results.taken :]
        return claim

    async def _answer(self, claim: Claim, results: Results) -> None:
        await self._publish(results)
        if self._hand_over:
            self._hand_over(claim.partition, results.events)
        for change, outcome, _ in results.decided:
            if outcome.status >= 400:
                log.info(
                    "change.refused",
                    change_id=str(change.id),
                    connection_id=str(change.connection_id),
                    status=outcome.status,
                    scim_type=outcome.scim_type,
                )
        log.info(
            "batch.applied",
            partition=claim.partition,
            offset=claim.next_offset,
            changes=len(results.decided),
            quarantined=len(results.poison),
        )

    async def _isolate(self, claim: Claim, run: Sequence[Item]) -> Claim:
        """One by one, so that the record at fault harms no other; it is decided once more, then quarantined."""
        for item in run:
            try:
                results = await self._retrying(claim, [item])
            except (ClaimLost, Stopped):
                raise
            except Exception as error:
                log.error("record.quarantined", partition=claim.partition, offset=item[0].offset, error=describe(error))
                claim = await self._apply_run(claim, [(item[0], _poison(*item, error))])
                continue
            await self._answer(claim, results)
            claim = replace(claim, next_offset=_end([item]))
        return claim

    async def _retrying(self, claim: Claim, run: Sequence[Item]) -> Results:
        """Apply `run`; while the infrastructure is at fault, again and again.

        When the connection is lost during the flush nobody tells whether it was committed: the next attempt's fence
        does. If it was, that attempt has found the outcomes in place of deciding, so its results hold the same replies.
        """
        attempts = 0
        while True:
            try:
                results = await self._attempt(claim, run)
                self.waiting.discard(claim.partition)
                return results
            except TokenRevoked:
                continue
            except DATA_FAULTS:
                raise
            except INFRASTRUCTURE as error:
                attempts += 1
                self.waiting.add(claim.partition)
                log.warning("batch.retrying", partition=claim.partition, attempts=attempts, error=reason(error))
                metrics.RETRIES.inc()
                await sleep_unless(self._stopping, min(0.05 * 2**attempts, MAX_BACKOFF))
                if self._stopping.is_set():
                    raise Stopped from error

    async def _rehearsed(
        self,
        db: asyncpg.pool.PoolConnectionProxy,
        claim: Claim,
        end: int,
        directory: Directory,
        results: Results,
        applied_at: datetime,
    ) -> Results:
        """The results to write: those whose outcome tells effects are written once and taken back, to know them."""
        change = results.decided[-1][0] if results.decided else None
        if change is None or not is_rehearsed(change):
            return results
        moved = await flush.rehearse(db, claim, end, results, directory.last_event, applied_at)
        effects = results.effects(moved.effects(), gained=len(moved.gained), lost=len(moved.lost))
        if change.dry_run:
            return results.told(effects)
        results.tell(effects)
        return results

    async def _attempt(self, claim: Claim, run: Sequence[Item]) -> Results:
        applied_at, attempt = datetime.now(UTC), metrics.Attempt()
        async with self._pool.acquire() as db:
            touched = touched_by(item for _, item in run if isinstance(item, Change))
            directory = await load.load(db, touched, claim.partition)
            attempt.loaded()
            results = decide_all(directory, run, applied_at)
            attempt.decided()
            end = _end(run[: results.taken])
            try:
                results = await self._rehearsed(db, claim, end, directory, results, applied_at)
                await flush.flush(db, claim, end, results, directory.last_event, applied_at)
            except flush.FenceFailed as error:
                now = await claims.current(db, claim)
                if now == claim:
                    raise TokenRevoked from error
                if now != replace(claim, next_offset=end):
                    raise ClaimLost(f"{claim.topic}/{claim.partition} at offset {claim.next_offset}") from error
        attempt.committed(claim.partition, run, results)
        return results


def _decode_until_newer(records: Sequence[Record]) -> tuple[list[Item], NewerVersion | None]:
    items: list[Item] = []
    for record in records:
        try:
            items.append((record, decode(record)))
        except NewerVersion as newer:
            return items, newer
    return items, None


def _poison(record: Record, item: Change | Poison, error: Exception) -> Poison:
    if isinstance(item, Poison):
        return item
    return Poison(record, describe(error), item)


def _end(run: Sequence[Item]) -> int:
    return run[-1][0].offset + 1


def reason(error: Exception) -> str:
    """The error's name and Postgres's own sentence, without the detail that holds values."""
    says = error.args[0] if isinstance(error, asyncpg.PostgresError) and error.args else ""
    return f"{type(error).__name__}: {says}" if says else type(error).__name__
