"""Sessions: who is signed in (threats T16, T41, T44, T53, T54).

A session is a row; its secret is a bearer token for programs and a cookie for browsers. It is valid while the account
is active and its epoch has not moved: the provisioner raises the epoch when it suspends, which ends every session.
"""

import hmac
import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from urllib.parse import urlsplit
from uuid import UUID, uuid4

from fastapi import Request
from sqlalchemy.ext.asyncio import AsyncSession

from admin_api.errors import Forbidden, Unauthenticated
from admin_api.store import accounts, sessions
from directory.tables import Account, Organization, Role, Session
from servicekit import bearer

SESSION = "session"  # prefix of the secret and kind of its digest; a SCIM token is of another kind (T54)
COOKIE = "__Host-session"
LIFETIME = timedelta(hours=8)
IDLE_LIFETIME = timedelta(minutes=15)
# Between two notes that a session is in use; far below IDLE_LIFETIME.
TOUCH_INTERVAL = timedelta(minutes=1)

_HEADER = re.compile(r"[Bb][Ee][Aa][Rr][Ee][Rr] ([A-Za-z0-9_]{1,128})")
_SAFE_METHODS = frozenset(("GET", "HEAD", "OPTIONS"))
REFUSED = "sign in first: the session is missing, unknown, expired or ended"


@dataclass(frozen=True, slots=True)
class Person:
    """Who is signed in, as of this request."""

    session: Session
    account: Account
    organization: Organization
    roles: list[Role]

    @property
    def is_admin(self) -> bool:
        return any(role.built_in and role.name == "admin" for role in self.roles)

    @property
    def actor(self) -> str:
        """How changes name the account."""
        return f"account:{self.account.id}"


async def open_session(
    db: AsyncSession, account_id: UUID, epoch: int, pepper: bytes, now: datetime
) -> tuple[str, Session]:
    """A new session and its secret, which is known to nobody afterwards."""
    secret = bearer.mint(SESSION)
    session = Session(
        id=uuid4(),
        account_id=account_id,
        digest=bearer.digest(pepper, SESSION, secret),
        epoch=epoch,
        created_at=now,
        last_seen_at=now,
        expires_at=now + LIFETIME,
    )
    await sessions.insert_session(db, session)
    return secret, session


def secret_of(request: Request) -> str | None:
    """The bearer token; else the cookie, for requests that come from our own pages."""
    header = request.headers.get("authorization")
    if header is not None:
        match = _HEADER.fullmatch(header)
        return match[1] if match else None
    secret = request.cookies.get(COOKIE)
    if secret is not None and request.method not in _SAFE_METHODS:
        check_origin(request)
    return secret


def check_origin(request: Request) -> None:
    """Raise Forbidden unless the browser says that the request comes from our own origin (threat T53)."""
    origin = request.headers.get("origin")
    if origin is None:
        is_own = request.headers.get("sec-fetch-site") == "same-origin"
    else:
        is_own = is_own_origin(origin, request.headers.get("host", ""), request.app.state.service.public_origin)
    if not is_own:
        raise Forbidden("this request comes from another site")


def is_own_origin(origin: str, host: str, public_origin: str) -> bool:
    """Whether `origin` is the public one, or names the host that the request was sent to."""
    if public_origin and origin == public_origin:
        return True
    try:
        parts = urlsplit(origin)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(host) and parts.netloc.lower() == host.lower()


async def find_person(db: AsyncSession, digest: bytes, now: datetime) -> Person:
    """Whose session it is; raises Unauthenticated."""
    found = await sessions.find_session(db, digest)
    if found is None:
        raise Unauthenticated(REFUSED)
    session, account, organization = found
    # The index found the row; comparing again costs nothing and never depends on how the index compares (T46).
    if not hmac.compare_digest(session.digest, digest) or not is_valid(session, account, now):
        raise Unauthenticated(REFUSED)
    if now - session.last_seen_at >= TOUCH_INTERVAL:
        await sessions.touch(db, session.id, now)
    return Person(session, account, organization, await accounts.find_roles(db, account.id))


def is_valid(session: Session, account: Account, now: datetime) -> bool:
    """Neither ended, expired nor idle, and the account is as active as when it signed in."""
    is_open = session.revoked_at is None and now < session.expires_at and now - session.last_seen_at < IDLE_LIFETIME
    return is_open and account.status == "active" and session.epoch == account.epoch
