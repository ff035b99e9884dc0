"""The tokens of a connection: issued, listed, rotated, expired, revoked."""

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import httpx
import pytest

from admin_api.tokens import MAX_LIVE_TOKENS
from admin_stand import PEPPER, World, assert_refused
from contracts import SCIM_TOKEN
from servicekit import bearer

GENERATE = "/api/auth/scim/generate-token"
STATUS = "/api/v1/admin/scim"


async def connect(client: httpx.AsyncClient, provider_id: str = "okta") -> str:
    """The path of the tokens of a new connection, which has none."""
    issued = (await client.post(GENERATE, json={"providerId": provider_id})).json()
    path = f"{STATUS}/connections/{issued['connectionId']}/tokens"
    assert (await client.delete(f"{path}/{issued['tokenId']}")).status_code == 204
    return path


async def create(client: httpx.AsyncClient, path: str, **body: object) -> dict:
    answer = await client.post(path, json=body)
    assert answer.status_code == 201, answer.text
    return answer.json()


async def live_in(client: httpx.AsyncClient, path: str) -> set[str]:
    return {token["id"] for token in (await client.get(path)).json()["tokens"] if token["state"] == "live"}


async def test_t44_a_token_is_shown_once_with_what_it_may(world: World) -> None:
    """T44: afterwards only its last four characters are."""
    admin = await world.admin()
    path = await connect(admin)
    expires_at = (datetime.now(UTC) + timedelta(days=90)).replace(microsecond=0)

    answer = await admin.post(path, json={"label": "Okta", "scopes": ["read"], "expiresAt": expires_at.isoformat()})

    assert answer.status_code == 201
    assert answer.headers["cache-control"] == "no-store"
    issued = answer.json()
    secret = issued["scimToken"]
    assert secret.startswith("scim_")
    assert bearer.is_well_formed(secret)
    assert (issued["label"], issued["scopes"], issued["state"]) == ("Okta", ["read"], "live")
    assert datetime.fromisoformat(issued["expiresAt"]) == expires_at
    row = await world.db.fetchrow("SELECT * FROM tokens WHERE id = $1", UUID(issued["id"]))
    assert row is not None
    assert row["digest"] == bearer.digest(PEPPER.encode(), SCIM_TOKEN, secret)
    shown = (await admin.get(path)).text + (await admin.get(STATUS)).text
    assert secret not in shown
    assert f'"hint":"{secret[-4:]}"' in shown
    stored = await world.db.fetchval(
        "SELECT count(*) FROM events WHERE token_id = $1 AND to_jsonb(events)::text LIKE '%' || $2 || '%'",
        *(UUID(issued["id"]), secret),
    )
    assert stored == 0


@pytest.mark.parametrize(
    "body",
    [
        {"scimToken": "scim_mine"},
        {"secret": "mine"},
        {"scopes": []},
        {"scopes": ["admin"]},
        {"scopes": ["read", "preview"]},
        {"expiresAt": "2020-01-01T00:00:00Z"},
        {"expiresAt": "2099-01-01T00:00:00"},
        {"label": "a\u0000b"},
        {"label": "x" * 101},
    ],
)
async def test_t45_only_the_server_makes_secrets_and_terms_are_checked(world: World, body: dict) -> None:
    """T45: a secret that a client brings along is an unknown member."""
    admin = await world.admin()
    path = await connect(admin)

    assert_refused(await admin.post(path, json=body), 400, "validation")
    assert await live_in(admin, path) == set()


async def test_t48_rotation_overlaps_and_the_old_token_ends_by_itself(world: World) -> None:
    """T48: both work during the overlap; the new one inherits label, scopes and lifetime."""
    admin = await world.admin()
    path = await connect(admin)
    lifetime = timedelta(days=90)
    expires_at = datetime.now(UTC) + lifetime
    old = await create(admin, path, label="Okta", scopes=["read", "write"], expiresAt=expires_at.isoformat())

    answer = await admin.post(f"{path}/{old['id']}/rotate", json={"overlapSeconds": 3600})

    assert answer.status_code == 201
    new = answer.json()
    assert new["scimToken"] != old["scimToken"]
    assert (new["label"], new["scopes"]) == ("Okta", ["read", "write"])
    assert abs(datetime.fromisoformat(new["expiresAt"]) - expires_at) < timedelta(minutes=1)
    tokens = {token["id"]: token for token in (await admin.get(path)).json()["tokens"]}
    ends_in = datetime.fromisoformat(tokens[old["id"]]["expiresAt"]) - datetime.now(UTC)
    assert timedelta(minutes=59) < ends_in <= timedelta(hours=1)
    assert [w["code"] for w in tokens[old["id"]]["warnings"]] == ["token_expires"]
    assert await live_in(admin, path) == {old["id"], new["id"]}
    assert_refused(await admin.post(f"{path}/{new['id']}/rotate", json={}), 409, "conflict")


async def test_t48_a_rotation_without_overlap_ends_the_old_token_at_once(world: World) -> None:
    admin = await world.admin()
    path = await connect(admin)
    old = await create(admin, path)

    new = (await admin.post(f"{path}/{old['id']}/rotate", json={"overlapSeconds": 0})).json()

    assert await live_in(admin, path) == {new["id"]}
    assert new["expiresAt"] is None
    assert_refused(await admin.post(f"{path}/{old['id']}/rotate", json={}), 409, "conflict")
    assert_refused(await admin.patch(f"{path}/{old['id']}", json={"expiresAt": None}), 409, "conflict")


