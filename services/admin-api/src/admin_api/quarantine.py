"""The quarantine: records that could not be applied are looked at, tried again, or given up (design section 4).

For the API and for operators; with an `organization_id` nothing of others is seen. A record that names no organization
(it could not be read) is the operators' alone.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

from pydantic import ValidationError
from sqlalchemy.ext.asyncio import AsyncSession

from admin_api import audit
from admin_api.audit import NO_ORGANIZATION, Act, Subject
from admin_api.changes import DECISION_TIMEOUT, KafkaAway, NotConfirmed, Publisher
from admin_api.errors import Conflict, NotFound, Unavailable
from admin_api.store import quarantine as store
from contracts import Change
from directory.tables import Quarantined
from servicekit.ids import uuid7

PAGE = 100


async def list_quarantine(
    db: AsyncSession,
    organization_id: UUID | None = None,
    *,
    is_open: bool | None = True,
    before: tuple[datetime, UUID] | None = None,
    limit: int = PAGE,
) -> Sequence[Quarantined]:
    """Records set aside, the latest first; `before` is the place (created_at, id) behind which to go on."""
    return await store.list_quarantine(db, organization_id, is_open=is_open, before=before, limit=limit)


async def show(db: AsyncSession, quarantine_id: UUID, organization_id: UUID | None = None) -> Quarantined:
    """One record with its bytes, which are personal data; raises NotFound."""
    found = await store.find_quarantined(db, quarantine_id, organization_id)
    if found is None:
        raise NotFound("there is no such record in the quarantine")
    return found


async def retry(
    db: AsyncSession, publisher: Publisher, quarantine_id: UUID, actor: str, organization_id: UUID | None = None
) -> UUID | None:
    """Publish the record again, as a change of now that `actor` asks for; the new change's id, None when it has none.

    The record counts as resolved when this returns and `db` is committed; lost in between, a second retry publishes it
    a second time, and that change is decided on what the first one left. Raises NotFound, Conflict when it was resolved
    before, or Unavailable.
    """
    found = await _open(db, quarantine_id, organization_id)
    change = again(found, actor)
    try:
        if change is None:
            await publisher.publish_record(found.key, found.value)
        else:
            await publisher.publish(change)
    except NotConfirmed as error:
        raise Unavailable(
            "the record may have been published; see the log before you retry it", retry_after=10
        ) from error
    except KafkaAway as error:
        raise Unavailable("Kafka cannot be reached: nothing was published", retry_after=2) from error
    await _resolve(db, found, "retried", actor, {"changeId": str(change.id)} if change else {})
    return change.id if change else None


async def discard(db: AsyncSession, quarantine_id: UUID, actor: str, organization_id: UUID | None = None) -> None:
    """Give the record up; it stays in the table. Raises NotFound or Conflict."""
    found = await _open(db, quarantine_id, organization_id)
    await _resolve(db, found, "discarded", actor, {})


def again(found: Quarantined, actor: str) -> Change | None:
    """The change that was set aside, as a new one; None when the record holds none that can be read.

    Of a Bulk request of which one operation failed, that operation alone: the others were applied.
    """
    try:
        change = Change.model_validate_json(found.value or b"")
    except ValidationError:
        return None
    for operation in change.changes or ():
        if operation.id == found.change_id:
            change = operation
    return _renewed(change, actor, datetime.now(UTC))


def _renewed(change: Change, actor: str, now: datetime) -> Change:
    """Whoever sent it first is not waiting any more, and the token may be gone: the actor answers for it."""
    update = {
        "id": uuid7(),
        "actor": actor,
        "token_id": None,
        "received_at": now,
        "deadline": now + DECISION_TIMEOUT,
        "reply_partition": None,
        "changes": [_renewed(each, actor, now) for each in change.changes] if change.changes else change.changes,
    }
    return change.model_copy(update=update)


async def _open(db: AsyncSession, quarantine_id: UUID, organization_id: UUID | None) -> Quarantined:
    found = await store.find_quarantined(db, quarantine_id, organization_id, for_update=True)
    if found is None:
        raise NotFound("there is no such record in the quarantine")
    if found.resolved_at:
        raise Conflict(f"the record was {found.resolution} before, by {found.resolved_by or 'an operator'}")
    return found


async def _resolve(db: AsyncSession, found: Quarantined, resolution: str, actor: str, data: dict[str, str]) -> None:
    await store.resolve(db, found.id, resolution, actor, datetime.now(UTC))
    subject = (Subject.QUARANTINE, found.id)
    after = {"after": {"resolution": resolution, **data}}
    await audit.record(db, found.organization_id or NO_ORGANIZATION, actor, Act.QUARANTINE_RESOLVED, subject, after)
