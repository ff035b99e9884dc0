"""Keys for automation: secrets like a session's, that end when they are revoked or expire."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID, uuid4

from sqlalchemy.ext.asyncio import AsyncSession

from admin_api import audit
from admin_api.audit import NO_ORGANIZATION, Act, Subject
from admin_api.errors import Conflict, NotFound
from admin_api.store import api_keys as store
from directory.tables import ApiKey
from servicekit import bearer

API_KEY = "apikey"  # prefix of the secret and kind of its digest (threat T54)
BY_OPERATOR = "operator"  # who made a key on the command line
MAX_LIVE_KEYS = 50  # of an organization
# Between two notes that a key is in use.
TOUCH_INTERVAL = timedelta(minutes=1)

_ACCOUNT = "account:"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a key is to be; without `organization_id` it is an operator's."""

    organization_id: UUID | None
    name: str
    expires_at: datetime | None


async def issue(db: AsyncSession, wanted: Wanted, created_by: str, pepper: bytes, now: datetime) -> tuple[str, ApiKey]:
    """A new key and its secret, which is known to nobody afterwards; raises Conflict when there are too many."""
    if len(await store.list_live(db, wanted.organization_id, now)) >= MAX_LIVE_KEYS:
        raise Conflict(f"there are {MAX_LIVE_KEYS} live keys; revoke one first")
    secret = bearer.mint(API_KEY)
    key = ApiKey(
        id=uuid4(),
        organization_id=wanted.organization_id,
        name=wanted.name,
        digest=bearer.digest(pepper, API_KEY, secret),
        hint=bearer.hint(secret),
        created_by=created_by,
        created_at=now,
        expires_at=wanted.expires_at,
    )
    await store.insert_key(db, key)
    await _record(db, key, created_by, Act.KEY_CREATED)
    return secret, key


async def revoke(db: AsyncSession, organization_id: UUID | None, key_id: UUID, actor: str, now: datetime) -> ApiKey:
    """End the key; raises NotFound unless it is one of the organization's (None: an operator's) that is not revoked."""
    key = await store.revoke(db, organization_id, key_id, now)
    if key is None:
        raise NotFound
    await _record(db, key, actor, Act.KEY_REVOKED)
    return key


def is_open(key: ApiKey, now: datetime) -> bool:
    """Neither revoked nor expired."""
    return key.revoked_at is None and (key.expires_at is None or now < key.expires_at)


def maker_of(key: ApiKey) -> UUID | None:
    """The account that made the key; None for one that an operator made on the command line."""
    return UUID(key.created_by.removeprefix(_ACCOUNT)) if key.created_by.startswith(_ACCOUNT) else None


async def _record(db: AsyncSession, key: ApiKey, actor: str, act: Act) -> None:
    facts = {"name": key.name, "hint": key.hint, "expiresAt": key.expires_at.isoformat() if key.expires_at else None}
    when = "after" if act == Act.KEY_CREATED else "before"
    await audit.record(db, key.organization_id or NO_ORGANIZATION, actor, act, (Subject.API_KEY, key.id), {when: facts})