async def test_t48_issuing_rotating_and_revoking_at_once_never_exceeds_the_cap(world: World) -> None:
    """T48: whatever interleaving the server chooses, at most two are live at any time."""
    admin = await world.admin()
    path = await connect(admin)
    first = await create(admin, path)
    seen: list[int] = []

    async def watch() -> None:
        while True:
            count = await world.db.fetchval(
                """
                SELECT count(*) FROM tokens JOIN connections c ON c.id = connection_id
                WHERE c.id = $1 AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())
                """,
                UUID(path.split("/")[-2]),
            )
            seen.append(count or 0)
            await asyncio.sleep(0)

    watching = asyncio.create_task(watch())
    calls = [admin.post(f"{path}/{first['id']}/rotate", json={}) for _ in range(4)]
    calls += [admin.post(path, json={}) for _ in range(4)]
    calls.append(admin.delete(f"{path}/{first['id']}"))
    answers = await asyncio.gather(*calls)
    watching.cancel()

    assert {answer.status_code for answer in answers} <= {201, 204, 404, 409}
    assert max(seen) <= MAX_LIVE_TOKENS
    assert 1 <= len(await live_in(admin, path)) <= MAX_LIVE_TOKENS  # the revocation may have come last


async def test_previewing_tokens_do_not_stand_in_the_way_of_a_rotation(world: World) -> None:
    admin = await world.admin()
    path = await connect(admin)
    token = await create(admin, path)
    for _ in range(MAX_LIVE_TOKENS):
        await create(admin, path, scopes=["preview"])

    assert_refused(await admin.post(path, json={"scopes": ["preview"]}), 409, "conflict")
    assert (await admin.post(f"{path}/{token['id']}/rotate", json={})).status_code == 201


async def test_t49_a_revoked_token_is_gone_and_stays_in_the_list(world: World) -> None:
    """T49: marked in the transaction of the answer; that it is heeded is tested with the gateway and provisioner."""
    admin = await world.admin()
    path = await connect(admin)
    token = await create(admin, path)

    assert (await admin.delete(f"{path}/{token['id']}")).status_code == 204

    assert_refused(await admin.delete(f"{path}/{token['id']}"), 404, "not_found")
    assert_refused(await admin.patch(f"{path}/{token['id']}", json={"label": "x"}), 404, "not_found")
    states = {t["id"]: t["state"] for t in (await admin.get(path)).json()["tokens"]}
    assert states[token["id"]] == "revoked"
    assert await world.db.fetchval("SELECT revoked_at FROM tokens WHERE id = $1", UUID(token["id"])) is not None
    events = await world.db.fetch("SELECT type FROM events WHERE token_id = $1 ORDER BY seq", UUID(token["id"]))
    assert [event["type"].rpartition(":")[2] for event in events] == ["token-issued", "token-revoked"]


async def test_a_label_and_an_expiry_can_be_changed(world: World) -> None:
    admin = await world.admin()
    path = await connect(admin)
    token = await create(admin, path, label="one")
    expires_at = (datetime.now(UTC) + timedelta(days=2)).replace(microsecond=0)

    changed = (await admin.patch(f"{path}/{token['id']}", json={"expiresAt": expires_at.isoformat()})).json()
    assert (changed["label"], datetime.fromisoformat(changed["expiresAt"])) == ("one", expires_at)
    assert [warning["code"] for warning in changed["warnings"]] == ["token_expires"]
    changed = (await admin.patch(f"{path}/{token['id']}", json={"label": "two", "expiresAt": None})).json()
    assert (changed["label"], changed["expiresAt"], changed["warnings"]) == ("two", None, [])
    assert_refused(
        await admin.patch(f"{path}/{token['id']}", json={"expiresAt": "2020-01-01T00:00:00Z"}), 400, "validation"
    )


async def test_tokens_are_listed_newest_first_by_page(world: World) -> None:
    admin = await world.admin()
    path = await connect(admin)
    made = []
    for _ in range(3):
        token = await create(admin, path)
        made.insert(0, token["id"])
        await admin.delete(f"{path}/{token['id']}")

    first = (await admin.get(path, params={"limit": 2})).json()
    second = (await admin.get(path, params={"limit": 2, "cursor": first["nextCursor"]})).json()

    assert [t["id"] for t in first["tokens"] + second["tokens"]][:3] == made
    assert second["nextCursor"] is None


async def test_t03_a_token_of_another_connection_is_as_unknown_as_none(world: World) -> None:
    admin, other = await world.admin(), await world.admin()
    mine, own_second, theirs = await connect(admin), await connect(admin, "entra"), await connect(other)
    foreign = (await create(other, theirs))["id"]
    sibling = (await create(admin, own_second))["id"]

    for path in (f"{mine}/{foreign}", f"{theirs}/{foreign}", f"{mine}/{sibling}", f"{mine}/{uuid4()}", f"{mine}/x"):
        assert_refused(await admin.delete(path), 404, "not_found")
        assert_refused(await admin.patch(path, json={}), 404, "not_found")
        assert_refused(await admin.post(f"{path}/rotate", json={}), 404, "not_found")
    assert_refused(await admin.post(theirs, json={}), 404, "not_found")
    assert len(await live_in(other, theirs)) == 1
