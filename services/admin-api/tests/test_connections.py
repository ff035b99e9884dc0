"""Connections and their tokens."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from admin_api.settings import Settings
from admin_api.tokens import MAX_LIVE_TOKENS
from admin_stand import PEPPER, World, assert_refused, new_client, new_settings, running, token_of
from contracts import CHANGE_ID_HEADER, CHANGES, SCIM_TOKEN, Change
from servicekit import bearer
from servicekit.kafka import partition_of

GENERATE = "/api/auth/scim/generate-token"
LIST = "/api/auth/scim/list-provider-connections"
GET = "/api/auth/scim/get-provider-connection"
DELETE = "/api/auth/scim/delete-provider-connection"

Call = Callable[[httpx.AsyncClient], Awaitable[httpx.Response]]
CALLS: dict[str, Call] = {
    "generate": lambda client: client.post(GENERATE, json={"providerId": "okta"}),
    "list": lambda client: client.get(LIST),
    "get": lambda client: client.get(GET, params={"providerId": "okta"}),
    "delete": lambda client: client.post(DELETE, json={"providerId": "okta"}),
}


async def generate(client: httpx.AsyncClient, provider_id: str = "okta") -> dict:
    answer = await client.post(GENERATE, json={"providerId": provider_id})
    assert answer.status_code == 201, answer.text
    return answer.json()


async def test_generating_a_token_makes_the_connection(world: World) -> None:
    admin = await world.admin()

    answer = await admin.post(GENERATE, json={"providerId": "okta"})

    assert answer.status_code == 201
    assert answer.headers["cache-control"] == "no-store"
    body = answer.json()
    assert body.keys() >= {"scimToken", "connectionId", "providerId", "organizationId", "expiresAt"}
    assert body["scimToken"].startswith("scim_")
    assert bearer.is_well_formed(body["scimToken"])
    [connection] = await world.db.fetch("SELECT * FROM connections WHERE id = $1", UUID(body["connectionId"]))
    assert str(connection["organization_id"]) == body["organizationId"]
    assert connection["provider_id"] == body["providerId"] == "okta"
    assert connection["link_existing_accounts"] is False


async def test_t44_a_token_is_shown_once_and_kept_as_a_digest(world: World) -> None:
    admin = await world.admin()
    issued = await generate(admin)
    secret = issued["scimToken"]

    rows = await world.db.fetch("SELECT * FROM tokens WHERE connection_id = $1", UUID(issued["connectionId"]))
    assert [row["digest"] for row in rows] == [bearer.digest(PEPPER.encode(), SCIM_TOKEN, secret)]
    assert not await tables_with(world.db, secret)
    shown = (await admin.get(LIST)).text + (await admin.get(GET, params={"providerId": "okta"})).text
    assert secret not in shown
    assert secret[-4:] in shown


async def tables_with(db: asyncpg.Connection, text: str) -> list[str]:
    """The tables that hold the text in any column."""
    tables = await db.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    return [
        name
        for (name,) in tables
        if await db.fetchval(f"SELECT count(*) FROM {name} AS r WHERE to_jsonb(r)::text LIKE '%' || $1 || '%'", text)
    ]


async def test_t45_a_token_that_a_client_brings_is_refused(world: World) -> None:
    admin = await world.admin()

    for member in ("scimToken", "token", "secret", "digest"):
        answer = await admin.post(GENERATE, json={"providerId": "okta", member: bearer.mint(SCIM_TOKEN)})
        assert_refused(answer, 400, "validation")
        assert member in answer.json()["message"]
    assert (await admin.get(LIST)).json() == {"providers": []}


async def test_a_second_token_overlaps_and_a_third_is_refused(world: World) -> None:
    admin = await world.admin()
    first, second = await generate(admin), await generate(admin)

    assert first["connectionId"] == second["connectionId"]
    assert first["scimToken"] != second["scimToken"]
    third = await admin.post(GENERATE, json={"providerId": "okta"})
    assert_refused(third, 409, "conflict")
    assert first["scimToken"][-4:] in third.json()["message"]
    await world.db.execute("UPDATE tokens SET revoked_at = now() WHERE id = $1", UUID(first["tokenId"]))
    await generate(admin)
    await world.db.execute("UPDATE tokens SET expires_at = now() WHERE id = $1", UUID(second["tokenId"]))
    await generate(admin)


async def test_t48_requests_at_the_same_time_make_one_connection_with_two_tokens(world: World) -> None:
    # All of them find no connection, or one without tokens, unless the row's lock makes them wait for each other.
    admin = await world.admin()

    answers = await asyncio.gather(*(admin.post(GENERATE, json={"providerId": "okta"}) for _ in range(8)))

    assert sorted(a.status_code for a in answers) == [201] * MAX_LIVE_TOKENS + [409] * (8 - MAX_LIVE_TOKENS)
    [connection] = (await admin.get(LIST)).json()["providers"]
    assert len(connection["tokens"]) == MAX_LIVE_TOKENS


async def test_connections_are_listed_with_their_live_tokens(world: World) -> None:
    admin = await world.admin()
    okta, entra = await generate(admin, "okta"), await generate(admin, "entra")
    again = await generate(admin, "okta")
    await world.db.execute("UPDATE tokens SET revoked_at = now() WHERE id = $1", UUID(again["tokenId"]))

    providers = (await admin.get(LIST)).json()["providers"]

    assert [(p["id"], p["providerId"]) for p in providers] == [
        (okta["connectionId"], "okta"),
        (entra["connectionId"], "entra"),
    ]
    for provider, issued in zip(providers, (okta, entra), strict=True):
        assert provider.keys() >= {"id", "providerId", "organizationId", "createdAt", "tokens"}
        [token] = provider["tokens"]
        assert token == {
            "id": issued["tokenId"],
            "hint": issued["scimToken"][-4:],
            "createdAt": issued["createdAt"],
            "expiresAt": None,
            "lastUsedAt": None,
        }
        assert (await admin.get(GET, params={"providerId": provider["providerId"]})).json() == provider


async def test_two_organizations_may_use_the_same_name(world: World) -> None:
    mine, other = await world.admin(), await world.admin()

    ours, theirs = await generate(mine, "okta"), await generate(other, "okta")

    assert ours["connectionId"] != theirs["connectionId"]
    assert [p["id"] for p in (await mine.get(LIST)).json()["providers"]] == [ours["connectionId"]]
    assert [p["id"] for p in (await other.get(LIST)).json()["providers"]] == [theirs["connectionId"]]


async def test_another_organizations_connection_answers_like_an_unknown_one(world: World) -> None:
    mine, other = await world.admin(), await world.admin()
    await generate(other, "entra")

    def visible(answer: httpx.Response) -> object:
        return answer.status_code, {**answer.json(), "requestId": ""}, sorted(answer.headers)

    for name in ("unknown", "a:b", "zero\x00", "", "x" * 65, "é"):
        assert_refused(await mine.get(GET, params={"providerId": name}), 404, "not_found")
    gotten = [await mine.get(GET, params={"providerId": name}) for name in ("entra", "unknown")]
    deleted = [await mine.post(DELETE, json={"providerId": name}) for name in ("entra", "unknown")]
    for foreign, unknown in (gotten, deleted):
        assert_refused(foreign, 404, "not_found")
        assert visible(foreign) == visible(unknown)
    assert (await other.get(GET, params={"providerId": "entra"})).status_code == 200


async def test_naming_ones_own_organization_is_fine_any_other_is_forbidden(world: World) -> None:
    person = await world.person(await world.organization())
    admin = await world.signed_in(person)
    foreign = await world.organization()

    own = await admin.post(GENERATE, json={"providerId": "okta", "organizationId": str(person.organization_id)})
    assert own.status_code == 201
    answers = [
        await admin.post(path, json={"providerId": "okta", "organizationId": organization})
        for path in (GENERATE, DELETE)
        for organization in (str(foreign), str(uuid4()), "nonsense", "")
    ]
    for answer in answers:
        assert_refused(answer, 403, "forbidden")
    assert len({answer.json()["message"] for answer in answers}) == 1


@pytest.mark.parametrize("name", ["credential", "Google", "email-otp", "siwe"])
@pytest.mark.parametrize("cased", [str.lower, str.upper])
async def test_t17_the_name_of_a_way_to_sign_in_is_refused(
    world: World, name: str, cased: Callable[[str], str]
) -> None:
    admin = await world.admin()

    assert_refused(await admin.post(GENERATE, json={"providerId": cased(name)}), 400, "validation")
    assert (await admin.get(LIST)).json() == {"providers": []}


@pytest.mark.parametrize(
    "name", ["", " ", "a:b", "a b", "x" * 65, "okta\n", "ökta", "a/b", "\u0000", None, 7, ["okta"]]
)
async def test_t17_a_name_with_odd_characters_is_refused(world: World, name: object) -> None:
    admin = await world.admin()

    assert_refused(await admin.post(GENERATE, json={"providerId": name}), 400, "validation")
    assert (await admin.get(LIST)).json() == {"providers": []}


async def test_t17_a_name_used_again_is_a_new_connection(world: World) -> None:
    admin = await world.admin()
    old = await generate(admin, "okta")
    await admin.post(DELETE, json={"providerId": "okta"})

    new = await generate(admin, "okta")

    assert new["connectionId"] != old["connectionId"]
    assert len((await admin.get(GET, params={"providerId": "okta"})).json()["tokens"]) == 1


@pytest.mark.parametrize("call", CALLS)
async def test_t18_only_admins_with_the_plan_may(world: World, call: str) -> None:
    organization, free = await world.organization(), await world.organization("free")
    admin = await world.signed_in(await world.person(organization))
    await generate(admin)
    # A role that is called admin elsewhere, or that an organization made itself, gives nothing here.
    await world.db.execute(
        "INSERT INTO roles (id, organization_id, name) VALUES ($1, $2, 'Admin')", uuid4(), organization
    )
    others = {
        "member": await world.signed_in(await world.person(organization, ["member"])),
        "none": await world.signed_in(await world.person(organization, [])),
        "own role": await world.signed_in(await world.person(organization, ["Admin"])),
        "free member": await world.signed_in(await world.person(free, ["member"])),
    }

    for client in others.values():
        assert_refused(await CALLS[call](client), 403, "forbidden")
    lapsed = await world.signed_in(await world.person(free))
    assert_refused(await CALLS[call](lapsed), 403, "enterprise_required")
    assert_refused(await CALLS[call](new_client(world.app)), 401, "unauthenticated")
    assert (await CALLS[call](admin)).status_code in (200, 201)


@pytest.mark.parametrize("call", CALLS)
async def test_t54_a_scim_token_is_no_session_and_a_session_is_no_scim_token(world: World, call: str) -> None:
    admin = await world.admin()
    scim_token = (await generate(admin))["scimToken"]
    session = token_of(admin)

    client = new_client(world.app)
    client.headers["authorization"] = f"Bearer {scim_token}"
    assert_refused(await CALLS[call](client), 401, "unauthenticated")
    # What the gateway would look for is not there: the digest's kind differs.
    digest = bearer.digest(PEPPER.encode(), SCIM_TOKEN, session)
    assert not await world.db.fetchval("SELECT count(*) FROM tokens WHERE digest = $1", digest)


async def test_deleting_ends_the_tokens_and_tells_the_provisioner(world: World, topics: str) -> None:
    person = await world.person(await world.organization())
    admin = await world.signed_in(person)
    issued = await generate(admin)
    user_id = await add_user(world.db, person.organization_id, UUID(issued["connectionId"]))

    answer = await admin.post(DELETE, json={"providerId": "okta"})

    assert answer.json() == {"success": True}
    [token] = await world.db.fetch("SELECT * FROM tokens WHERE id = $1", UUID(issued["tokenId"]))
    assert token["revoked_at"] is not None
    assert (await admin.get(LIST)).json() == {"providers": []}
    assert_refused(await admin.get(GET, params={"providerId": "okta"}), 404, "not_found")
    assert_refused(await admin.post(DELETE, json={"providerId": "okta"}), 404, "not_found")
    # Users are the provisioner's to remove.
    assert await world.db.fetchval("SELECT count(*) FROM users WHERE id = $1", user_id) == 1
    [(change, header)] = await changes_of(topics, person.organization_id)
    assert change.connection_id == change.resource_id == UUID(issued["connectionId"])
    assert (change.resource_type, change.operation) == ("Connection", "delete")
    assert change.actor == f"account:{person.id}"
    assert header == str(change.id).encode()
    assert change.id.version == 7


async def test_a_deletion_that_kafka_missed_is_told_later(
    world: World, topics: str, settings, unused_port: int
) -> None:
    person = await world.person(await world.organization())
    database = settings.admin_database_url.get_secret_value()
    async with running(new_settings(database, f"127.0.0.1:{unused_port}")) as app:
        admin = await World(world.db, app).signed_in(person)
        issued = await generate(admin)
        await add_user(world.db, person.organization_id, UUID(issued["connectionId"]))

        assert (await admin.post(DELETE, json={"providerId": "okta"})).json() == {"success": True}
    assert await changes_of(topics, person.organization_id) == []

    async with running(settings):  # the sweep at its start
        await until(lambda: has_changes(topics, person.organization_id))

    changes = [change for change, _ in await changes_of(topics, person.organization_id)]
    assert {change.resource_id for change in changes} == {UUID(issued["connectionId"])}
    assert {change.actor for change in changes} == {"admin-api"}


async def test_the_sweep_forgets_expired_sessions(world: World, settings: Settings) -> None:
    person = await world.person(await world.organization())
    await world.signed_in(person)
    kept = await world.signed_in(person)
    expired = bearer.digest(PEPPER.encode(), "session", token_of(kept))
    await world.db.execute(
        "UPDATE sessions SET expires_at = now() - interval '1 minute' WHERE account_id = $1 AND digest <> $2",
        *(person.id, expired),
    )

    async def is_swept() -> bool:
        rows = await world.db.fetch("SELECT digest FROM sessions WHERE account_id = $1", person.id)
        return [row["digest"] for row in rows] == [expired]

    async with running(settings):
        await until(is_swept)


async def test_a_deletion_is_told_again_while_groups_are_left(world: World, topics: str, settings: Settings) -> None:
    organization_id, connection_id = await world.organization(), uuid4()
    await world.db.execute(
        "INSERT INTO connections (id, organization_id, provider_id, deleted_at) VALUES ($1, $2, 'okta', now())",
        *(connection_id, organization_id),
    )
    await world.db.execute(
        """
        INSERT INTO groups (id, connection_id, display_name, display_name_key, resource, version, created_at,
            last_modified)
        VALUES (gen_random_uuid(), $1, 'Staff', 'staff', '{}', 1, now(), now())
        """,
        connection_id,
    )

    async with running(settings):
        await until(lambda: has_changes(topics, organization_id))


async def add_user(db: asyncpg.Connection, organization_id: UUID, connection_id: UUID) -> UUID:
    """A SCIM user with its account, as the provisioner would have made them."""
    account_id, user_id, name = uuid4(), uuid4(), uuid4().hex
    await db.execute(
        """
        INSERT INTO accounts (id, organization_id, display_name, status, created_at, updated_at)
        VALUES ($1, $2, 'Grace Hopper', 'active', now(), now())
        """,
        *(account_id, organization_id),
    )
    await db.execute(
        """
        INSERT INTO users (id, connection_id, account_id, user_name, user_name_key, email_keys, active, resource,
            version, created_at, last_modified)
        VALUES ($1, $2, $3, $4, $4, '{}', true, $5, 1, now(), now())
        """,
        *(user_id, connection_id, account_id, name, json.dumps({"userName": name})),
    )
    return user_id


async def changes_of(bootstrap: str, organization_id: UUID) -> list[tuple[Change, bytes]]:
    """The organization's changes in the log so far, each with its id header."""
    partition = TopicPartition(CHANGES.name, partition_of(str(organization_id).encode(), CHANGES.partitions))
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest")
    await consumer.start()
    try:
        consumer.assign([partition])
        end = (await consumer.end_offsets([partition]))[partition]
        records = []
        while await consumer.position(partition) < end:
            records += (await consumer.getmany(timeout_ms=1000)).get(partition, [])
    finally:
        await consumer.stop()
    return [
        (Change.model_validate_json(record.value), dict(record.headers)[CHANGE_ID_HEADER])
        for record in records
        if record.key == str(organization_id).encode()
    ]


async def has_changes(bootstrap: str, organization_id: UUID) -> bool:
    return bool(await changes_of(bootstrap, organization_id))


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Poll the condition until it holds; fails after 20 s."""
    async with asyncio.timeout(20):
        while not await condition():
            await asyncio.sleep(0.1)


async def test_the_sweep_makes_the_coming_days_of_the_provisioning_log(world: World, settings: Settings) -> None:
    async with running(settings):  # the sweep at its start
        tomorrow = f"outcomes_{datetime.now(UTC) + timedelta(days=1):%Y%m%d}"
        async with asyncio.timeout(10):
            while not await world.db.fetchval("SELECT to_regclass($1)", tomorrow):
                await asyncio.sleep(0.02)
