"""`verify`: every kind of drift is found, repaired where rows can tell what is right, and then silence."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import asyncpg
import pytest

from admin_api.drift import ALL_CHECKS, STALE_AFTER, Report, verify, verify_all
from admin_api.store.database import Transaction, open_engine, transactions
from admin_api.store.events import append
from admin_seed import Seed, seed
from admin_stand import World
from contracts.events import EventRow
from servicekit.ids import uuid7

type Corrupt = Callable[[Seed], Awaitable[object]]


@pytest.fixture(scope="module")
async def as_owner(postgres_module_database: str):
    async with open_engine(postgres_module_database, pool_size=1) as engine:
        yield transactions(engine)


@pytest.fixture
async def okta(world: World) -> Seed:
    """A connection with two users, one of whom is an engineer by a nested group."""
    okta = await seed(world.db, await world.organization(), "okta")
    ada, grace = await okta.user(), await okta.user()
    inner = await okta.group("inner", ada.id)
    engineers = await okta.group("Engineers", inner, version=2)
    role = await okta.role("engineer")
    await okta.mapping("Engineers", role, created=1)
    await okta.grant(ada.account_id, role, engineers)
    await okta.grant(grace.account_id, role)
    return okta


async def run(as_owner: Transaction, organization_id: UUID | None, *, repair: bool = False) -> Report:
    async with as_owner() as db:
        return await verify_all(db, organization_id, datetime.now(UTC), STALE_AFTER, repair=repair)


def kinds(report: Report) -> dict[str, int]:
    return {drift.kind: drift.found for drift in report.drifts}


async def some(okta: Seed, table: str, column: str = "id") -> UUID:
    bound = {"users": "connection_id", "groups": "connection_id", "accounts": "organization_id"}[table]
    owner = okta.connection_id if bound == "connection_id" else okta.organization_id
    found = await okta.db.fetchval(f"SELECT {column} FROM {table} WHERE {bound} = $1 ORDER BY id LIMIT 1", owner)
    assert found
    return found


async def another_connection(okta: Seed) -> Seed:
    return await seed(okta.db, okta.organization_id)


async def another_organization(okta: Seed) -> Seed:
    return await seed(okta.db, await World(okta.db, None).organization())  # pyright: ignore[reportArgumentType]


# --- corruptions; each leaves exactly the drift of its name


async def user_columns(okta: Seed) -> None:
    await okta.db.execute("UPDATE users SET external_id = 'wrong' WHERE id = $1", await some(okta, "users"))


async def group_columns(okta: Seed) -> None:
    await okta.db.execute("UPDATE groups SET external_id = 'wrong' WHERE id = $1", await some(okta, "groups"))


async def user_keys(okta: Seed) -> None:
    await okta.db.execute(
        "UPDATE users SET user_name_key = 'x', email_keys = '{}' WHERE id = $1", await some(okta, "users")
    )


async def group_keys(okta: Seed) -> None:
    await okta.db.execute("UPDATE groups SET display_name_key = 'x' WHERE id = $1", await some(okta, "groups"))


async def account_keys(okta: Seed) -> None:
    await okta.db.execute("UPDATE accounts SET email_key = 'x@y' WHERE id = $1", await some(okta, "accounts"))


async def group_names(okta: Seed) -> None:
    await okta.db.execute(
        "DELETE FROM group_names WHERE connection_id = $1 AND display_name = 'inner'", okta.connection_id
    )


async def tombstones(okta: Seed) -> None:
    await okta.db.execute(
        "INSERT INTO user_tombstones (id, connection_id, account_id, user_name_key, deleted_at)"
        " SELECT id, connection_id, account_id, user_name_key, now() FROM users WHERE connection_id = $1",
        okta.connection_id,
    )


async def missing_members(okta: Seed) -> None:
    await okta.member(await some(okta, "groups"), uuid4())


async def foreign_members(okta: Seed) -> None:
    stranger = await (await another_connection(okta)).user()
    await okta.member(await some(okta, "groups"), stranger.id)


async def member_types(okta: Seed) -> None:
    group_id, member_id = await some(okta, "groups"), await some(okta, "users")
    await okta.db.execute(
        "UPDATE memberships SET member_type = 'Group' WHERE group_id = $1 AND member_id = $2", group_id, member_id
    )


async def foreign_links(okta: Seed) -> None:
    stranger = await (await another_organization(okta)).user()
    await okta.db.execute(
        "INSERT INTO links VALUES ($1, $2, 'created', now())", okta.connection_id, stranger.account_id
    )


async def missing_links(okta: Seed) -> None:
    await okta.db.execute("DELETE FROM links WHERE connection_id = $1", okta.connection_id)


async def sessions(okta: Seed) -> None:
    user = await okta.user(active=False)
    await okta.db.execute(
        "INSERT INTO sessions (id, account_id, digest, epoch, expires_at)"
        " VALUES ($1, $2, $3, 0, now() + interval '1h')",
        *(uuid7(), user.account_id, uuid7().bytes),
    )


async def tokens(okta: Seed) -> None:
    gone = await another_connection(okta)
    await okta.db.execute("UPDATE connections SET deleted_at = now() WHERE id = $1", gone.connection_id)
    await okta.db.execute(
        "INSERT INTO tokens (id, connection_id, digest, hint) VALUES ($1, $2, $3, 'abcd')",
        *(uuid7(), gone.connection_id, uuid7().bytes),
    )


async def holds(okta: Seed) -> None:
    await okta.db.execute(
        "INSERT INTO holds (id, organization_id, connection_id, user_id, account_id, change, held_at)"
        " VALUES ($1, $2, $3, $1, $4, '{}', now())",
        *(uuid7(), okta.organization_id, okta.connection_id, await some(okta, "accounts")),
    )


async def foreign_grants(okta: Seed) -> None:
    await okta.grant(await some(okta, "accounts"), await (await another_organization(okta)).role())


async def orphan_grants(okta: Seed) -> None:
    group_id = await some(okta, "groups")  # nothing maps it
    await okta.grant(await some(okta, "accounts"), await okta.role("engineer"), group_id)


async def missing_grants(okta: Seed) -> None:
    await okta.db.execute(
        "DELETE FROM grants USING accounts a"
        " WHERE a.id = account_id AND group_id IS NOT NULL AND a.organization_id = $1",
        okta.organization_id,
    )


async def counters(okta: Seed) -> None:
    await okta.db.execute("UPDATE connection_stats SET users = users + 7 WHERE connection_id = $1", okta.connection_id)


REPAIRED: list[Corrupt] = [
    user_columns,
    group_columns,
    user_keys,
    group_keys,
    account_keys,
    group_names,
    tombstones,
    missing_members,
    foreign_members,
    member_types,
    missing_links,
    foreign_links,
    sessions,
    tokens,
    holds,
    foreign_grants,
    missing_grants,
    orphan_grants,
    counters,
]


async def test_a_directory_in_order_has_no_drift(okta: Seed, as_owner: Transaction) -> None:
    report = await run(as_owner, okta.organization_id)

    assert kinds(report) == {}
    assert report.is_clean


@pytest.mark.parametrize("corrupt", REPAIRED, ids=lambda corrupt: corrupt.__name__)
async def test_drift_is_found_repaired_and_then_gone(corrupt: Corrupt, okta: Seed, as_owner: Transaction) -> None:
    before = await rows_of(okta)
    await corrupt(okta)

    found = await run(as_owner, okta.organization_id)
    repaired = await run(as_owner, okta.organization_id, repair=True)
    again = await run(as_owner, okta.organization_id, repair=True)

    # A wrong type of member hides a path, so a grant looks like an orphan along with it until it is put right.
    assert corrupt.__name__ in kinds(found)
    assert kinds(repaired).keys() >= {corrupt.__name__}
    assert repaired.is_clean
    assert kinds(again) == {}
    assert (await rows_of(okta)).items() >= before.items()


async def rows_of(okta: Seed) -> dict[str, object]:
    """The grants and memberships, which every repair must leave as they were before the corruption."""
    grants = "SELECT g.account_id, g.role_id, g.group_id FROM grants g JOIN accounts a ON a.id = g.account_id"
    return {
        "grants": {
            tuple(row) for row in await okta.db.fetch(f"{grants} WHERE a.organization_id = $1", okta.organization_id)
        },
        "members": {
            (row["group_id"], row["member_id"], row["member_type"])
            for row in await okta.db.fetch(
                "SELECT m.* FROM memberships m JOIN groups g ON g.id = m.group_id WHERE g.connection_id = $1",
                okta.connection_id,
            )
        },
    }


async def test_all_corruptions_together_are_repaired_in_one_run(okta: Seed, as_owner: Transaction) -> None:
    for corrupt in REPAIRED:
        await corrupt(okta)

    repaired = await run(as_owner, okta.organization_id, repair=True)

    assert kinds(repaired).keys() >= {corrupt.__name__ for corrupt in REPAIRED}
    assert repaired.is_clean
    assert kinds(await run(as_owner, okta.organization_id)) == {}


async def test_what_rows_cannot_tell_is_named_and_left(okta: Seed, as_owner: Transaction) -> None:
    outer = await okta.group("outer")
    inner = await okta.group("within", outer)
    await okta.member(outer, inner)
    stranger = await (await another_organization(okta)).user()
    await okta.db.execute("DELETE FROM users WHERE id = $1", stranger.id)
    foreign = await some(okta, "users")
    await okta.db.execute("UPDATE users SET account_id = $2 WHERE id = $1", foreign, stranger.account_id)

    repaired = await run(as_owner, okta.organization_id, repair=True)

    left = {drift.kind: drift for drift in repaired.drifts if drift.left}
    assert left.keys() == {"group_cycles", "foreign_users"}
    assert not repaired.is_clean
    assert all(drift.advice for drift in left.values())
    assert {example["group_id"] for example in left["group_cycles"].examples} == {outer, inner}
    assert [example["user_id"] for example in left["foreign_users"].examples] == [foreign]


async def test_two_users_of_one_name_are_named_and_both_kept(okta: Seed, as_owner: Transaction) -> None:
    twin, other = await okta.user(), await okta.user()
    await okta.db.execute("UPDATE users SET user_name_key = 'hidden' WHERE id = $1", twin.id)
    await okta.db.execute(
        "UPDATE users SET user_name = $2, user_name_key = $2, email_keys = $3,"
        " resource = jsonb_set(resource, '{userName}', to_jsonb($2::text)) WHERE id = $1",
        *(other.id, twin.email, [twin.email]),
    )

    repaired = await run(as_owner, okta.organization_id, repair=True)

    [drift] = repaired.drifts
    assert (drift.kind, drift.left, [row["id"] for row in drift.examples]) == ("user_keys", 1, [twin.id])
    assert await okta.db.fetchval("SELECT count(*) FROM users WHERE id = ANY($1)", [twin.id, other.id]) == 2


@pytest.mark.parametrize(
    ("created", "deleted", "name_version", "membership_version", "must", "may"),
    [
        (5, None, 5, 5, True, True),  # mapped before the member came
        (5, None, 5, 4, True, True),  # the name is as new as the mapping
        (5, None, 4, 4, False, True),  # mapped afterwards: only re-applying gives the role
        (5, 7, 5, 6, True, True),  # came while it was mapped
        (5, 7, 7, 5, False, True),  # the mapping was gone when the name came
        (5, 7, 5, 7, False, True),
    ],
)
async def test_a_grant_is_due_when_the_mapping_stood_when_the_path_was_complete(
    okta: Seed,
    as_owner: Transaction,
    created: int,
    deleted: int | None,
    name_version: int,
    membership_version: int,
    must: bool,
    may: bool,
) -> None:
    user, role = await okta.user(), await okta.role()
    group = await okta.group("Sales", version=name_version)
    await okta.member(group, user.id, membership_version)
    await okta.mapping("Sales", role, created=created, deleted=deleted)

    without = await run(as_owner, okta.organization_id)
    await okta.grant(user.account_id, role, group) if not must else await run(
        as_owner, okta.organization_id, repair=True
    )
    with_grant = await run(as_owner, okta.organization_id)

    assert kinds(without) == ({"missing_grants": 1} if must else {})
    assert kinds(with_grant) == ({} if may else {"orphan_grants": 1})


async def test_t12_a_group_that_took_a_name_over_is_due_no_protected_role(okta: Seed, as_owner: Transaction) -> None:
    user, admin = await okta.user(), await okta.role("admin")
    group = await okta.group("Admins", user.id, owns_name=False)
    mapping = await okta.mapping("Admins", admin)

    assert kinds(await run(as_owner, okta.organization_id)) == {}
    await okta.grant(user.account_id, admin, group)
    assert kinds(await run(as_owner, okta.organization_id)) == {"orphan_grants": 1}
    await okta.db.execute("UPDATE group_mappings SET group_ids = $2 WHERE id = $1", mapping, [group])
    assert kinds(await run(as_owner, okta.organization_id)) == {}


async def test_a_cycle_of_groups_does_not_hang_the_search_for_grants(okta: Seed, as_owner: Transaction) -> None:
    user, role = await okta.user(), await okta.role()
    one = await okta.group("One", user.id)
    two = await okta.group("Two", one)
    await okta.member(one, two)
    await okta.mapping("Two", role)
    await okta.grant(user.account_id, role, two)

    assert kinds(await run(as_owner, okta.organization_id)) == {"group_cycles": 2}


async def test_drift_of_another_organization_is_not_told(okta: Seed, as_owner: Transaction) -> None:
    other = await another_organization(okta)
    await other.user()
    await counters(other)
    await missing_links(other)

    assert kinds(await run(as_owner, okta.organization_id)) == {}
    everywhere = kinds(await run(as_owner, None))
    assert everywhere.keys() >= {"counters", "missing_links"}


async def test_stale_users_and_orphans_are_listed_and_no_drift(okta: Seed, as_owner: Transaction) -> None:
    now = datetime.now(UTC)
    long_ago = now - STALE_AFTER - timedelta(days=1)
    forgotten = await okta.user(at=long_ago)
    mentioned = await okta.user(at=long_ago)
    await okta.outcome(mentioned.id)
    orphan = await okta.user(late_fingerprint="f", at=now - timedelta(days=1))
    await okta.outcome(orphan.id, 201, operation="create", at=now - timedelta(days=1))
    repeated = await okta.user(late_fingerprint="f", at=now - timedelta(days=1))
    await okta.outcome(repeated.id, 201, operation="create", at=now)
    grouped = await okta.user(late_fingerprint="f", at=now - timedelta(days=1))
    await okta.group("Sales", grouped.id)

    async with as_owner() as db:
        report = await verify(db, okta.organization_id, now, STALE_AFTER)

    assert [row["user_id"] for row in report.stale] == [forgotten.id]
    assert [row["user_id"] for row in report.orphans] == [orphan.id]
    assert report.is_clean


# --- chains


@pytest.fixture
async def trail(postgres_database: str):
    """A database of its own, whose chain has three rows."""
    async with open_engine(postgres_database, pool_size=1) as engine:
        transaction = transactions(engine)
        async with transaction() as db:
            for number in range(3):
                await append(db, new_event(number))
        db = await asyncpg.connect(postgres_database)
        yield transaction, db
        await db.close()


def new_event(number: int) -> EventRow:
    return EventRow(
        id=uuid7(),
        organization_id=uuid7(),
        connection_id=None,
        token_id=None,
        actor="test",
        change_id=None,
        type="test",
        subject_type="Account",
        subject_id=uuid7(),
        at=datetime.now(UTC),
        data={"number": number, "name": "Zoë", "nested": {"b": [1, None], "a": 1.5}},
    )


async def test_an_untouched_chain_is_proved_to_its_end(trail) -> None:
    transaction, db = trail

    report = await run(transaction, None)

    [chain] = report.chains
    last = await db.fetchval("SELECT hash FROM events ORDER BY seq DESC LIMIT 1")
    assert (chain.chain, chain.seq, chain.hash, chain.why) == (-1, 3, last, None)


@pytest.mark.parametrize(
    ("sql", "break_at"),
    [
        ("""UPDATE events SET data = '{"number": 9}' WHERE seq = 2""", 2),
        ("UPDATE events SET actor = 'somebody else' WHERE seq = 2", 2),
        ("UPDATE events SET at = at + interval '1 microsecond' WHERE seq = 1", 1),
        ("DELETE FROM events WHERE seq = 2", 3),
        ("DELETE FROM events WHERE seq = 1", 2),
        ("UPDATE events SET hash = sha256('x') WHERE seq = 3", 3),
        ("UPDATE events SET data = '{}', digest = sha256('{}') WHERE seq = 2", 2),
    ],
)
async def test_t64_the_first_row_that_was_tampered_with_is_named(trail, sql: str, break_at: int) -> None:
    transaction, db = trail
    await db.execute(sql)

    report = await run(transaction, None, repair=True)

    [chain] = report.chains
    assert (chain.break_at, bool(chain.why)) == (break_at, True)
    assert not report.is_clean


async def test_t64_an_end_that_was_cut_off_is_noticed_by_what_was_published(trail) -> None:
    transaction, db = trail
    await db.execute("UPDATE events SET chain = 4")
    await db.execute(
        "INSERT INTO partition_offsets (topic, partition, next_offset, epoch, owner, published_event)"
        " VALUES ('scim.changes', 4, 9, 1, 'test', 3)"
    )
    assert (await run(transaction, None)).is_clean

    await db.execute("DELETE FROM events WHERE seq = 3")

    [chain] = (await run(transaction, None)).chains
    assert (chain.seq, chain.break_at) == (2, 3)


async def test_t65_erased_data_does_not_break_the_chain(trail) -> None:
    transaction, db = trail
    await db.execute("UPDATE events SET data = NULL WHERE seq = 2")

    assert (await run(transaction, None)).is_clean


def test_every_kind_of_drift_has_a_corruption_in_these_tests() -> None:
    unrepaired = {"foreign_users", "group_cycles"}
    assert {check.kind for check in ALL_CHECKS} == {corrupt.__name__ for corrupt in REPAIRED} | unrepaired
