"""Outcomes that the provisioner has committed."""

from collections.abc import Iterable
from uuid import UUID

import asyncpg

from scim_gateway.store.reading import reading

FIND_OUTCOMES = "SELECT change_id, reply FROM outcomes WHERE change_id = ANY($1::uuid[])"


async def find(pool: asyncpg.Pool, change_ids: Iterable[UUID]) -> list[tuple[UUID, bytes]]:
    """The replies there are, one statement for all of them."""
    async with reading(pool) as db:
        rows = await db.fetch(FIND_OUTCOMES, list(change_ids))
    return [(row["change_id"], row["reply"]) for row in rows]
