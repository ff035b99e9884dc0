"""Related values are read together: on a real database, whose table is locked where a statement has to wait."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from uuid import UUID

import asyncpg
import orjson
import pytest
import pytest_asyncio

from gateway_stand import Directory, Tenant, opened_directory, until
from scim.errors import Unavailable
from scim_gateway.related import Related, TooMany
from scim_gateway.store.groups import GROUPS
from scim_gateway.store.users import USERS
from servicekit.ids import uuid7
from servicekit.postgres import open_pool

WAITING = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'related' AND wait_event_type = 'Lock'"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def directory(postgres_module_database: str) -> AsyncIterator[Directory]:
    async with opened_directory(postgres_module_database) as opened:
        yield opened


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def pool(directory: Directory) -> AsyncIterator[asyncpg.Pool]:
    async with open_pool(directory.gateway_dsn, service="related", max_size=4, statement_timeout=60_000) as pool:
        yield pool


@pytest.fixture
def related(pool: asyncpg.Pool) -> Related:
    return Related(pool, "https://scim.example.com")


async def add_group(tenant: Tenant, *members: UUID) -> UUID:
    group_id, owner = uuid7(), tenant.directory.owner
    await owner.execute(
        "INSERT INTO groups (id, connection_id, display_name, display_name_key, resource, version, created_at,"
        " last_modified) VALUES ($1, $2, $3, $3, '{}', 1, now(), now())",
        group_id,
        tenant.id,
        str(group_id),
    )
    await owner.executemany("INSERT INTO memberships VALUES ($1, $2, 'User')", [(group_id, id) for id in members])
    return group_id


@asynccontextmanager
async def memberships_locked(directory: Directory) -> AsyncIterator[Callable[[int], Awaitable[bool]]]:
    """Whoever reads memberships waits until the block ends; what is yielded waits until so many statements do."""
    async with directory.owner.acquire() as db, db.transaction():
        await db.execute("LOCK TABLE memberships IN ACCESS EXCLUSIVE MODE")

        async def counted(statements: int) -> bool:
            return await directory.owner.fetchval(WAITING) == statements

        yield lambda statements: until(partial(counted, statements))


def groups_of(text: str | None) -> list[str]:
    return [group["value"] for group in orjson.loads(text or "[]")]


def asked(related: Related, tenant: Tenant, *users: UUID) -> list[asyncio.Task[str | None]]:
    return [asyncio.create_task(related.of(tenant.id, USERS, user)) for user in users]


async def test_what_is_asked_for_in_one_turn_is_one_statement(directory, tenant, related):
    users = [await tenant.add_user(f"user{number}") for number in range(4)]
    sales, support = await add_group(tenant, *users[:2]), await add_group(tenant, users[0])
    async with memberships_locked(directory) as statements:
        reads = asked(related, tenant, *users, users[1])
        await statements(1)
    assert [groups_of(text) for text in await asyncio.gather(*reads)] == [
        [str(sales), str(support)],
        [str(sales)],
        [],
        [],
        [str(sales)],
    ]


async def test_connections_do_not_wait_for_each_other(directory, tenant, related):
    other = await directory.add_connection()
    ours, theirs = await tenant.add_user("ada"), await other.add_user("ada")
    async with memberships_locked(directory) as statements:
        reads = asked(related, tenant, ours) + asked(related, other, theirs)
        await statements(2)
    assert await asyncio.gather(*reads) == [None, None]


async def test_one_that_is_cancelled_leaves_the_others_theirs(directory, tenant, related):
    users = [await tenant.add_user(f"user{number}") for number in range(3)]
    group_id = await add_group(tenant, *users)
    async with memberships_locked(directory) as statements:
        at_once, while_reading, patient = asked(related, tenant, *users)
        await asyncio.sleep(0)  # each has asked, nothing is sent
        at_once.cancel()
        await statements(1)
        while_reading.cancel()
    assert groups_of(await patient) == [str(group_id)]
    assert [read.cancelled() for read in (at_once, while_reading)] == [True, True]


async def test_a_failure_is_everybodys_and_not_the_next_ones(directory, tenant, related):
    users = [await tenant.add_user(f"user{number}") for number in range(2)]
    await directory.owner.execute("REVOKE SELECT ON memberships FROM scim_gateway")
    try:
        failures = await asyncio.gather(*asked(related, tenant, *users), return_exceptions=True)
    finally:
        await directory.owner.execute("GRANT SELECT ON memberships TO scim_gateway")
    assert [type(failure) for failure in failures] == [Unavailable, Unavailable]
    assert await asyncio.gather(*asked(related, tenant, *users)) == [None, None]


async def test_nothing_is_remembered(tenant, related):
    user = await tenant.add_user("ada")
    assert await related.of(tenant.id, USERS, user) is None
    group_id = await add_group(tenant, user)
    assert groups_of(await related.of(tenant.id, USERS, user)) == [str(group_id)]


async def test_a_group_that_is_too_large_is_too_large_alone(tenant, related):
    users = [await tenant.add_user(f"user{number}") for number in range(3)]
    small, large, empty = await add_group(tenant, *users[:2]), await add_group(tenant, *users), await add_group(tenant)
    reads = [related.of(tenant.id, GROUPS, group_id, 2) for group_id in (small, large, empty)]
    of_small, of_large, of_empty = await asyncio.gather(*reads, return_exceptions=True)
    assert isinstance(of_small, str)
    assert (groups_of(of_small), of_empty) == ([str(user) for user in users[:2]], None)
    assert isinstance(of_large, TooMany)
    assert groups_of(await related.of(tenant.id, GROUPS, large)) == [str(user) for user in users]


async def test_groups_that_may_be_large_are_read_one_by_one(directory, tenant, related):
    groups = [await add_group(tenant) for _ in range(2)]
    async with memberships_locked(directory) as statements:
        reads = [asyncio.create_task(related.of(tenant.id, GROUPS, group_id)) for group_id in groups]
        await statements(2)
    assert await asyncio.gather(*reads) == [None, None]
