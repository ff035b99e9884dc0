"""The first rows of an installation: an organization, its admin, a connection with a token."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID, uuid4

from sqlalchemy.ext.asyncio import AsyncSession

import scim.errors
from admin_api import passwords, tokens
from admin_api.errors import Validation
from admin_api.providers import check_provider_id
from admin_api.store import accounts, connections, organizations
from directory.tables import Account, Organization
from scim.keys import email_key

MAX_NAME = 200  # characters


@dataclass(frozen=True, slots=True)
class Wanted:
    """What there is to be afterwards; `plan` None means enterprise for a new organization, else unchanged."""

    organization: str
    email: str
    password: str
    provider_id: str
    plan: str | None
    rotate_token: bool


@dataclass(frozen=True, slots=True)
class Bootstrapped:
    """What there is; `scim_token` only when it was issued now."""

    organization_id: UUID
    admin_email: str
    connection_id: UUID
    scim_token: str | None


def check(wanted: Wanted) -> str:
    """The key of the admin's email; raises Validation for what cannot be."""
    if not wanted.organization.strip() or len(wanted.organization) > MAX_NAME or not wanted.organization.isprintable():
        raise Validation(f"the organization's name must be 1 to {MAX_NAME} printable characters")
    if not passwords.MIN_LENGTH <= len(wanted.password) <= passwords.MAX_LENGTH:
        raise Validation(f"the password must have {passwords.MIN_LENGTH} to {passwords.MAX_LENGTH} characters")
    check_provider_id(wanted.provider_id)
    try:
        key = email_key(wanted.email)
    except scim.errors.InvalidValue as error:
        raise Validation(f"the email cannot be used: {error.detail}") from error
    if key is None:
        raise Validation("the email must be an address: one @ and no blanks")
    return key


async def bootstrap(db: AsyncSession, wanted: Wanted, pepper: bytes, now: datetime) -> Bootstrapped:
    """Make what is missing, as the schema's owner; a second run changes nothing but a new password or plan.

    The admin is a break-glass account: directory sync never suspends or takes it over. Raises Validation, and Conflict
    when a third live token is asked for.
    """
    key = check(wanted)
    await organizations.lock_bootstrap(db)
    organization = await _organization(db, wanted, now)
    roles = await organizations.insert_built_in_roles(db, organization.id, now)
    admin = await _admin(db, organization.id, wanted, key, now)
    await accounts.insert_grant(db, admin.id, roles["admin"], now)
    connection = await tokens.open_connection(db, organization.id, wanted.provider_id, now)
    secret = None
    if wanted.rotate_token or not await connections.list_live_tokens(db, [connection.id], now):
        secret = (await tokens.issue_token(db, connection, pepper, now)).secret
    return Bootstrapped(organization.id, admin.email or wanted.email, connection.id, secret)


async def _organization(db: AsyncSession, wanted: Wanted, now: datetime) -> Organization:
    organization = await organizations.find_organization(db, wanted.organization)
    if organization is None:
        return await organizations.insert_organization(db, wanted.organization, wanted.plan or "enterprise", now)
    if wanted.plan and wanted.plan != organization.plan:
        await organizations.set_plan(db, organization.id, wanted.plan)
    return organization


async def _admin(db: AsyncSession, organization_id: UUID, wanted: Wanted, key: str, now: datetime) -> Account:
    account = await accounts.find_account(db, organization_id, key)
    if account is None:
        account = _account(organization_id, wanted.email.strip(), key, now)
        await accounts.insert_account(db, account)
    password_hash = await accounts.find_password_hash(db, account.id)
    if password_hash is None or not passwords.verify(password_hash, wanted.password):
        await accounts.set_password_hash(db, account.id, passwords.hash_password(wanted.password), now)
    return account


def _account(organization_id: UUID, email: str, key: str, now: datetime) -> Account:
    return Account(
        id=uuid4(),
        organization_id=organization_id,
        email=email,
        email_key=key,
        display_name=email,
        status="active",
        break_glass=True,
        created_at=now,
        updated_at=now,
    )
