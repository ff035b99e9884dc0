"""The schemas by which organizations extend their users and groups."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import delete, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from directory.tables import Connection, ExtensionSchema, Group, Organization, User


async def lock_organization(db: AsyncSession, organization_id: UUID) -> bool:
    """Until the transaction ends, others who change its schemas wait here; False when there is no such organization."""
    statement = select(col(Organization.id)).where(col(Organization.id) == organization_id).with_for_update()
    return (await db.execute(statement)).scalar_one_or_none() is not None


async def list_schemas(db: AsyncSession, organization_id: UUID) -> list[ExtensionSchema]:
    """In the order in which the services apply them."""
    statement = select(ExtensionSchema).where(col(ExtensionSchema.organization_id) == organization_id)
    return list((await db.execute(statement.order_by(col(ExtensionSchema.urn)))).scalars())


async def put_schema(
    db: AsyncSession, organization_id: UUID, urn: str, resource_type: str, document: dict[str, Any], now: datetime
) -> None:
    """Insert the schema, or give it this document."""
    row = {"organization_id": organization_id, "urn": urn, "resource_type": resource_type, "document": document}
    statement = insert(ExtensionSchema).values({**row, "created_at": now})
    await db.execute(
        statement.on_conflict_do_update(index_elements=["organization_id", "urn"], set_={"document": document})
    )


async def delete_schema(db: AsyncSession, organization_id: UUID, urn: str) -> None:
    await db.execute(
        delete(ExtensionSchema).where(
            col(ExtensionSchema.organization_id) == organization_id, col(ExtensionSchema.urn) == urn
        )
    )


async def is_used(db: AsyncSession, organization_id: UUID, resource_type: str, urn: str) -> bool:
    """Whether any resource of the organization has values of this schema."""
    table = User if resource_type == "User" else Group
    statement = (
        select(col(table.id))
        .join(Connection, col(Connection.id) == col(table.connection_id))
        .where(col(Connection.organization_id) == organization_id, col(table.resource).op("?")(urn))
    )
    return (await db.execute(statement.limit(1))).first() is not None
