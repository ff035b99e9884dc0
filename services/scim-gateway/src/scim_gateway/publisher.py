"""Publishing changes: one idempotent producer, made anew when it has broken."""

import asyncio
import time
from functools import partial

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, KafkaTimeoutError, MessageSizeTooLargeError

from contracts import CHANGE_ID_HEADER, CHANGES, TRACEPARENT_HEADER, Change
from scim_gateway import metrics
from scim_gateway.broker import Reachability
from servicekit import tracing
from servicekit.kafka import Brokers, open_producer

log = structlog.get_logger()

RETRY_SECONDS = 0.5
STOP_SECONDS = 5.0  # to flush what was accepted; a broker that is away must not keep us from ending


class NotPublished(Exception):
    """The record was certainly not handed to the producer."""


class Publisher:
    """Hands changes to Kafka, keyed by organization: one organization is one ordered stream."""

    def __init__(self, brokers: Brokers, reachability: Reachability) -> None:
        self._brokers = brokers
        self._reachability = reachability
        self._producer: AIOKafkaProducer | None = None
        self._broken = asyncio.Event()
        metrics.PRODUCER_OPEN.set_function(lambda: self.is_open)
        metrics.KAFKA_REACHABLE.set_function(lambda: reachability.is_reachable)

    async def run(self) -> None:
        """Keep a producer open until cancelled; cancelling flushes it."""
        while True:
            try:
                async with open_producer(self._brokers, client_id="scim-gateway") as producer:
                    await producer.partitions_for(CHANGES.name)  # raises when nobody has made the topic yet
                    self._producer = producer
                    self._broken.clear()
                    await self._broken.wait()
            except (KafkaError, OSError) as error:
                log.warning("publisher.connecting", error=type(error).__name__)
            finally:
                self._producer = None
            await asyncio.sleep(RETRY_SECONDS)

    @property
    def is_open(self) -> bool:
        """Whether changes can be published: there is a producer, and it knows the topic."""
        return self._producer is not None

    async def publish(self, change: Change) -> None:
        """Append the change to the producer's buffer; from then on it may reach the log at any time.

        Raises NotPublished when it was not appended: Kafka is away, or the record is too large. Being cancelled means
        the same.
        """
        producer = self._producer
        if producer is None or not self._reachability.is_reachable:
            raise NotPublished
        started = time.time_ns()
        try:
            # `send` awaits nothing after it has appended, so a cancellation means "not appended".
            delivery = await producer.send(
                CHANGES.name,
                key=str(change.organization_id).encode(),
                value=change.model_dump_json(exclude_none=True).encode(),
                headers=_headers(change),
            )
        except (MessageSizeTooLargeError, KafkaTimeoutError) as error:
            raise NotPublished from error
        except KafkaError as error:
            log.error("publisher.broken", error=type(error).__name__)
            self._break()
            raise NotPublished from error
        delivery.add_done_callback(self._delivered)
        if change.traceparent:
            delivery.add_done_callback(partial(_trace, change.traceparent, started))

    def _delivered(self, delivery: asyncio.Future) -> None:
        if delivery.cancelled():
            return
        error = delivery.exception()
        if error is None:
            self._reachability.seen()
            return
        # An idempotent batch is retried until it succeeds; one that failed has left a gap in the sequence.
        log.error("publisher.delivery_failed", error=type(error).__name__)
        self._break()

    def _break(self) -> None:
        """Have the producer made anew."""
        metrics.PRODUCER_FAILURES.inc()
        self._broken.set()


def _trace(traceparent: str, started: int, _: asyncio.Future) -> None:
    """From the change's handing over to Kafka's acknowledgement."""
    tracing.record("send scim.changes", traceparent, started, kind="producer")


def _headers(change: Change) -> list[tuple[str, bytes]]:
    headers = [(CHANGE_ID_HEADER, str(change.id).encode())]
    if change.traceparent:
        headers.append((TRACEPARENT_HEADER, change.traceparent.encode()))
    return headers
