"""The audit trail: shown to its organization, proved, and out of every service's reach."""

from datetime import UTC, datetime
from urllib.parse import quote, urlsplit

import asyncpg
import httpx
import pytest

import directory
from admin_api import audit
from admin_api.audit import Act, Subject
from admin_api.settings import Settings
from admin_api.store.database import open_engine, transactions
from admin_stand import World, assert_refused
from servicekit.ids import uuid7

AUDIT = "/api/v1/admin/audit"
PASSWORD = "password-of-the-test"


async def write(database: str, organization_id, number: int, actor: str = "key:test") -> None:
    async with open_engine(database, pool_size=1) as engine, transactions(engine)() as db:
        subject = (Subject.ROLE, uuid7())
        await audit.record(db, organization_id, actor, Act.ROLE_CREATED, subject, {"after": {"number": number}})


async def events(admin: httpx.AsyncClient, **params: str) -> list[dict]:
    answer = await admin.get(AUDIT, params={"type": Act.ROLE_CREATED, **params})
    assert answer.status_code == 200, answer.text
    return answer.json()["events"]


async def test_the_trail_shows_what_happened_the_newest_first(world: World, postgres_module_database: str) -> None:
    person = await world.person(await world.organization())
    admin = await world.signed_in(person)
    stranger = await world.admin()
    for number in range(3):
        await write(postgres_module_database, person.organization_id, number)
    await write(postgres_module_database, person.organization_id, 3, "account:somebody")

    shown = await events(admin)

    assert [event["data"]["after"]["number"] for event in shown] == [3, 2, 1, 0]
    assert shown[0].keys() >= {"id", "at", "type", "actor", "subjectType", "subjectId", "chain", "seq", "hash"}
    assert [event["seq"] for event in await events(admin, actor="account:somebody")] == [shown[0]["seq"]]
    assert await events(admin, subjectId=shown[1]["subjectId"]) == [shown[1]]
    assert await events(admin, **{"from": datetime.now(UTC).isoformat()}) == []
    assert await events(stranger) == []
    lines = (await admin.get(f"{AUDIT}/export", params={"format": "jsonl", "type": Act.ROLE_CREATED})).text.splitlines()
    assert len(lines) == 4


async def test_pages_of_the_trail_show_every_event_once(world: World, postgres_module_database: str) -> None:
    person = await world.person(await world.organization())
    admin = await world.signed_in(person)
    for number in range(5):
        await write(postgres_module_database, person.organization_id, number)
    seen, params = [], {"type": Act.ROLE_CREATED, "limit": "2"}
    while True:
        answer = (await admin.get(AUDIT, params=params)).json()
        seen += [event["data"]["after"]["number"] for event in answer["events"]]
        if answer["nextCursor"] is None:
            break
        params["cursor"] = answer["nextCursor"]

    assert seen == [4, 3, 2, 1, 0]
    assert_refused(await admin.get(AUDIT, params={"cursor": "x"}), 400, "validation")


async def test_t64_an_admin_can_have_the_own_rows_proved(world: World, postgres_module_database: str) -> None:
    person = await world.person(await world.organization())
    admin, stranger = await world.signed_in(person), await world.admin()
    for number in range(3):
        await write(postgres_module_database, person.organization_id, number)
    proof = (await admin.post(f"{AUDIT}/verify")).json()
    assert (proof["broken"], proof["rows"] >= 3) == (None, True)
    id, data = await world.db.fetchrow(
        "SELECT id, data FROM events WHERE organization_id = $1 AND type = $2 ORDER BY seq OFFSET 1 LIMIT 1",
        *(person.organization_id, Act.ROLE_CREATED),
    )  # pyright: ignore[reportGeneralTypeIssues]

    await world.db.execute("""UPDATE events SET data = '{"after": {"number": 9}}' WHERE id = $1""", id)

    assert (await admin.post(f"{AUDIT}/verify")).json()["broken"]["id"] == str(id)
    assert (await stranger.post(f"{AUDIT}/verify")).json()["broken"] is None
    await world.db.execute("UPDATE events SET data = $2 WHERE id = $1", id, data)
    assert (await admin.post(f"{AUDIT}/verify")).json()["broken"] is None


@pytest.mark.parametrize("role", directory.ROLES)
@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE events SET data = NULL",
        "UPDATE events SET hash = hash",
        "DELETE FROM events",
        "TRUNCATE events",
        "ALTER TABLE events DISABLE TRIGGER ALL",
        "DROP TABLE events",
    ],
)
async def test_t64_no_service_can_change_what_is_in_the_trail(
    postgres_module_database: str, settings: Settings, role: directory.Role, statement: str
) -> None:
    await directory.set_role_passwords(postgres_module_database, {role: PASSWORD}) if role != "scim_admin" else None
    parts = urlsplit(postgres_module_database)
    password = PASSWORD if role != "scim_admin" else urlsplit(settings.admin_database_url.get_secret_value()).password
    dsn = parts._replace(netloc=f"{role}:{quote(str(password))}@{parts.hostname}:{parts.port}").geturl()
    db = await asyncpg.connect(dsn)
    try:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await db.execute(statement)
    finally:
        await db.close()


async def test_t64_guessing_passwords_writes_no_rows(world: World, client: httpx.AsyncClient) -> None:
    person = await world.person(await world.organization())
    before = await world.db.fetchval("SELECT count(*) FROM events")

    for number in range(20):
        guess = {"email": person.email, "password": f"guess {number}"}
        assert (await client.post("/api/auth/sign-in/email", json=guess)).status_code in (401, 429)

    assert await world.db.fetchval("SELECT count(*) FROM events") == before
