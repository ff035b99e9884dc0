"""Who calls, and what they may: sessions of people, API keys of organizations and of operators.

A session is a person's. An API key is an organization's, for automation: it may what an admin may, while the admin who
made it is one (threat T16). An operator's key belongs to no organization: it manages organizations and plans, and sees
nothing inside them.
"""

import hmac
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

import structlog
from fastapi import Depends, Request
from sqlalchemy.ext.asyncio import AsyncSession

from admin_api.api_keys import API_KEY, TOUCH_INTERVAL, is_open, maker_of
from admin_api.errors import EnterpriseRequired, Forbidden, Unauthenticated
from admin_api.service import Service, ServiceOf
from admin_api.sessions import REFUSED, SESSION, find_person, secret_of
from admin_api.sessions import Person as Person
from admin_api.store import accounts, api_keys
from directory.tables import ApiKey, Organization
from servicekit import bearer


@dataclass(frozen=True, slots=True)
class Principal:
    """Who acts in an organization, as of this request: a person, or (None) a key of the organization."""

    organization: Organization
    actor: str
    is_admin: bool
    person: Person | None = None


@dataclass(frozen=True, slots=True)
class OperatorPrincipal:
    """Who runs the installation."""

    actor: str


async def caller(request: Request, service: ServiceOf) -> Principal | OperatorPrincipal:
    """Who calls; raises Unauthenticated, the same for whatever is wrong, or Forbidden for another site's request."""
    secret = secret_of(request)
    if secret is None or not bearer.is_well_formed(secret):
        raise Unauthenticated(REFUSED)
    kind = API_KEY if secret.startswith(f"{API_KEY}_") else SESSION
    digest = bearer.digest(service.pepper, kind, secret)
    find = _find_key_owner if kind == API_KEY else _find_person
    principal = await find(service, digest, datetime.now(UTC))
    _bind(principal)
    return principal


Caller = Annotated[Principal | OperatorPrincipal, Depends(caller)]


async def signed_in(caller: Caller) -> Person:
    """The person who is signed in; a key is nobody's session."""
    if isinstance(caller, OperatorPrincipal) or caller.person is None:
        raise Unauthenticated(REFUSED)
    return caller.person


SignedIn = Annotated[Person, Depends(signed_in)]


async def admin(caller: Caller) -> Principal:
    """An admin, or a key, of an organization whose plan includes directory sync (threat T18)."""
    if isinstance(caller, OperatorPrincipal) or not caller.is_admin:
        raise Forbidden("only admins of the organization may do this")
    if caller.organization.plan != "enterprise":
        raise EnterpriseRequired("directory sync is part of the enterprise plan")
    return caller


Admin = Annotated[Principal, Depends(admin)]


async def operator(caller: Caller) -> OperatorPrincipal:
    """Who runs the installation."""
    if not isinstance(caller, OperatorPrincipal):
        raise Forbidden("only operators may do this")
    return caller


Operator = Annotated[OperatorPrincipal, Depends(operator)]


async def _find_person(service: Service, digest: bytes, now: datetime) -> Principal:
    async with service.transaction() as db:
        person = await find_person(db, digest, now)
    return Principal(person.organization, person.actor, person.is_admin, person)


async def _find_key_owner(service: Service, digest: bytes, now: datetime) -> Principal | OperatorPrincipal:
    async with service.transaction() as db:
        found = await api_keys.find_key(db, digest)
        if found is None:
            raise Unauthenticated(REFUSED)
        key, organization = found
        # As for sessions: what the index found is compared again (threat T46).
        if not hmac.compare_digest(key.digest, digest) or not is_open(key, now) or not await _stands(db, key):
            raise Unauthenticated(REFUSED)
        if key.last_used_at is None or now - key.last_used_at >= TOUCH_INTERVAL:
            await api_keys.touch(db, key.id, now)
    if organization is None:
        return OperatorPrincipal(f"operator:{key.id}")
    return Principal(organization, f"key:{key.id}", is_admin=True)


async def _stands(db: AsyncSession, key: ApiKey) -> bool:
    """Whether the admin who made the key is one still; a key that the command line made needs nobody."""
    maker = maker_of(key)
    return maker is None or await accounts.is_active_admin(db, maker)


def _bind(principal: Principal | OperatorPrincipal) -> None:
    organization: UUID | None = principal.organization.id if isinstance(principal, Principal) else None
    structlog.contextvars.bind_contextvars(
        actor=principal.actor, organization_id=str(organization) if organization else None
    )
