"""Entries of the provisioning log that no change stands behind."""

from collections.abc import Sequence

import asyncpg

from contracts import RefusedRequest

# A record that comes again finds its row. An organization that is gone has no log.
ADD_REFUSALS = """
    INSERT INTO outcomes (change_id, organization_id, connection_id, token_id, actor, resource_type, operation,
                          resource_id, status, reply, request, received_at, applied_at)
    SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], $5::text[], $6::text[], $7::text[], $8::uuid[],
                         $9::smallint[], $10::bytea[], $11::jsonb[], $12::timestamptz[], $12::timestamptz[])
    ON CONFLICT (change_id) DO NOTHING
"""


async def add(pool: asyncpg.Pool, refusals: Sequence[RefusedRequest]) -> None:
    """Write them down, all or none; what is there already stays as it is."""
    outcomes = [refusal.outcome for refusal in refusals]
    await pool.execute(
        ADD_REFUSALS,
        [outcome.change_id for outcome in outcomes],
        [refusal.organization_id for refusal in refusals],
        [refusal.connection_id for refusal in refusals],
        [refusal.token_id for refusal in refusals],
        [refusal.actor for refusal in refusals],
        [outcome.resource_type.value for outcome in outcomes],
        [refusal.operation for refusal in refusals],
        [outcome.resource_id for outcome in outcomes],
        [outcome.status for outcome in outcomes],
        [outcome.model_dump_json(exclude_none=True).encode() for outcome in outcomes],
        [refusal.request.model_dump(mode="json") for refusal in refusals],
        [refusal.received_at for refusal in refusals],
    )
