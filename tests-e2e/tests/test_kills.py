"""`kill -9` under load: every acknowledged write is there, exactly once (P1, P2, P4).

KILLS is how often the provisioner is killed (5, with LONG=1 20); SEED makes a run's choices again.
"""

import os
import random
import uuid

import asyncpg
import pytest

from e2e import load as loads
from e2e.admin import Organization, another_organization
from e2e.load import Load
from e2e.stack import Stack, until

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(1200)]

LONG = bool(os.environ.get("LONG"))
PROVISIONER_KILLS = int(os.environ.get("KILLS") or (20 if LONG else 5))
GATEWAY_KILLS = 5 if LONG else 2
SEED = int(os.environ.get("SEED") or random.SystemRandom().randrange(10**6))
WRITES_BETWEEN_KILLS = 60

# Each of these must find nothing.
BROKEN = {
    "a counter that is not the number of users": """
        SELECT connection_id, users FROM connection_stats AS stats
        WHERE users <> (SELECT count(*) FROM users WHERE users.connection_id = stats.connection_id)
    """,
    "two users of one name": """
        SELECT user_name_key FROM users GROUP BY connection_id, user_name_key HAVING count(*) > 1
    """,
    "two accounts of one email": """
        SELECT email_key FROM accounts WHERE email_key IS NOT NULL
        GROUP BY organization_id, email_key HAVING count(*) > 1
    """,
    "a user whose account is not as active as it is": """
        SELECT users.id FROM users JOIN accounts ON accounts.id = users.account_id
        WHERE users.active <> (accounts.status = 'active')
    """,
    "an active account whose only user is deleted": """
        SELECT accounts.id FROM accounts JOIN user_tombstones ON user_tombstones.account_id = accounts.id
        WHERE accounts.status = 'active' AND accounts.id NOT IN (SELECT account_id FROM users)
        AND accounts.id NOT IN (SELECT links.account_id FROM links JOIN connections ON connections.id = connection_id
            WHERE connections.deleted_at IS NOT NULL)
    """,
    "an id that lives and is deleted": "SELECT users.id FROM users JOIN user_tombstones USING (id)",
    "a quarantined record": "SELECT id, error FROM quarantine",
}
# Every record of the load has one outcome, and every outcome its record; only a Bulk request has more, and what a
# gateway refused by itself has none.
UNDECIDED = """
    SELECT (SELECT sum(next_offset) FROM partition_offsets WHERE topic = 'scim.changes')::bigint
         - (SELECT count(*) FROM outcomes WHERE NOT convert_from(reply, 'UTF8')::jsonb ? 'similar')
"""


@pytest.fixture
async def directory(chaos_stack: Stack):
    """The database behind the stack that is killed."""
    db = await asyncpg.connect(chaos_stack.database_url)
    yield db
    await db.close()


@pytest.fixture
async def loaded(chaos_stack: Stack):
    """An organization of its own, so that its rows are the load's alone."""
    await chaos_stack.is_whole()
    async with another_organization(chaos_stack) as organization:
        yield organization


async def test_p1_no_acknowledged_write_is_lost_or_doubled_when_the_provisioner_is_killed(
    chaos_stack: Stack, loaded: Organization, directory: asyncpg.Connection
):
    before = await undecided(directory)

    load = await killed_under_load("provisioner", PROVISIONER_KILLS, chaos_stack, loaded)

    await assert_consistent(directory, load, loaded, before)


async def test_p1_no_acknowledged_write_is_lost_or_doubled_when_the_gateway_is_killed(
    chaos_stack: Stack, loaded: Organization, directory: asyncpg.Connection
):
    before = await undecided(directory)

    load = await killed_under_load("gateway", GATEWAY_KILLS, chaos_stack, loaded)

    await assert_consistent(directory, load, loaded, before)


async def killed_under_load(part: str, kills: int, stack: Stack, organization: Organization) -> Load:
    print(f"seed {SEED}")
    async with loads.running(organization.scim, SEED, f"{uuid.uuid4().hex[:8]}.example.com") as load:
        for _ in range(kills):
            await load.progress(WRITES_BETWEEN_KILLS)
            await stack.killed_and_back(part)
        await load.progress(WRITES_BETWEEN_KILLS)
    print(f"{kills} kills, {load.acknowledged} writes acknowledged, {load.repeated} tries repeated")
    return load


async def undecided(db: asyncpg.Connection) -> int:
    """Records of the log without an outcome, less the outcomes that have no record of their own."""
    return int(await db.fetchval(UNDECIDED) or 0)


async def assert_consistent(db: asyncpg.Connection, load: Load, organization: Organization, before: int) -> None:
    """The rows agree with each other, with the log, and with what was acknowledged."""

    async def all_decided() -> bool:
        return await undecided(db) == before

    await until(all_decided, "one outcome for each record of the log", 30)
    for what, query in BROKEN.items():
        assert await db.fetch(query) == [], what
    present = {one.user_name for one in load.registers if one.is_present}
    rows = await db.fetch("SELECT user_name FROM users WHERE connection_id = $1", uuid.UUID(organization.connection_id))
    assert {row["user_name"] for row in rows} == present
    emails = await db.fetch(
        "SELECT email FROM accounts WHERE organization_id = $1 AND NOT break_glass", uuid.UUID(organization.id)
    )
    assert sorted(row["email"] for row in emails) == sorted(one.user_name for one in load.registers)
