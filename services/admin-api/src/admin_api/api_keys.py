"""Keys for automation: secrets like a session's, that end when they are revoked or expire."""

from datetime import datetime, timedelta
from uuid import UUID

from directory.tables import ApiKey

API_KEY = "apikey"  # prefix of the secret and kind of its digest (threat T54)
# Between two notes that a key is in use.
TOUCH_INTERVAL = timedelta(minutes=1)

_ACCOUNT = "account:"


def is_open(key: ApiKey, now: datetime) -> bool:
    """Neither revoked nor expired."""
    return key.revoked_at is None and (key.expires_at is None or now < key.expires_at)


def maker_of(key: ApiKey) -> UUID | None:
    """The account that made the key; None for one that an operator made on the command line."""
    return UUID(key.created_by.removeprefix(_ACCOUNT)) if key.created_by.startswith(_ACCOUNT) else None
