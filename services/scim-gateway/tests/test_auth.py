"""Tokens: what they open, for how long, and what the database knows of them (threats T19, T44, T46, T49, T54)."""

import asyncio
import statistics
import time
from datetime import UTC, datetime, timedelta

import pytest
from starlette.requests import Request

from contracts import SCIM_TOKEN
from gateway_stand import PEPPER, patch, running, settings_for, until, user
from scim.errors import Unauthorized
from scim_gateway.auth import CACHE_SECONDS, Authenticator
from scim_gateway.store import tokens
from scim_gateway.store.tokens import BY_DIGEST
from servicekit import bearer


def request_with(token: str) -> Request:
    headers = [(b"authorization", f"Bearer {token}".encode())]
    return Request({"type": "http", "headers": headers, "client": ("192.0.2.1", 40000)})


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
    request = request_with(tenant.token)
    connections = await asyncio.gather(*(authenticator.connection_of(request, None) for _ in range(100)))
    connections.append(await authenticator.connection_of(request, None))
    assert {connection.id for connection in connections} == {tenant.id}
    assert looked_up == 1


async def test_unknown_tokens_fill_no_memory(directory):
    authenticator = Authenticator(directory.owner, PEPPER.encode())
    for _ in range(20):
        with pytest.raises(Unauthorized):
            await authenticator.connection_of(request_with(bearer.mint(SCIM_TOKEN)), None)
    assert not authenticator._known
    assert not authenticator._asking


async def test_a_token_that_may_only_read_writes_nothing(gateway, tenant, script):
    headers = {"Authorization": f"Bearer {await tenant.add_token(scopes=['read'])}"}
    user_id = await tenant.add_user("ada@example.com")
    search = {"schemas": ["urn:ietf:params:scim:api:messages:2.0:SearchRequest"]}
    for answer in (
        await gateway.client.get("/Users", headers=headers),
        await gateway.client.get(f"/Users/{user_id}", headers=headers),
        await gateway.client.post("/Users/.search", json=search, headers=headers),
        await gateway.client.post("/.search", json=search, headers=headers),
        await gateway.client.get("/Schemas", headers=headers),
    ):
        assert answer.status_code == 200, answer.text
    for method, path, body in (
        ("POST", "/Users", user()),
        ("PUT", f"/Users/{user_id}", user()),
        ("PATCH", f"/Users/{user_id}", patch({"op": "replace", "path": "active", "value": False})),
        ("DELETE", f"/Users/{user_id}", None),
        ("POST", "/Groups", {}),
        ("POST", "/Bulk", {}),
    ):
        answer = await gateway.client.request(method, path, json=body, headers=headers)
        assert answer.status_code == 403, (method, path)
        assert answer.headers["content-type"] == "application/scim+json"
        assert "write scope" in answer.json()["detail"]
    assert script.seen == []


async def test_a_token_that_may_only_write_reads_nothing(gateway, tenant, script):
    headers = {"Authorization": f"Bearer {await tenant.add_token(scopes=['write'])}"}
    assert (await gateway.client.post("/Users", json=user(), headers=headers)).status_code == 201
    for path in ("/Users", "/Groups", "/Users/00000000-0000-4000-8000-000000000000"):
        assert (await gateway.client.get(path, headers=headers)).status_code == 403
    assert (await gateway.client.get("/ServiceProviderConfig", headers=headers)).status_code == 200


async def test_a_connection_is_used_from_its_networks_only(gateway, tenant, directory, script):
    assert (await gateway.client.get("/Users", headers=tenant.auth)).status_code == 200
    await allow(directory, tenant, "198.51.100.0/24", "2001:db8::/32")

    async def is_refused() -> bool:
        return (await gateway.client.get("/Users", headers=tenant.auth)).status_code == 403

    await until(is_refused, 2)
    answer = await gateway.client.post("/Users", json=user(), headers=tenant.auth)
    assert answer.status_code == 403
    assert "127.0.0.1" in answer.json()["detail"]
    # Nobody in front of us is trusted here, so this is a claim of the client's own.
    headers = {**tenant.auth, "X-Forwarded-For": "198.51.100.7"}
    assert (await gateway.client.get("/Users", headers=headers)).status_code == 403
    assert script.seen == []
    await allow(directory, tenant, "198.51.100.0/24", "127.0.0.0/8")

    async def is_served() -> bool:
        return (await gateway.client.get("/Users", headers=tenant.auth)).status_code == 200

    await until(is_served, 2)


