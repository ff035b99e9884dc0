"""A token for previews: what it asks for is published as a rehearsal, and nothing can be done or read with it."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from contracts import PREVIEW_HEADER
from gateway_stand import patch, user

UNKNOWN = "00000000-0000-4000-8000-000000000000"


@pytest.fixture
async def preview(tenant):
    return {"Authorization": f"Bearer {await tenant.add_token(scopes=['preview'])}"}


async def test_a_preview_is_published_as_a_rehearsal_and_its_answer_names_the_change(gateway, script, preview):
    create = {"method": "POST", "path": "/Users", "bulkId": "1", "data": user()}
    bulk = {"schemas": ["urn:ietf:params:scim:api:messages:2.0:BulkRequest"], "Operations": [create]}
    answers = [
        await gateway.client.post("/Users", json=user(), headers=preview),
        await gateway.client.patch(f"/Users/{UNKNOWN}", json=patch({"op": "remove", "path": "title"}), headers=preview),
        await gateway.client.delete(f"/Users/{UNKNOWN}", headers=preview),
        await gateway.client.post("/Bulk", json=bulk, headers=preview),
    ]
    assert [UUID(answer.headers[PREVIEW_HEADER]) for answer in answers] == [change.id for change in script.seen]
    assert len(script.seen) == 4
    rehearsed = [*script.seen, *(script.seen[-1].changes or ())]
    assert all(change.dry_run and change.version == 2 for change in rehearsed)


async def test_a_token_for_previews_reads_nothing(gateway, script, preview):
    for path in ("/Users", f"/Users/{UNKNOWN}", "/Groups"):
        assert (await gateway.client.get(path, headers=preview)).status_code == 403
    assert script.seen == []


async def test_an_ordinary_answer_names_no_change(gateway, tenant, script):
    answer = await gateway.client.post("/Users", json=user(), headers=tenant.auth)
    assert PREVIEW_HEADER not in answer.headers
    assert [(change.dry_run, change.version) for change in script.seen] == [(None, 1)]


@pytest.mark.parametrize(("lifetime", "status"), [(timedelta(seconds=30), 201), (timedelta(hours=1), 403), (None, 403)])
async def test_only_a_token_of_a_moment_previews_from_outside_of_the_networks(
    gateway, directory, tenant, preview, lifetime, status
):
    """That is admin-api's own; an admin may issue others, which are bound like all."""
    await directory.owner.execute(
        "UPDATE connections SET allowed_networks = '{198.51.100.0/24}' WHERE id = $1", tenant.id
    )
    expires_at = datetime.now(UTC) + lifetime if lifetime else None
    await directory.owner.execute(
        "UPDATE tokens SET expires_at = $2 WHERE connection_id = $1 AND 'preview' = ANY (scopes)", tenant.id, expires_at
    )
    answer = await gateway.client.post("/Users", json=user(), headers=preview)
    assert answer.status_code == status
