"""Filters on members and on groups agree with `scim.filter.holds` on what is rendered."""

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import orjson
import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway_stand import Directory, Tenant, opened_directory
from scim.filter import compile_filter, holds
from scim.keys import name_key
from scim.resource import render
from scim.schema import GROUP, USER, ResourceType
from scim_gateway.store.filter_sql import Compiler
from scim_gateway.store.groups import GROUPS
from scim_gateway.store.resources import Table
from scim_gateway.store.users import USERS
from servicekit.ids import uuid7
from servicekit.postgres import open_pool

BASE_URL = "https://scim.example.com"
NAMES = ["Sales", "SALES team", "straße", "İstanbul", "É  a", "team %", "ab"]
WORDS = ["sales", "Sales", "STRASSE", "a", "%", "é a", " team", "user0", "Ada L.", "nobody"]
TABLES = {"User": (USER, USERS), "Group": (GROUP, GROUPS)}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def directory(postgres_module_database: str) -> AsyncIterator[Directory]:
    async with opened_directory(postgres_module_database) as opened:
        yield opened


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def pool(directory: Directory) -> AsyncIterator[asyncpg.Pool]:
    async with open_pool(directory.gateway_dsn, service="test", max_size=1) as pool:
        yield pool


# --- what there is ----------------------------------------------------------------------------------------------------

# Members by number: below 4 a user, from 4 on the group of that number less 4; a group holds earlier groups only.
crowds = st.lists(st.sampled_from(NAMES), max_size=4, unique=True).flatmap(
    lambda names: st.tuples(
        st.just(names), st.tuples(*(st.sets(st.integers(0, 3 + number), max_size=4) for number in range(len(names))))
    )
)


async def store(directory: Directory, names: list[str], members: tuple[set[int], ...]) -> tuple[Tenant, list[UUID]]:
    """A connection with four users and these groups; the ids of all, users first."""
    tenant = await directory.add_connection()
    ids = [
        await tenant.add_user("user0", displayName="Ada L."),
        await tenant.add_user("user1", name={"formatted": "É"}),
    ]
    ids += [await tenant.add_user("user2"), await tenant.add_user("user3")]
    for name, numbers in zip(names, members, strict=True):
        ids.append(group_id := uuid7())
        await directory.owner.execute(
            "INSERT INTO groups (id, connection_id, display_name, display_name_key, resource, version, created_at,"
            " last_modified) VALUES ($1, $2, $3, $4, $5, 1, now(), now())",
            group_id,
            tenant.id,
            name,
            name_key(name),
            {"displayName": name},
        )
        await directory.owner.executemany(
            "INSERT INTO memberships VALUES ($1, $2, $3)",
            [(group_id, ids[number], "User" if number < 4 else "Group") for number in numbers],
        )
    return tenant, ids


# --- filters ----------------------------------------------------------------------------------------------------------

OPERATORS = ["eq", "ne", "co", "sw", "ew", "gt", "le"]
SUBS = {"members": ["value", "type", "$ref"], "groups": ["value", "display", "type", "$ref"]}


@st.composite
def filters(draw: st.DrawFn, attribute: str) -> str:
    """`{number}` stands for the id of that resource."""
    id_or_word = st.integers(0, 7).map(lambda number: f"{{{number}}}") | st.sampled_from(
        [*WORDS, "User", "Group", "direct", "indirect", f"{BASE_URL}/Groups/{{4}}"]
    )

    def comparison(prefix: str) -> str:
        name = f"{prefix}{draw(st.sampled_from(SUBS[attribute]))}"
        operator = draw(st.sampled_from([*OPERATORS, "pr", "null"]))
        if operator == "pr":
            return f"{name} pr"
        return f"{name} eq null" if operator == "null" else f'{name} {operator} "{draw(id_or_word)}"'

    def leaf() -> str:
        kind = draw(st.sampled_from(["sub", "element", "whole", "present", "name"]))
        if kind == "sub":
            return comparison(f"{attribute}.")
        if kind == "element":
            return f"{attribute}[{comparison('')} {draw(st.sampled_from(['and', 'or', 'and not']))} ({comparison('')})]"
        if kind == "whole":
            return f'{attribute} {draw(st.sampled_from(["eq", "ne"]))} "{draw(id_or_word)}"'
        if kind == "present":
            return f"{attribute} pr"
        return f'displayName {draw(st.sampled_from(OPERATORS))} "{draw(st.sampled_from(WORDS))}"'

    text = leaf()
    for _ in range(draw(st.integers(0, 2))):
        text = f"not ({text})" if draw(st.booleans()) else f"({text}) {draw(st.sampled_from(['and', 'or']))} {leaf()}"
    return text


