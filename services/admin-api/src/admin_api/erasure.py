"""Erasing a person (threat T65): what says who they were goes; that something happened stays, and can be proved.

The account stays as an empty row, so that the history of others still points somewhere. In the audit trail only the
data goes: its digest stays, so the chains hold.
"""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from admin_api import audit
from admin_api.audit import Act, Subject
from admin_api.errors import Conflict, NotFound
from admin_api.store import account_views, drift
from admin_api.store import erasure as store

TIMEOUT = 600  # seconds of one statement: the log and the trail of the organization are read


@dataclass(frozen=True, slots=True)
class Erased:
    """By table, how many rows were blanked or deleted."""

    account_id: UUID
    rows: dict[str, int]


async def erase(db: AsyncSession, organization_id: UUID, account_id: UUID, actor: str, now: datetime) -> Erased:
    """Erase the person behind an account; raises NotFound, or Conflict while an identity provider has the user."""
    await drift.set_timeout(db, TIMEOUT)
    await drift.lock_partitions(db)
    if await account_views.find_account(db, organization_id, account_id) is None:
        raise NotFound("the organization has no account of this id")
    if await store.has_users(db, account_id):
        raise Conflict("an identity provider has a user of this account: delete it there first, or it comes back")
    if await store.is_last_admin(db, organization_id, account_id):
        raise Conflict("this is the organization's last active admin: make another one first")
    traces = await store.find_traces(db, organization_id, account_id)
    rows = await store.blank(db, organization_id, account_id, traces, now)
    await audit.record(db, organization_id, actor, Act.PERSON_ERASED, (Subject.ACCOUNT, account_id), {"rows": rows})
    return Erased(account_id, rows)
