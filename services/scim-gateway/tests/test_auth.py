"""Tokens: what they open, for how long, and what the database knows of them (threats T19, T44, T46, T49, T54)."""

import asyncio
import statistics
import time
from datetime import UTC, datetime, timedelta

import pytest

from contracts import SCIM_TOKEN
from gateway_stand import PEPPER, running, settings_for, until, user
from scim.errors import Unauthorized
from scim_gateway.auth import Authenticator
from scim_gateway.store import tokens
from scim_gateway.store.tokens import BY_DIGEST
from servicekit import bearer


async def test_an_organization_without_the_enterprise_plan_is_403(gateway, directory):
    tenant = await directory.add_connection(plan="free")
    for answer in (
        await gateway.client.get("/Users", headers=tenant.auth),
        await gateway.client.post("/Users", json=user(), headers=tenant.auth),
    ):
        assert answer.status_code == 403
        assert "enterprise" in answer.json()["detail"]
        assert answer.headers["content-type"] == "application/scim+json"


async def test_expired_and_revoked_tokens_are_401(gateway, tenant):
    past, future = (datetime.now(UTC) + timedelta(hours=hours) for hours in (-1, 1))
    for columns, status in (
        ({"expires_at": past}, 401),
        ({"revoked_at": past}, 401),
        ({"expires_at": future}, 200),
    ):
        token = await tenant.add_token(**columns)
        answer = await gateway.client.get("/Users", headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code == status, columns


async def test_a_token_ends_in_the_cache_too(gateway, tenant):
    """Its expiry is compared with the clock at every use, not only when it is looked up."""
    expires_at = datetime.now(UTC) + timedelta(milliseconds=400)
    token = await tenant.add_token(expires_at=expires_at)
    headers = {"Authorization": f"Bearer {token}"}
    assert (await gateway.client.get("/Users", headers=headers)).status_code == 200

    async def is_refused() -> bool:
        return (await gateway.client.get("/Users", headers=headers)).status_code == 401

    await until(is_refused, 2)
    assert datetime.now(UTC) - expires_at < timedelta(seconds=0.5)


async def test_t49_a_revoked_token_reads_nothing_two_seconds_later(gateway, tenant, directory):
    assert (await gateway.client.get("/Users", headers=tenant.auth)).status_code == 200
    await directory.owner.execute("UPDATE tokens SET revoked_at = now() WHERE connection_id = $1", tenant.id)
    revoked = time.monotonic()

    async def is_refused() -> bool:
        return (await gateway.client.get("/Users", headers=tenant.auth)).status_code == 401

    await until(is_refused)
    assert time.monotonic() - revoked < 2


async def test_t49_a_deleted_connection_and_a_lapsed_plan_end_access(gateway, directory):
    deleted, lapsed = await directory.add_connection(), await directory.add_connection()
    for tenant in (deleted, lapsed):
        assert (await gateway.client.get("/Users", headers=tenant.auth)).status_code == 200
    await directory.owner.execute("UPDATE connections SET deleted_at = now() WHERE id = $1", deleted.id)
    await directory.owner.execute("UPDATE organizations SET plan = 'free' WHERE id = $1", lapsed.organization_id)
    for tenant, status in ((deleted, 401), (lapsed, 403)):

        async def has_ended(tenant=tenant, status=status) -> bool:
            return (await gateway.client.get("/Users", headers=tenant.auth)).status_code == status

        await until(has_ended, 2)


async def test_t44_the_database_holds_only_a_keyed_digest(tenant, directory):
    row = await directory.owner.fetchrow("SELECT * FROM tokens WHERE connection_id = $1", tenant.id)
    assert tenant.token not in str(dict(row))
    assert row["digest"] != bearer.digest(b"another pepper", SCIM_TOKEN, tenant.token)
    assert row["hint"] == tenant.token[-4:]


async def test_t44_another_pepper_opens_nothing(topics, directory, tenant):
    settings = settings_for(topics, directory.gateway_dsn, token_pepper="another pepper")
    async with running(settings) as gateway:
        assert (await gateway.client.get("/Users", headers=tenant.auth)).status_code == 401


async def test_t46_a_token_is_found_by_the_index_in_one_statement(directory):
    async with directory.owner.acquire() as db, db.transaction():
        await db.execute("SET LOCAL enable_seqscan = off")
        await db.execute("SET LOCAL plan_cache_mode = force_generic_plan")
        await db.execute(f"PREPARE find(bytea) AS {BY_DIGEST}")
        plan = await db.fetch("EXPLAIN EXECUTE find('')")
    assert any("tokens_digest_key" in row[0] for row in plan)


async def test_t46_known_and_unknown_tokens_take_the_same_time(gateway, tenant):
    """A coarse check: both are one indexed look-up, so neither is systematically slower."""
    unknown = {"Authorization": f"Bearer {bearer.mint(SCIM_TOKEN)}"}
    revoked = {"Authorization": f"Bearer {await tenant.add_token(revoked_at=datetime.now(UTC))}"}
    times: dict[str, list[float]] = {"unknown": [], "revoked": []}
    for _ in range(60):
        for name, headers in (("unknown", unknown), ("revoked", revoked)):
            started = time.perf_counter()
            answer = await gateway.client.get("/Users", headers=headers)
            times[name].append(time.perf_counter() - started)
            assert answer.status_code == 401
    one, other = (statistics.median(values) for values in times.values())
    assert one < other * 3 + 0.005
    assert other < one * 3 + 0.005


@pytest.mark.parametrize("prefix", ["session", "op", "dir"])
async def test_t54_tokens_of_other_kinds_are_401(gateway, directory, tenant, prefix):
    """Even one whose digest stands among ours, made for another kind."""
    token = bearer.mint(prefix)
    await directory.owner.execute(
        "INSERT INTO tokens (id, connection_id, digest, hint) VALUES (gen_random_uuid(), $1, $2, 'x')",
        tenant.id,
        bearer.digest(PEPPER.encode(), prefix, token),
    )
    answer = await gateway.client.get("/Users", headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code == 401


async def test_a_burst_of_requests_looks_its_token_up_once(directory, tenant, monkeypatch):
    looked_up = 0

    async def counting(pool, digest):
        nonlocal looked_up
        looked_up += 1
        return await find(pool, digest)

    find = tokens.find
    monkeypatch.setattr(tokens, "find", counting)
    authenticator = Authenticator(directory.owner, PEPPER.encode())
    connections = await asyncio.gather(*(authenticator.connection_of(tenant.token) for _ in range(100)))
    connections.append(await authenticator.connection_of(tenant.token))
    assert {connection.id for connection in connections} == {tenant.id}
    assert looked_up == 1


async def test_unknown_tokens_fill_no_memory(directory):
    authenticator = Authenticator(directory.owner, PEPPER.encode())
    for _ in range(20):
        with pytest.raises(Unauthorized):
            await authenticator.connection_of(bearer.mint(SCIM_TOKEN))
    assert not authenticator._known
    assert not authenticator._asking
