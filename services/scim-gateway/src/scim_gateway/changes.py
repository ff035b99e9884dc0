"""From a request to a change, and from a change to its outcome (design section 4, steps 3, 4 and 6)."""

import asyncio
import hmac
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import orjson
import structlog

from contracts import Change, Operation, Outcome, RequestSummary, ResourceType
from scim.errors import Unavailable
from scim_gateway import metrics
from scim_gateway.admission import Slots
from scim_gateway.auth import Connection
from scim_gateway.outcomes import Outcomes
from scim_gateway.publisher import NotPublished, Publisher
from scim_gateway.served import Served
from servicekit import tracing
from servicekit.ids import uuid7

RETRY_AFTER = 5  # seconds; about what a provisioner or a broker needs to come back

NOT_ACCEPTED = "The change was not accepted: nothing was changed and nothing will be; send it again."
UNKNOWN = (
    "The outcome of the change is unknown: it was accepted and may still take effect, once; "
    "read the resource before sending it again."
)


class Changes:
    """Publishes changes and waits for their outcomes."""

    def __init__(self, slots: Slots, publisher: Publisher, outcomes: Outcomes, deadline: timedelta, key: bytes) -> None:
        self._slots = slots
        self._publisher = publisher
        self._outcomes = outcomes
        self._deadline = deadline
        self._fingerprint_key = key

    def create(self, connection: Connection, served: Served, request: RequestSummary, **content: Any) -> Change:
        """A create, with the id of the new resource and the fingerprint that recognises a repetition of it."""
        mark = self.fingerprint(content)
        return self.change(connection, served.name, Operation.CREATE, uuid7(), request, fingerprint=mark, **content)

    def fingerprint(self, content: Mapping[str, Any]) -> str:
        """By which a create with this content is recognised when it is sent again."""
        members = [value for change in content.get("members", ()) for value in change.values]
        return fingerprint(self._fingerprint_key, {**content["resource"], **({"members": members} if members else {})})

    def change(
        self,
        connection: Connection,
        resource_type: ResourceType,
        operation: Operation,
        resource_id: UUID,
        request: RequestSummary,
        **content: Any,
    ) -> Change:
        """A change received now; `content` is what its operation needs (`resource`, `patch`, `members`, `if_match`)."""
        received_at = datetime.now(UTC)
        if connection.is_preview:
            content = {**content, "version": 2, "dry_run": True}
        return Change(
            id=uuid7(),
            organization_id=connection.organization_id,
            connection_id=connection.id,
            token_id=connection.token_id,
            actor=f"scim:{connection.provider_id}",
            resource_type=resource_type,
            operation=operation,
            resource_id=resource_id,
            received_at=received_at,
            deadline=received_at + self._deadline,
            reply_partition=self._outcomes.partition,
            request=request,
            traceparent=tracing.traceparent(),
            **content,
        )

    async def submit(self, change: Change) -> Outcome:
        """Publish the change when its turn has come and wait for its outcome, a refusal included.

        Raises TooManyRequests or Unavailable when nothing was published, and Unavailable saying that the outcome is
        unknown when it was and the deadline has come. The slot outlives this call, and the client, until the outcome
        is seen (T68).
        """
        slot = self._slots.take(change.connection_id, urgent=takes_access_away(change))
        structlog.contextvars.bind_contextvars(change_id=str(change.id))
        pending = self._outcomes.expect(change.id, slot)
        is_published = False
        try:
            # `publish` awaits nothing once the record is appended, so whatever ends it early means "not appended".
            async with asyncio.timeout(_seconds_until(change.deadline)):
                await slot.turn()
                await self._publisher.publish(change)
                is_published = True
                return await pending.outcome
        except (NotPublished, TimeoutError) as error:
            if is_published:
                metrics.UNKNOWN.inc()
                raise Unavailable(UNKNOWN, RETRY_AFTER) from error
            metrics.NOT_ACCEPTED.inc()
            raise Unavailable(NOT_ACCEPTED, RETRY_AFTER) from error
        finally:
            if not is_published:
                self._outcomes.forget(change.id)


def fingerprint(key: bytes, resource: dict[str, Any]) -> str:
    """HMAC of the canonical resource: equal for equal resources, and says nothing about them without the key."""
    return hmac.digest(key, b"fingerprint:" + orjson.dumps(resource, option=orjson.OPT_SORT_KEYS), "sha256").hex()


def takes_access_away(change: Change) -> bool:
    """Whether its sole effect is a deletion or `active: false`; such changes have slots of their own."""
    if change.operation is Operation.DELETE:
        return True
    return change.operation is Operation.PATCH and bool(change.patch) and all(map(_deactivates, change.patch or ()))


def _deactivates(operation: dict[str, Any]) -> bool:
    return operation.get("op") != "remove" and operation.get("path") == "active" and operation.get("value") is False


def _seconds_until(deadline: datetime) -> float:
    return max(0.0, (deadline - datetime.now(UTC)).total_seconds())
