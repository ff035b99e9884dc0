"""An organization's own schemas: what may be added, changed and removed.

The services apply whatever is in the table to every request of the organization, so nothing gets there that they
could not apply, or that would leave stored values behind without a schema.
"""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from admin_api.errors import Conflict, NotFound, Validation
from admin_api.store import schemas as store
from directory.tables import ExtensionSchema
from scim.errors import InvalidValue
from scim.schema import GROUP, USER, ResourceType, Schema, schema_from_json

MAX_SCHEMAS = 20  # of an organization: each request that authenticates carries them

RESOURCE_TYPES: dict[str, ResourceType] = {"User": USER, "Group": GROUP}


async def add(
    db: AsyncSession, organization_id: UUID, resource_type: str, document: dict[str, Any], now: datetime
) -> Schema:
    """Add a schema, or give one that is there more attributes.

    Raises Validation for a document that is no schema, Conflict for a change that stored values might not survive,
    NotFound without such an organization.
    """
    schema = _parsed(document)
    present = await _locked(db, organization_id)
    same = next((row for row in present if row.urn.lower() == schema.id.lower()), None)
    if same is not None and (same.urn, same.resource_type) != (schema.id, resource_type):
        raise Conflict(f"the schema is there already, as {same.urn} of {same.resource_type}; remove it first")
    others = [row for row in present if row is not same]
    if len(others) >= MAX_SCHEMAS:
        raise Conflict(f"an organization may have at most {MAX_SCHEMAS} schemas")
    _check_together(resource_type, schema, others)
    if same is not None and not _only_adds(_parsed(same.document), schema):
        await _require_unused(db, same, "its attributes can only be added to")
    await store.put_schema(db, organization_id, schema.id, resource_type, document, now)
    return schema


async def remove(db: AsyncSession, organization_id: UUID, urn: str) -> None:
    """Remove a schema that nothing uses; raises NotFound, or Conflict when there are values of it."""
    row = next((row for row in await _locked(db, organization_id) if row.urn.lower() == urn.lower()), None)
    if row is None:
        raise NotFound("the organization has no schema of that URN")
    await _require_unused(db, row, "it cannot be removed")
    await store.delete_schema(db, organization_id, row.urn)


async def listed(db: AsyncSession, organization_id: UUID) -> list[ExtensionSchema]:
    """The organization's schemas; raises NotFound without such an organization."""
    return await _locked(db, organization_id)


async def _locked(db: AsyncSession, organization_id: UUID) -> list[ExtensionSchema]:
    if not await store.lock_organization(db, organization_id):
        raise NotFound("there is no organization of that id")
    return await store.list_schemas(db, organization_id)


def _parsed(document: Any) -> Schema:
    try:
        return schema_from_json(document)
    except InvalidValue as error:
        raise Validation(f"not a schema: {error.detail}") from error


def _check_together(resource_type: str, schema: Schema, others: list[ExtensionSchema]) -> None:
    of_type = [_parsed(row.document) for row in others if row.resource_type == resource_type]
    try:
        RESOURCE_TYPES[resource_type].with_extensions(*of_type, schema)
    except InvalidValue as error:
        raise Conflict(error.detail) from error


def _only_adds(old: Schema, new: Schema) -> bool:
    """Whether whatever is valid by `old` is so by `new`."""
    known = {attribute.name for attribute in old.attributes}
    keeps = all(new.attribute(attribute.name) == attribute for attribute in old.attributes)
    return keeps and not any(attribute.required for attribute in new.attributes if attribute.name not in known)


async def _require_unused(db: AsyncSession, row: ExtensionSchema, but: str) -> None:
    if await store.is_used(db, row.organization_id, row.resource_type, row.urn):
        kind = row.resource_type.lower()
        raise Conflict(f"{kind}s have values of {row.urn}; until the identity provider removes them, {but}")
