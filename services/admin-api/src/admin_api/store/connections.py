"""Connections and their tokens, always inside one organization."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import ColumnElement, Select, and_, exists, func, or_, select, tuple_, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from directory.tables import Connection, Event, Group, Token, User

MAX_EXPIRING = 100  # told of in one sweep
PREVIEW_LABEL = "preview"  # of the tokens that a preview makes for itself


async def list_connections(db: AsyncSession, organization_id: UUID) -> list[Connection]:
    """The organization's connections, oldest first."""
    statement = select(Connection).where(*_open(organization_id))
    return list(await db.scalars(statement.order_by(col(Connection.created_at), col(Connection.id))))


async def find_open(db: AsyncSession, organization_id: UUID, connection_id: UUID) -> Connection | None:
    """The organization's connection of this id."""
    return (await db.execute(_of_id(organization_id, connection_id))).scalar_one_or_none()


async def lock_open(db: AsyncSession, organization_id: UUID, connection_id: UUID) -> Connection | None:
    """As `find_open`, and nobody else changes it, gives it tokens or deletes it until the transaction ends."""
    statement = _of_id(organization_id, connection_id).with_for_update()
    return (await db.execute(statement)).scalar_one_or_none()


async def find_connection(db: AsyncSession, organization_id: UUID, provider_id: str) -> Connection | None:
    statement = select(Connection).where(*_open(organization_id), col(Connection.provider_id) == provider_id)
    return (await db.execute(statement)).scalar_one_or_none()


async def is_open(db: AsyncSession, organization_id: UUID, connection_id: UUID) -> bool:
    """Whether the organization has this connection; it stays until the transaction ends."""
    statement = select(col(Connection.id)).where(*_open(organization_id), col(Connection.id) == connection_id)
    return (await db.execute(statement.with_for_update(read=True, key_share=True))).first() is not None


async def lock_connection(db: AsyncSession, organization_id: UUID, provider_id: str) -> Connection | None:
    """As `find_connection`, and nobody else gives it tokens or deletes it until the transaction ends."""
    statement = select(Connection).where(*_open(organization_id), col(Connection.provider_id) == provider_id)
    return (await db.execute(statement.with_for_update())).scalar_one_or_none()


async def insert_connection(db: AsyncSession, organization_id: UUID, provider_id: str, now: datetime) -> None:
    """A new connection; nothing when the organization has one of this name."""
    statement = insert(Connection).values(
        id=uuid4(),
        organization_id=organization_id,
        provider_id=provider_id,
        link_existing_accounts=False,
        created_at=now,
    )
    await db.execute(
        statement.on_conflict_do_nothing(
            index_elements=["organization_id", "provider_id"], index_where=col(Connection.deleted_at).is_(None)
        )
    )


async def mark_deleted(db: AsyncSession, connection_id: UUID, now: datetime) -> None:
    """The connection is gone and its tokens are revoked; its users go when the provisioner hears of it."""
    await db.execute(update(Connection).where(col(Connection.id) == connection_id).values(deleted_at=now))
    await db.execute(
        update(Token)
        .where(col(Token.connection_id) == connection_id, col(Token.revoked_at).is_(None))
        .values(revoked_at=now)
    )


async def list_unfinished_deletions(db: AsyncSession, limit: int) -> Sequence[Connection]:
    """Deleted connections whose users or groups the provisioner has not removed yet."""
    has_users = exists().where(col(User.connection_id) == Connection.id)
    has_groups = exists().where(col(Group.connection_id) == Connection.id)
    statement = select(Connection).where(col(Connection.deleted_at).is_not(None), or_(has_users, has_groups))
    return (await db.execute(statement.order_by(col(Connection.deleted_at)).limit(limit))).scalars().all()


async def insert_token(db: AsyncSession, token: Token) -> None:
    db.add(token)
    await db.flush()


async def list_live_tokens(db: AsyncSession, connection_ids: Sequence[UUID], now: datetime) -> Sequence[Token]:
    """The tokens that are neither revoked nor expired, oldest first."""
    statement = select(Token).where(
        col(Token.connection_id).in_(connection_ids),
        col(Token.revoked_at).is_(None),
        or_(col(Token.expires_at).is_(None), col(Token.expires_at) > now),
    )
    return (await db.execute(statement.order_by(col(Token.created_at), col(Token.id)))).scalars().all()


async def list_tokens(
    db: AsyncSession, connection_id: UUID, after: tuple[datetime, UUID] | None, limit: int
) -> Sequence[Token]:
    """All tokens, newest first, behind `after`; but not what a preview took for itself and gave back."""
    returned = and_(
        col(Token.label) == PREVIEW_LABEL, col(Token.scopes) == ["preview"], col(Token.revoked_at).is_not(None)
    )
    statement = select(Token).where(col(Token.connection_id) == connection_id, ~returned)
    if after is not None:
        statement = statement.where(tuple_(col(Token.created_at), col(Token.id)) < after)
    ordered = statement.order_by(col(Token.created_at).desc(), col(Token.id).desc())
    return (await db.scalars(ordered.limit(limit))).all()


async def list_expiring(
    db: AsyncSession, event_type: str, now: datetime, before: datetime
) -> Sequence[tuple[Token, UUID]]:
    """Live tokens, with their organizations, that expire before then and have no such event; none if others look too.

    Those that only preview are nobody's way in.
    """
    if not await db.scalar(select(func.pg_try_advisory_xact_lock(func.hashtext("directory.tokens.expiring")))):
        return ()
    told = exists().where(col(Event.subject_id) == Token.id, col(Event.type) == event_type)
    rows = await db.execute(
        select(Token, col(Connection.organization_id))
        .join(Connection, col(Connection.id) == Token.connection_id)
        .where(
            col(Connection.deleted_at).is_(None),
            col(Token.revoked_at).is_(None),
            col(Token.expires_at) > now,
            col(Token.expires_at) < before,
            col(Token.scopes) != ["preview"],
            ~told,
        )
        .limit(MAX_EXPIRING)
    )
    return [(token, organization_id) for token, organization_id in rows]


async def find_token(db: AsyncSession, connection_id: UUID, token_id: UUID) -> Token | None:
    """The connection's token as it is in the database, whatever its state."""
    statement = select(Token).where(col(Token.connection_id) == connection_id, col(Token.id) == token_id)
    return (await db.execute(statement, execution_options={"populate_existing": True})).scalar_one_or_none()


async def set_token(db: AsyncSession, token_id: UUID, **values: Any) -> None:
    await db.execute(
        update(Token).where(col(Token.id) == token_id).values(**values).execution_options(synchronize_session=False)
    )


def _of_id(organization_id: UUID, connection_id: UUID) -> Select[Connection]:
    return select(Connection).where(*_open(organization_id), col(Connection.id) == connection_id)


def _open(organization_id: UUID) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return (col(Connection.organization_id) == organization_id, col(Connection.deleted_at).is_(None))
