"""Changes that an admin asks for; they take the road of every other change, through Kafka to the provisioner."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from admin_api.errors import (
    ApiError,
    Conflict,
    Forbidden,
    NotFound,
    TooManyRequests,
    Unavailable,
    Validation,
)
from admin_api.store import outcomes
from admin_api.store.database import Transaction
from contracts import (
    CHANGE_ID_HEADER,
    CHANGES,
    NO_CONNECTION,
    TRACEPARENT_HEADER,
    Change,
    Operation,
    Outcome,
    ResourceType,
)
from directory.tables import Connection
from servicekit import tracing
from servicekit.ids import uuid7
from servicekit.kafka import Brokers, open_producer

log = structlog.get_logger()

PUBLISH_TIMEOUT = 5.0  # seconds; a request waits no longer, the sweep publishes what it missed
# How long after its request a change counts as late; nobody waits for these.
PATIENCE = timedelta(minutes=1)
# How long a request waits for the outcome of its change, and how often it looks: seconds, from the first to the last.
DECISION_TIMEOUT = timedelta(seconds=10)
FIRST_PAUSE = 0.01
MAX_PAUSE = 0.1

_REFUSALS: dict[int, type[ApiError]] = {
    400: Validation,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    412: Conflict,
    429: TooManyRequests,
    503: Unavailable,
}


class KafkaAway(Exception):
    """The broker does not answer, or not in time."""


class NotConfirmed(KafkaAway):
    """The change was sent and not confirmed: it may be in the log."""


def delete_connection(connection: Connection, actor: str, now: datetime) -> Change:
    """All users and groups of the connection are to go; asking twice is harmless."""
    return Change(
        id=uuid7(),
        organization_id=connection.organization_id,
        connection_id=connection.id,
        actor=actor,
        resource_type=ResourceType.CONNECTION,
        operation=Operation.DELETE,
        resource_id=connection.id,
        received_at=now,
        deadline=now + PATIENCE,
        traceparent=tracing.traceparent(),
    )


def admin_change(
    organization_id: UUID,
    actor: str,
    resource_type: ResourceType,
    operation: Operation,
    resource_id: UUID,
    connection_id: UUID = NO_CONNECTION,
    **members: Any,
) -> Change:
    """A change that an admin asks for now; `members` are more of Change's own (`account`, `mapping`, `dry_run`)."""
    now = datetime.now(UTC)
    return Change(
        version=2,
        id=uuid7(),
        organization_id=organization_id,
        connection_id=connection_id,
        actor=actor,
        resource_type=resource_type,
        operation=operation,
        resource_id=resource_id,
        received_at=now,
        deadline=now + DECISION_TIMEOUT,
        traceparent=tracing.traceparent(),
        **members,
    )


def check_outcome(outcome: Outcome) -> None:
    """Raise the admin surface's error for a refusal."""
    if outcome.status < 400:
        return
    error = _REFUSALS.get(outcome.status)
    if error is None:
        raise ApiError(f"change {outcome.change_id} could not be applied; it is in quarantine")
    raise error(outcome.detail or "the change was refused")


class Publisher:
    """Publishes changes, keyed by organization; its producer is opened at first use, and again after a failure."""

    def __init__(self, brokers: Brokers) -> None:
        self._brokers = brokers
        self._producer: AIOKafkaProducer | None = None
        self._stack = AsyncExitStack()
        self._opening = asyncio.Lock()

    async def publish(self, change: Change) -> None:
        """Return when the change is in the log; raises KafkaAway when that is not known."""
        key = str(change.organization_id).encode()
        await self.publish_record(key, change.model_dump_json(exclude_none=True).encode(), _headers(change))

    async def publish_record(
        self, key: bytes | None, value: bytes | None, headers: Sequence[tuple[str, bytes]] = ()
    ) -> None:
        """As `publish`, whatever the bytes are."""
        try:
            async with asyncio.timeout(PUBLISH_TIMEOUT):
                producer = await self._open()
                await producer.send_and_wait(CHANGES.name, key=key, value=value, headers=list(headers))
        except TimeoutError as error:  # the producer goes on trying
            raise NotConfirmed("no answer in time") from error
        except (KafkaError, OSError) as error:
            await self.close()
            raise KafkaAway(type(error).__name__) from error

    async def check(self) -> None:
        """Raise KafkaAway unless a broker answers and has the topic; for readiness."""
        try:
            producer = await self._open()
            if not await producer.client.force_metadata_update():
                raise KafkaAway("no broker answers")
        except (KafkaError, OSError) as error:
            raise KafkaAway(type(error).__name__) from error
        if CHANGES.name not in producer.client.cluster.topics():
            raise KafkaAway(f"topic {CHANGES.name} is missing")

    async def close(self) -> None:
        """Flush and forget the producer; the next use opens a new one."""
        self._producer = None
        try:
            async with asyncio.timeout(PUBLISH_TIMEOUT):
                await self._stack.aclose()
        except (KafkaError, OSError) as error:
            log.warning("kafka.producer.close_failed", error=type(error).__name__)

    async def _open(self) -> AIOKafkaProducer:
        async with self._opening:
            if self._producer is None:
                producer = await self._stack.enter_async_context(open_producer(self._brokers, client_id="admin-api"))
                await producer.client.add_topic(CHANGES.name)
                self._producer = producer
            return self._producer


def _headers(change: Change) -> list[tuple[str, bytes]]:
    headers = [(CHANGE_ID_HEADER, str(change.id).encode())]
    if change.traceparent:
        headers.append((TRACEPARENT_HEADER, change.traceparent.encode()))
    return headers


class Changes:
    """Publishes changes and waits for what the provisioner decides, which it writes into the table of outcomes."""

    def __init__(self, publisher: Publisher, transaction: Transaction) -> None:
        self._publisher = publisher
        self._transaction = transaction

    async def decide(self, change: Change) -> Outcome:
        """The outcome of a change that was not refused; raises the admin surface's error when it was.

        Raises Unavailable when Kafka is away, or nothing is decided within DECISION_TIMEOUT: the text tells which.
        """
        outcome = await self.submit(change)
        check_outcome(outcome)
        return outcome

    async def submit(self, change: Change) -> Outcome:
        """The outcome, whatever it says; raises Unavailable without one."""
        structlog.contextvars.bind_contextvars(change_id=str(change.id))
        try:
            await self._publisher.publish(change)
        except NotConfirmed:
            log.warning("change.not_confirmed")
        except KafkaAway as error:
            raise Unavailable("the change was not accepted: nothing was changed; try again", retry_after=2) from error
        outcome = await self._await_outcome(change.id)
        if outcome is None:
            raise Unavailable(f"the outcome of change {change.id} is unknown: it may still be applied", retry_after=10)
        return outcome

    async def _await_outcome(self, change_id: UUID) -> Outcome | None:
        pause = FIRST_PAUSE
        deadline = time.monotonic() + DECISION_TIMEOUT.total_seconds()
        while time.monotonic() < deadline:
            async with self._transaction() as db:
                reply = await outcomes.find_reply(db, change_id)
            if reply is not None:
                return Outcome.model_validate_json(reply)
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, MAX_PAUSE)
        return None
