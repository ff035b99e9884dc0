"""Sign-in with email and password, sign-out, and who I am: `/api/auth`."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel
from sqlalchemy.ext.asyncio import AsyncSession

import scim.errors
from admin_api import audit, metrics
from admin_api.audit import Act, Subject
from admin_api.errors import Conflict, Unauthenticated
from admin_api.passwords import MAX_LENGTH
from admin_api.principals import SignedIn
from admin_api.service import Service, ServiceOf
from admin_api.sessions import COOKIE, LIFETIME, Person, check_origin, open_session
from admin_api.shapes import Shape, refusals
from admin_api.store import accounts, sessions
from admin_api.store.accounts import Candidate
from directory.tables import Role, Session
from scim.keys import email_key

router = APIRouter(prefix="/api/auth", tags=["sign-in"])

# An email may exist in several organizations; each costs one hash.
MAX_CANDIDATES = 5
_REFUSED = "the email or the password is wrong"


class SignIn(BaseModel):
    """`organizationId` is needed only by who has the same email and password in two organizations."""

    model_config = ConfigDict(alias_generator=to_camel)

    email: Annotated[str, Field(min_length=1, max_length=320)]
    password: Annotated[str, Field(min_length=1, max_length=MAX_LENGTH)]
    organization_id: Annotated[str, Field(max_length=64)] | None = None


class UserShape(Shape):
    """Who is signed in; the names of the roles that they hold by whatever grant."""

    id: UUID
    email: str | None
    name: str
    organization_id: UUID
    roles: Annotated[list[str], Field(examples=[["admin"]])]


class SessionShape(Shape):
    id: UUID
    created_at: datetime
    expires_at: datetime


class SignedInShape(Shape):
    """`token` is the session's secret, for programs; browsers have it as a cookie."""

    token: Annotated[str, Field(examples=["session_ and 49 letters and digits"])]
    expires_at: datetime
    user: UserShape


class CurrentSession(Shape):
    session: SessionShape
    user: UserShape


class SignedOut(Shape):
    success: bool


@router.post("/sign-in/email", response_model=SignedInShape, responses=refusals(400, 401, 409, 429, 503))
async def sign_in(body: SignIn, request: Request, service: ServiceOf) -> Response:
    """A session for the account that the email and the password name; always a new one (threat T53)."""
    if "origin" in request.headers:
        check_origin(request)
    started = await start_session(service, body, request.client.host if request.client else "")
    account = started.account
    user = user_json(account.id, account.email, account.display_name, account.organization_id, started.roles)
    response = JSONResponse(
        {"token": started.secret, "expiresAt": started.session.expires_at.isoformat(), "user": user}
    )
    set_cookie(response, started.secret)
    return response


@router.post("/sign-out", response_model=SignedOut, responses=refusals(401, 403))
async def sign_out(person: SignedIn, service: ServiceOf) -> Response:
    """End the session that the request came with."""
    await end_session(service, person)
    response = JSONResponse({"success": True})
    clear_cookie(response)
    return response


@router.get("/get-session", response_model=CurrentSession, responses=refusals(401))
async def get_session(person: SignedIn) -> dict[str, Any]:
    """Who is signed in, and until when at most."""
    account, session = person.account, person.session
    return {
        "session": {"id": session.id, "createdAt": session.created_at, "expiresAt": session.expires_at},
        "user": user_json(account.id, account.email, account.display_name, account.organization_id, person.roles),
    }


@dataclass(frozen=True, slots=True)
class Started:
    """A session that has just begun; its secret is known to nobody afterwards."""

    secret: str
    session: Session
    account: Candidate
    roles: list[Role]


async def start_session(service: Service, body: SignIn, client: str) -> Started:
    """A new session; raises Unauthenticated, Conflict or TooManyRequests. `client`: the address of who asks."""
    account = await authenticate(service, body, client)
    async with service.transaction() as db:
        secret, session = await open_session(db, account.id, account.epoch, service.pepper, datetime.now(UTC))
        roles = await accounts.find_roles(db, account.id)
        await _record(db, account.organization_id, account.id, Act.SIGNED_IN, {"by": "password"})
    return Started(secret, session, account, roles)


async def end_session(service: Service, person: Person) -> None:
    """The session is over, at once and everywhere."""
    async with service.transaction() as db:
        await sessions.revoke(db, person.session.id, datetime.now(UTC))
        await _record(db, person.organization.id, person.account.id, Act.SIGNED_OUT)


def set_cookie(response: Response, secret: str) -> None:
    """The session for browsers (threat T53)."""
    response.set_cookie(
        COOKIE, secret, max_age=int(LIFETIME.total_seconds()), secure=True, httponly=True, samesite="strict"
    )


def clear_cookie(response: Response) -> None:
    response.delete_cookie(COOKIE, secure=True, httponly=True, samesite="strict")


async def authenticate(service: Service, body: SignIn, client: str) -> Candidate:
    """The account; raises Unauthenticated, with the same words at the same cost whatever is wrong (threat T46)."""
    key = _email_key(body.email)
    service.failures.attempt((client, key))
    candidates = await _candidates(service, key, body.organization_id)
    fitting = await _fitting(service, candidates, body.password)
    match [account for account in fitting if account.is_active]:
        case []:
            metrics.SIGN_IN_REFUSED.inc()
            raise Unauthenticated(_REFUSED)
        case [account]:
            service.failures.succeeded((client, key))
            metrics.SIGNED_IN.inc()
            return account
        case _:
            raise Conflict("several of your organizations have this email and password; name one in organizationId")


async def _candidates(service: Service, key: str | None, organization_id: str | None) -> list[Candidate]:
    try:
        organization = UUID(organization_id) if organization_id else None
    except ValueError:
        key = None
        organization = None
    if key is None:
        return []
    async with service.transaction() as db:
        return list(await accounts.find_candidates(db, key, organization, MAX_CANDIDATES))


async def _fitting(service: Service, candidates: list[Candidate], password: str) -> list[Candidate]:
    """The candidates whose password it is; all are tried, and without any one hash is computed nevertheless."""
    if not candidates:
        await service.passwords.verify(None, password)
    return [candidate for candidate in candidates if await service.passwords.verify(candidate.password_hash, password)]


async def _record(
    db: AsyncSession, organization_id: UUID, account_id: UUID, act: Act, data: dict[str, Any] | None = None
) -> None:
    await audit.record(db, organization_id, f"account:{account_id}", act, (Subject.ACCOUNT, account_id), data)


def _email_key(email: str) -> str | None:
    """None for what no account can have."""
    try:
        return email_key(email)
    except scim.errors.InvalidValue:
        return None


def user_json(
    account_id: UUID, email: str | None, name: str, organization_id: UUID, roles: list[Role]
) -> dict[str, Any]:
    return {
        "id": str(account_id),
        "email": email,
        "name": name,
        "organizationId": str(organization_id),
        "roles": [role.name for role in roles],
    }
