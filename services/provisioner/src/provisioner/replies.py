"""Sending what a batch decided: outcomes to the gateways that wait, dead letters to their topic."""

import asyncio

import structlog
from aiokafka import AIOKafkaProducer

from contracts import CHANGE_ID_HEADER, DEAD_LETTERS, OUTCOMES, TRACEPARENT_HEADER
from provisioner import metrics
from provisioner.records import Poison
from provisioner.results import Reply, Results

log = structlog.get_logger()

SEND_TIMEOUT = 2.0  # seconds; a gateway polls for an outcome that does not come


class Replies:
    """Sends without waiting for the broker: the rows are committed, so a reply that is lost can be read there."""

    def __init__(self, producer: AIOKafkaProducer) -> None:
        self._producer = producer

    async def publish(self, results: Results) -> None:
        """Send the replies and dead letters of a committed batch; never raises."""
        try:
            async with asyncio.timeout(SEND_TIMEOUT):
                for reply in results.replies:
                    await self._send_reply(reply)
                for poison in results.poison:
                    await self._send_dead_letter(poison)
        except Exception as error:  # the outcomes stay readable by change id, the records in the quarantine
            metrics.REPLIES_LOST.inc(len(results.replies) + len(results.poison))
            log.warning("replies.lost", replies=len(results.replies), error=type(error).__name__)

    async def _send_reply(self, reply: Reply) -> None:
        headers = [(CHANGE_ID_HEADER, str(reply.change_id).encode())]
        if reply.traceparent:
            headers.append((TRACEPARENT_HEADER, reply.traceparent.encode()))
        sent = await self._producer.send(OUTCOMES.name, reply.value, partition=reply.partition, headers=headers)
        sent.add_done_callback(_log_loss)

    async def _send_dead_letter(self, poison: Poison) -> None:
        record = poison.record
        source = f"{record.topic}/{record.partition}@{record.offset}".encode()
        headers = [("source", source), ("error", poison.error.encode())]
        sent = await self._producer.send(DEAD_LETTERS.name, record.value, key=record.key, headers=headers)
        sent.add_done_callback(_log_loss)
        log.error("kafka.dead_letter.sent", partition=record.partition, offset=record.offset, error=poison.error)


def _log_loss(sent: asyncio.Future[object]) -> None:
    if not sent.cancelled() and (error := sent.exception()):
        metrics.REPLIES_LOST.inc()
        log.warning("reply.lost", error=type(error).__name__)