async def test_behind_a_trusted_proxy_the_client_is_the_last_hop_that_is_none(topics, directory, tenant):
    await allow(directory, tenant, "198.51.100.0/24")
    settings = settings_for(topics, directory.gateway_dsn, trusted_proxies="127.0.0.0/8, 10.0.0.0/8")
    async with running(settings) as gateway:
        for forwarded, status in (
            ("198.51.100.7", 200),
            ("203.0.113.9, 198.51.100.7, 10.1.2.3", 200),
            ("198.51.100.7, 203.0.113.9", 403),
            ("198.51.100.7, unknown", 403),
            ("", 403),
        ):
            headers = {**tenant.auth, "X-Forwarded-For": forwarded}
            answer = await gateway.client.get("/Users", headers=headers)
            assert answer.status_code == status, forwarded


async def allow(directory, tenant, *networks: str) -> None:
    await directory.owner.execute(
        "UPDATE connections SET allowed_networks = $2::text[]::cidr[] WHERE id = $1", tenant.id, list(networks)
    )


async def test_t50_guesses_are_refused_before_the_database_is_asked(topics, directory, tenant):
    """The connection's own token goes on working from the same address: it is known, so it is no guess."""
    settings = settings_for(topics, directory.gateway_dsn, gateway_guess_burst=10.0, gateway_guess_rate=0.1)
    async with running(settings) as gateway:
        assert (await gateway.client.get("/Users", headers=tenant.auth)).status_code == 200
        guesses = [{"Authorization": f"Bearer {bearer.mint(SCIM_TOKEN)}"} for _ in range(14)]
        answers = [await gateway.client.get("/Users", headers=guess) for guess in guesses]
        assert [answer.status_code for answer in answers] == [401] * 10 + [429] * 4
        answer = answers[-1]
        assert 1 <= int(answer.headers["retry-after"]) <= 10
        assert answer.headers["content-type"] == "application/scim+json"
        assert answer.json()["status"] == "429"
        first = time.monotonic()
        while time.monotonic() - first < CACHE_SECONDS * 1.2:  # the cached row ends meanwhile, and is asked for again
            assert (await gateway.client.get("/Users", headers=tenant.auth)).status_code == 200
        # What cannot be a token is no guess; it is refused without being looked up.
        assert (await gateway.client.get("/Users", headers={"Authorization": "Bearer x"})).status_code == 401


async def test_t50_a_connection_that_sends_too_much_is_429_and_others_are_not(topics, directory):
    noisy, other = await directory.add_connection(), await directory.add_connection()
    settings = settings_for(topics, directory.gateway_dsn, gateway_connection_rate=1.0, gateway_connection_burst=20.0)
    async with running(settings) as gateway:
        answers = await asyncio.gather(*(gateway.client.get("/Users", headers=noisy.auth) for _ in range(40)))
        refused = [answer for answer in answers if answer.status_code == 429]
        assert 15 <= len(refused) <= 20
        assert all(answer.headers["retry-after"] == "1" for answer in refused)
        for _ in range(20):
            assert (await gateway.client.get("/Users", headers=other.auth)).status_code == 200


async def test_t63_what_the_database_holds_opens_nothing(gateway, tenant, directory):
    row = await directory.owner.fetchrow("SELECT * FROM tokens WHERE connection_id = $1", tenant.id)
    for value in filter(None, row.values()):
        text = value.hex() if isinstance(value, bytes) else str(value)
        for spelling in (text, f"scim_{text}"):
            answer = await gateway.client.get("/Users", headers={"Authorization": f"Bearer {spelling}"})
            assert answer.status_code == 401, spelling
