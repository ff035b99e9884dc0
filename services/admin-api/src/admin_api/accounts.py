"""Accounts of an organization, their roles and links: `/api/v1/admin/users`.

Whatever changes one is a change like those of the identity providers: it goes through Kafka to the provisioner, which
guards the last admin and the break-glass accounts, and the answer is the account as it is afterwards.
"""

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import Query
from pydantic import Field
from sqlalchemy.ext.asyncio import AsyncSession

from admin_api.changes import admin_change
from admin_api.errors import NotFound, Validation
from admin_api.paging import PagingOf, page, time_and_id
from admin_api.principals import Admin, Principal
from admin_api.service import Service, ServiceOf
from admin_api.shapes import Body, Shape, new_router, refusals
from admin_api.store import account_views as store
from admin_api.store.database import AnyRow
from contracts import AccountRequest, Operation, ResourceType
from directory.tables import Account
from servicekit.ids import uuid7

router = new_router("/users", "accounts")

Name = Annotated[str, Field(min_length=1, max_length=256, examples=["Ada Lovelace"])]
Email = Annotated[str, Field(min_length=3, max_length=320, examples=["ada@example.com"])]


class Source(Shape):
    """Where a role comes from: an admin's own word, or membership in a group of a connection."""

    type: Literal["manual", "group"]
    group_id: UUID | None = None
    group_name: Annotated[str | None, Field(examples=["Engineers"])] = None
    connection_id: UUID | None = None
    provider_id: Annotated[str | None, Field(examples=["okta"])] = None


class HeldRole(Shape):
    """A role that the account holds; one that it holds for several reasons appears with each."""

    role: Annotated[str, Field(examples=["engineer"])]
    role_id: UUID
    source: Source
    label: Annotated[str | None, Field(description="Where a manual grant came from, when no admin made it.")]
    granted_at: datetime


class LinkedConnection(Shape):
    """A connection that may change the account: it `created` it, found it by `email`, or an `admin` said so."""

    connection_id: UUID
    provider_id: str
    origin: Literal["created", "email", "admin"]
    linked_at: datetime


class ScimUser(Shape):
    """The SCIM user that stands for the account in its connection."""

    id: UUID
    connection_id: UUID
    provider_id: str
    user_name: str
    external_id: str | None
    active: bool
    last_modified: datetime


class AccountView(Shape):
    """A person in the application."""

    id: UUID
    email: str | None
    display_name: str
    status: Literal["active", "suspended"]
    break_glass: Annotated[bool, Field(description="No connection suspends the account, or gets it by its email.")]
    roles: list[HeldRole]
    connections: list[LinkedConnection]
    scim_user: ScimUser | None
    created_at: datetime
    updated_at: datetime


class AccountPage(Shape):
    users: list[AccountView]
    next_cursor: str | None


class NewAccount(Body):
    """An account that no connection manages."""

    email: Email | None = None
    display_name: Name


class AccountSettings(Body):
    """What is not given stays; email and name are the connection's where one manages the account (409)."""

    email: Email | None = None
    display_name: Name | None = None
    break_glass: bool | None = None


class GrantedRole(Body):
    role_name: Annotated[str, Field(min_length=1, max_length=200, examples=["engineer"])]


class NewLink(Body):
    connection_id: UUID


@router.get("")
async def list_accounts(
    principal: Admin,
    service: ServiceOf,
    paging: PagingOf,
    search: Annotated[str | None, Query(max_length=200, description="Part of an email or a name, in any case.")] = None,
    status: Literal["active", "suspended"] | None = None,
) -> AccountPage:
    """The accounts of the organization, oldest first."""
    after = paging.after(time_and_id)
    async with service.transaction() as db:
        found = await store.list_accounts(
            db, principal.organization.id, search=search, status=status, after=after, limit=paging.limit + 1
        )
        accounts, next_cursor = page(found, paging, lambda account: (account.created_at, account.id))
        return AccountPage(users=await view(db, accounts), next_cursor=next_cursor)


@router.get("/{account_id}", responses=refusals(404))
async def get_account(account_id: UUID, principal: Admin, service: ServiceOf) -> AccountView:
    """One account."""
    return await read(service, principal, account_id)


@router.post("", status_code=201, responses=refusals(409, 503))
async def create_account(body: NewAccount, principal: Admin, service: ServiceOf) -> AccountView:
    """An account of a person whom no identity provider manages; without roles, and without a password."""
    account_id = uuid7()
    request = AccountRequest(email=body.email, display_name=body.display_name)
    await submit(service, principal, account_id, request, Operation.CREATE)
    return await read(service, principal, account_id)


@router.patch("/{account_id}", responses=refusals(404, 409, 503))
async def change_account(account_id: UUID, body: AccountSettings, principal: Admin, service: ServiceOf) -> AccountView:
    """Change the email or name of a manual account, or whether the account is a break-glass account."""
    request = AccountRequest(email=body.email, display_name=body.display_name, break_glass=body.break_glass)
    if request == AccountRequest():
        raise Validation("body: name at least one of email, displayName and breakGlass")
    return await changed(service, principal, account_id, request)


@router.post("/{account_id}/suspend", responses=refusals(404, 409, 503))
async def suspend_account(account_id: UUID, principal: Admin, service: ServiceOf) -> AccountView:
    """Suspend the account: its sessions end at once, its roles are kept and without effect. Never the last admin."""
    return await changed(service, principal, account_id, AccountRequest(active=False))