async def rendered(pool: asyncpg.Pool, tenant: Tenant, kind: ResourceType, table: Table, id: UUID) -> dict[str, Any]:
    stored = await table.find(pool, tenant.id, id, BASE_URL)
    assert stored is not None
    related = {table.relation.attribute: orjson.loads(stored.related)} if stored.related else {}
    return render(
        kind,
        {**stored.resource, **related},
        id=str(id),
        created=stored.created_at,
        last_modified=stored.last_modified,
        version=stored.version,
        location=f"{BASE_URL}{kind.endpoint}/{id}",
    )


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(
    crowds, st.lists(filters("members"), min_size=3, max_size=6), st.lists(filters("groups"), min_size=3, max_size=6)
)
async def test_sql_selects_what_the_interpreter_accepts(directory, pool, crowd, group_filters, user_filters):
    tenant, ids = await store(directory, *crowd)
    texts = [str(id) for id in ids] + [str(uuid4()) for _ in range(8 - len(ids))]
    for name, queries, own in (("User", user_filters, ids[:4]), ("Group", group_filters, ids[4:])):
        kind, table = TABLES[name]
        resources = {id: await rendered(pool, tenant, kind, table, id) for id in own}
        for template in queries:
            text = template
            for number, id in enumerate(texts):
                text = text.replace(f"{{{number}}}", id)
            predicate = compile_filter(kind, text)
            where = Compiler(kind, table.layout, BASE_URL).where(predicate)
            rows = await pool.fetch(
                f"SELECT id FROM {table.layout.table} WHERE connection_id = $1 AND ({where.sql})",
                tenant.id,
                *where.parameters,
            )
            expected = {id for id, resource in resources.items() if holds(predicate, resource)}
            assert {row["id"] for row in rows} == expected, text


@pytest.mark.parametrize(
    ("text", "index"),
    [
        ('displayName eq "SALES 7"', "groups_display_name_key_connection_id_key"),
        ('externalId eq "e7"', "groups_external_id_connection_id_key"),
        ('members.value eq "01a20a44-0475-7000-a374-18669bac48c8"', "memberships_member_id_idx"),
        ('members eq "01a20a44-0475-7000-a374-18669bac48c8"', "memberships_member_id_idx"),
        ('members[value eq "01a20a44-0475-7000-a374-18669bac48c8"]', "memberships_member_id_idx"),
    ],
)
async def test_look_ups_use_an_index(directory, text, index):
    connection = (await directory.add_connection()).id
    await directory.owner.execute(
        "INSERT INTO groups (id, connection_id, display_name, display_name_key, external_id, resource, version,"
        " created_at, last_modified) SELECT gen_random_uuid(), $1, 'Sales ' || n, 'sales ' || n, 'e' || n, '{}', 1,"
        " now(), now() FROM generate_series(1, 2000) AS n",
        connection,
    )
    await directory.owner.execute(
        "INSERT INTO memberships SELECT id, gen_random_uuid(), 'User' FROM groups, generate_series(1, 5)"
        " WHERE connection_id = $1",
        connection,
    )
    await directory.owner.execute("ANALYZE groups")
    await directory.owner.execute("ANALYZE memberships")
    where = Compiler(GROUP, GROUPS.layout, BASE_URL).where(compile_filter(GROUP, text))
    plan = await directory.owner.fetch(
        f"EXPLAIN SELECT id FROM groups WHERE connection_id = $1 AND ({where.sql})", connection, *where.parameters
    )
    await directory.owner.execute("DELETE FROM groups WHERE connection_id = $1", connection)
    assert any(index in row[0] for row in plan), plan
