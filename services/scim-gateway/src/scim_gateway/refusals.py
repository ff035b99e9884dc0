"""What this gateway refused by itself, on its way to the provisioning log: `scim.refusals`.

An admin sees there what the identity provider sent and why it was refused. Best effort: no answer waits for it, so many
and no more are kept (a sample for each connection, and a count of those between), and what Kafka does not take is lost.
"""

import asyncio
from collections import Counter
from collections.abc import MutableMapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from contracts import REFUSALS, Outcome, RefusedRequest, ResourceType
from scim.errors import ScimError
from scim_gateway import metrics
from scim_gateway.auth import CONNECTION, Connection
from scim_gateway.body import PARSED
from scim_gateway.edge import ROUTE
from scim_gateway.masking import summarize
from scim_gateway.rates import Buckets
from servicekit.ids import uuid7
from servicekit.kafka import REQUEST_TIMEOUT, Brokers, address

log = structlog.get_logger()

# Of one connection: at once, and a second in the long run. An admin needs an example, not the whole storm.
BURST, RATE = 20.0, 0.2
MAX_WAITING = 200  # refusals, each with up to 16 KB of the request
RETRY_SECONDS = 5.0
STOP_SECONDS = 1.0
NOBODY = UUID(int=0)

_TYPES = {"/Users": ResourceType.USER, "/Groups": ResourceType.GROUP, "/Bulk": ResourceType.BULK}
_OPERATIONS = {"POST": "create", "PUT": "replace", "PATCH": "patch", "DELETE": "delete", "GET": "read"}


class Refusals:
    """Takes refusals without waiting, and publishes them."""

    def __init__(self, brokers: Brokers) -> None:
        self._brokers = brokers
        self._waiting: asyncio.Queue[RefusedRequest] = asyncio.Queue(MAX_WAITING)
        self._buckets: Buckets[UUID] = Buckets(RATE, BURST)
        self._similar: Counter[UUID] = Counter()

    def note(self, scope: MutableMapping[str, Any], connection: Connection, route: str, error: ScimError) -> None:
        """Have the refusal told, when it is one of the sample; `route` is the template that was asked for."""
        kind = _kind(scope["method"], route)
        if kind is None or connection.is_preview or (kind[1] == "read" and error.status == 404):
            return
        if self._buckets.wait(connection.id):
            self._similar[connection.id] += 1
            return
        self._buckets.spend(connection.id)
        refused = _refused(scope, connection, route, kind, error, self._similar.pop(connection.id, 0))
        try:
            self._waiting.put_nowait(refused)
        except asyncio.QueueFull:
            metrics.REFUSALS_LOST.inc()

    def note_error(self, scope: MutableMapping[str, Any], error: ScimError) -> None:
        """The same for an error of the ordinary way: when the request's connection is known, and no change was made of
        the request, which would be in the log by itself."""
        connection, route = scope.get(CONNECTION), scope.get(ROUTE)
        is_change = "change_id" in structlog.contextvars.get_contextvars()
        if connection and route and 400 <= error.status < 500 and not is_change:
            self.note(scope, connection, route, error)

    async def run(self) -> None:
        """Publish until cancelled, through a producer of its own: its failures are not those of the changes."""
        while True:
            producer = AIOKafkaProducer(
                **address(self._brokers), client_id="scim-gateway-refusals", request_timeout_ms=REQUEST_TIMEOUT
            )
            try:
                await producer.start()
                while True:
                    await self._publish(producer, await self._waiting.get())
            except (KafkaError, OSError) as error:
                log.warning("refusals.waiting", error=type(error).__name__)
            finally:
                await _stop(producer)
            await asyncio.sleep(RETRY_SECONDS)

    async def _publish(self, producer: AIOKafkaProducer, refused: RefusedRequest) -> None:
        try:
            value = refused.model_dump_json(exclude_none=True).encode()
            await producer.send_and_wait(REFUSALS.name, value, key=str(refused.organization_id).encode())
        except Exception as error:
            metrics.REFUSALS_LOST.inc()
            if isinstance(error, KafkaError | OSError):
                raise
            log.exception("refusal.lost")


def _kind(method: str, route: str) -> tuple[ResourceType, str] | None:
    """What was asked for, and about what; None for what is not told."""
    resource_type = _TYPES.get("/" + route.split("/")[1]) if route.startswith("/") else None
    operation = "read" if route.endswith("/.search") else _OPERATIONS.get(method)
    if resource_type is None or operation is None:
        return None
    return resource_type, "bulk" if resource_type is ResourceType.BULK else operation


def _refused(
    scope: MutableMapping[str, Any],
    connection: Connection,
    route: str,
    kind: tuple[ResourceType, str],
    error: ScimError,
    similar: int,
) -> RefusedRequest:
    body, data = scope.get(PARSED, (None, b""))
    return RefusedRequest(
        organization_id=connection.organization_id,
        connection_id=connection.id,
        token_id=connection.token_id,
        actor=f"scim:{connection.provider_id}",
        operation=kind[1],
        outcome=Outcome(
            change_id=uuid7(),
            resource_type=kind[0],
            resource_id=_resource_id(scope),
            status=error.status,
            scim_type=error.scim_type,
            detail=error.detail,
            similar=similar,
        ),
        received_at=datetime.now(UTC),
        request=summarize(scope["method"], route, body, data),
    )


def _resource_id(scope: MutableMapping[str, Any]) -> UUID:
    try:
        return UUID(scope["path"].rpartition("/")[2])
    except ValueError:
        return NOBODY


async def _stop(producer: AIOKafkaProducer) -> None:
    try:
        async with asyncio.timeout(STOP_SECONDS):
            await producer.stop()
    except (KafkaError, TimeoutError):
        log.info("refusals.stopping_failed")