@router.post("/{account_id}/reactivate", responses=refusals(404, 409, 503))
async def reactivate_account(account_id: UUID, principal: Admin, service: ServiceOf) -> AccountView:
    """Make the account active again, with the roles that it holds now."""
    return await changed(service, principal, account_id, AccountRequest(active=True))


@router.post("/{account_id}/grants", status_code=201, responses=refusals(404, 409, 503))
async def grant_role(account_id: UUID, body: GrantedRole, principal: Admin, service: ServiceOf) -> AccountView:
    """Give the account a role by hand, beside what its groups give; it may have it already."""
    async with service.transaction() as db:
        await require_account(db, principal, account_id)
        role_id = await store.find_role_id(db, principal.organization.id, body.role_name)
    if role_id is None:
        raise NotFound("there is no role of this name")
    return await changed(service, principal, account_id, AccountRequest(grant=(role_id,)))


@router.delete("/{account_id}/grants/{role_id}", status_code=204, responses=refusals(404, 409, 503))
async def revoke_role(account_id: UUID, role_id: UUID, principal: Admin, service: ServiceOf) -> None:
    """Take a role back that was given by hand; what groups give stays. Never the last admin's."""
    async with service.transaction() as db:
        await require_account(db, principal, account_id)
        if not await store.holds_manually(db, account_id, role_id):
            raise NotFound
    await submit(service, principal, account_id, AccountRequest(revoke=(role_id,)))


@router.post("/{account_id}/links", status_code=201, responses=refusals(404, 409, 503))
async def link_account(account_id: UUID, body: NewLink, principal: Admin, service: ServiceOf) -> AccountView:
    """Let the connection change the account: the next time it creates a user of this email, it gets the account."""
    async with service.transaction() as db:
        await require_account(db, principal, account_id)
        if not await store.is_open_connection(db, principal.organization.id, body.connection_id):
            raise NotFound("there is no such connection")
    return await changed(service, principal, account_id, AccountRequest(link=body.connection_id))


@router.delete("/{account_id}/links/{connection_id}", status_code=204, responses=refusals(404, 409, 503))
async def unlink_account(account_id: UUID, connection_id: UUID, principal: Admin, service: ServiceOf) -> None:
    """Take the connection's right to the account away; not while it has a user there."""
    async with service.transaction() as db:
        await require_account(db, principal, account_id)
        if not await store.is_linked(db, account_id, connection_id):
            raise NotFound
    await submit(service, principal, account_id, AccountRequest(unlink=connection_id))


async def changed(service: Service, principal: Principal, account_id: UUID, request: AccountRequest) -> AccountView:
    """The account after the change; raises NotFound, or the provisioner's refusal."""
    async with service.transaction() as db:
        await require_account(db, principal, account_id)
    await submit(service, principal, account_id, request)
    return await read(service, principal, account_id)


async def submit(
    service: Service,
    principal: Principal,
    account_id: UUID,
    request: AccountRequest,
    operation: Operation = Operation.PATCH,
) -> None:
    """Ask the provisioner, and raise what it refuses."""
    change = admin_change(
        principal.organization.id, principal.actor, ResourceType.ACCOUNT, operation, account_id, account=request
    )
    await service.changes.decide(change)


async def read(service: Service, principal: Principal, account_id: UUID) -> AccountView:
    async with service.transaction() as db:
        return (await view(db, [await require_account(db, principal, account_id)]))[0]


async def require_account(db: AsyncSession, principal: Principal, account_id: UUID) -> Account:
    """The account; raises NotFound for another organization's as for none."""
    account = await store.find_account(db, principal.organization.id, account_id)
    if account is None:
        raise NotFound
    return account


async def view(db: AsyncSession, accounts: Sequence[Account]) -> list[AccountView]:
    """The accounts with what hangs on them, in three statements however many they are."""
    ids = [account.id for account in accounts]
    roles, links = defaultdict(list), defaultdict(list)
    for row in await store.list_held_roles(db, ids):
        roles[row.account_id].append(held_role(row))
    for row in await store.list_links(db, ids):
        links[row.account_id].append(
            LinkedConnection(
                connection_id=row.connection_id,
                provider_id=row.provider_id,
                origin=row.origin,
                linked_at=row.created_at,
            )
        )
    users = {row.account_id: ScimUser.model_validate(row) for row in await store.list_users(db, ids)}
    return [_account(account, roles[account.id], links[account.id], users.get(account.id)) for account in accounts]


def held_role(row: AnyRow) -> HeldRole:
    """From a row of `store.list_held_roles`."""
    source = Source(type="manual") if row.group_id is None else Source(type="group", **_group(row))
    return HeldRole(role=row.name, role_id=row.role_id, source=source, label=row.label, granted_at=row.created_at)


def _group(row: AnyRow) -> dict[str, Any]:
    names = ("group_id", "group_name", "connection_id", "provider_id")
    return {name: getattr(row, name) for name in names}


def _account(
    account: Account, roles: list[HeldRole], connections: list[LinkedConnection], user: ScimUser | None
) -> AccountView:
    return AccountView.model_validate(
        {
            **{name: getattr(account, name) for name in ("id", "email", "display_name", "status", "break_glass")},
            "created_at": account.created_at,
            "updated_at": account.updated_at,
            "roles": roles,
            "connections": connections,
            "scim_user": user,
        }
    )
