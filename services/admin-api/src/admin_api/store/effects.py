"""The names of what a change did, which its outcome tells by ids."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from admin_api.store.roles import names_of
from contracts import GrantEffect
from directory.tables import Account, Connection, Group


@dataclass(frozen=True, slots=True)
class Names:
    """Names by id, of one organization only."""

    accounts: dict[UUID, tuple[str | None, str]]
    roles: dict[UUID, str]
    groups: dict[UUID, str]


@dataclass(frozen=True, slots=True)
class NamedGrant:
    gained: bool
    account_id: UUID
    email: str | None
    display_name: str
    role_id: UUID
    role_name: str
    group_id: UUID | None
    group_name: str | None


async def find_names(db: AsyncSession, organization_id: UUID, grants: Sequence[GrantEffect]) -> Names:
    """What is not there any more has no name."""
    accounts = await db.execute(
        select(col(Account.id), col(Account.email), col(Account.display_name)).where(
            col(Account.organization_id) == organization_id, col(Account.id).in_({g.account_id for g in grants})
        )
    )
    groups = await db.execute(
        select(col(Group.id), col(Group.display_name))
        .join(Connection, col(Connection.id) == Group.connection_id)
        .where(
            col(Connection.organization_id) == organization_id,
            col(Group.id).in_({g.group_id for g in grants if g.group_id}),
        )
    )
    return Names(
        {row.id: (row.email, row.display_name) for row in accounts},
        await names_of(db, list({g.role_id for g in grants})),
        {row.id: row.display_name for row in groups},
    )


def named(grants: Iterable[GrantEffect], names: Names) -> list[NamedGrant]:
    return [_named(grant, names) for grant in grants]


def _named(grant: GrantEffect, names: Names) -> NamedGrant:
    email, display_name = names.accounts.get(grant.account_id, (None, ""))
    return NamedGrant(
        gained=grant.gained,
        account_id=grant.account_id,
        email=email,
        display_name=display_name,
        role_id=grant.role_id,
        role_name=names.roles.get(grant.role_id, ""),
        group_id=grant.group_id,
        group_name=names.groups.get(grant.group_id) if grant.group_id else None,
    )
