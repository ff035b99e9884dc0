"""The tokens by which previews are asked for."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from directory.tables import Token


async def revoke_token(db: AsyncSession, token_id: UUID, now: datetime) -> None:
    await db.execute(update(Token).where(col(Token.id) == token_id).values(revoked_at=now))
