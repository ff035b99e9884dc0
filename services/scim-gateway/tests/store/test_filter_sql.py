"""Filters as SQL agree with `scim.filter.holds`, the reading of the RFC that everything else is measured by."""

import unicodedata
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest
import pytest_asyncio
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from gateway_stand import email_keys
from scim.errors import InvalidFilter, InvalidValue
from scim.filter import compile_filter, find_target, holds
from scim.grammar import attribute_path
from scim.keys import identity_key
from scim.resource import render
from scim.schema import ENTERPRISE_USER, USER, schema_from_json
from scim_gateway.store.filter_sql import Compiler, sort_key
from scim_gateway.store.users import USERS
from servicekit.postgres import open_pool

BADGE = "urn:example:params:scim:schemas:Badge"
# A custom extension has the types that no core attribute has.
RICH_USER = USER.with_extensions(
    schema_from_json(
        {
            "id": BADGE,
            "name": "Badge",
            "attributes": [
                {"name": "level", "type": "integer"},
                {"name": "weight", "type": "decimal"},
                {"name": "issued", "type": "dateTime"},
                {"name": "tags", "type": "string", "multiValued": True},
                {"name": "codes", "type": "string", "multiValued": True, "caseExact": True},
                {"name": "valid", "type": "boolean"},
                {"name": "hint", "type": "string"},
                {
                    "name": "doors",
                    "type": "complex",
                    "multiValued": True,
                    "subAttributes": [
                        {"name": "floor", "type": "integer"},
                        {"name": "open", "type": "boolean"},
                        {"name": "until", "type": "dateTime"},
                    ],
                },
            ],
        }
    )
)
SLOW = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.function_scoped_fixture]
BASE_URL = "https://scim.example.com"
LOCATION = BASE_URL + "/Users/"
CREATED = datetime(2026, 11, 23, 12, 0, 0, 123456, UTC)


# --- resources -----------------------------------------------------------------------------------------------------

# Few and similar values, so that comparisons hit; letters on whose folding Postgres, Python and people disagree.
WORDS = [
    "a", "A", "ab", "aB", "abc", "é", "É", "e\u0301", "E\u0301", "ß", "SS", "ss", "ẞ", "ſ", "K", "k", "İ", "i", "I",
    "ı", "ﬁ", "fi", "Ω", "ω", "Σ", "σ", "ς", "ᾳ", "αι", "Ǆ", "ǰ", "J\u030c", "\u0345", "%", "_", "a_c", "a%", "\\",
    '"', "'", " a", "a ", "x y", "Ünï", "ünÏ", "日本", "𐐀", "𐐨", "0", "10", "true",
]  # fmt: skip
words = st.sampled_from(WORDS) | st.lists(st.sampled_from(WORDS), min_size=1, max_size=3).map("".join)


def is_identity(text: str) -> bool:
    try:
        return bool(identity_key(text))
    except InvalidValue:
        return False


identities = words.filter(is_identity) | st.sampled_from(["ada@x.org", "ADA@x.org", "bob@x.org", " ada@x.org "])
instants = st.sampled_from(
    [
        "2026-11-23T12:00:00Z", "2026-11-23T12:00:00.123Z", "2026-11-23T12:00:00.1234567Z", "2026-11-23T13:00:00+01:00",
        "2026-11-23T12:00:00", "2026-11-24T11:59:00+23:59", "2025-01-01T00:00:00-12:30",
    ]
)  # fmt: skip


def some(**members: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """An object with at least one of the members."""
    return st.fixed_dictionaries({}, optional=members).filter(bool)


def many(element: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    return st.lists(element, min_size=1, max_size=3)


numbers = st.sampled_from([-1, 0, 1, 2, 10, 2**53])
decimals = numbers | st.sampled_from([0.1, 1.0, 1.5, -2.25, 1e20, 1e-7])
types = st.sampled_from(["work", "Work", "home"])
resources = st.fixed_dictionaries(
    {"userName": identities, "active": st.booleans()},
    optional={
        "externalId": words.filter(lambda text: "\n" not in text),
        "displayName": words,
        "title": words,
        "profileUrl": words,
        "name": some(givenName=words, familyName=words),
        "emails": many(
            st.fixed_dictionaries({"value": identities}, optional={"type": types, "primary": st.booleans()})
        ),
        "photos": many(st.fixed_dictionaries({"value": words}, optional={"type": types})),
        "x509Certificates": many(st.fixed_dictionaries({"value": st.sampled_from(["YWJj", "eHl6", "ywjj"])})),
        "addresses": many(some(formatted=words, type=types, primary=st.booleans())),
        ENTERPRISE_USER: some(employeeNumber=words, department=words, manager=some(value=words)),
        BADGE: some(
            level=numbers,
            weight=decimals,
            issued=instants,
            tags=many(words),
            codes=many(words),
            valid=st.booleans(),
            hint=words,
            doors=many(some(floor=numbers, open=st.booleans(), until=instants)),
        ),
    },
)


# --- filters, as text ------------------------------------------------------------------------------------------------


def quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


literals = {
    "text": words.map(quoted) | st.sampled_from(['"Ada@X.org"', '"bob@x.org"', '" bob@x.org"']),
    "boolean": st.sampled_from(["true", "false", '"True"']),
    "number": decimals.filter(lambda number: number <= 2**53).map(str),
    "instant": instants.map(quoted) | st.just('"2026-11-23T12:00:00.123456Z"'),
}
TEXT_OPERATORS = ["eq", "ne", "co", "sw", "ew", "gt", "ge", "lt", "le"]
OPERATORS = {
    "text": TEXT_OPERATORS,
    "binary": ["eq", "ne", "co", "sw", "ew"],
    "boolean": ["eq", "ne"],
    "number": ["eq", "ne", "gt", "ge", "lt", "le"],
    "instant": ["eq", "ne", "gt", "ge", "lt", "le"],
}
PATHS = {
    **dict.fromkeys(
        [
            "userName", "externalId", "displayName", "title", "profileUrl", "name.givenName", "name.familyName",
            "name.formatted", "emails", "emails.value", "emails.type", "photos.value", "addresses.formatted",
            "nickName", "phoneNumbers.value", "id", "schemas", "meta.resourceType", "meta.version", "meta.location",
            "manager", f"{ENTERPRISE_USER}:employeeNumber", f"{ENTERPRISE_USER}:manager.value",
            f"{ENTERPRISE_USER}:manager", f"{BADGE}:tags", f"{BADGE}:codes", f"{BADGE}:hint",
        ],
        "text",
    ),
    "x509Certificates.value": "binary",
    "active": "boolean",
    "emails.primary": "boolean",
    f"{BADGE}:valid": "boolean",
    f"{BADGE}:doors.open": "boolean",
    f"{BADGE}:level": "number",
    f"{BADGE}:weight": "number",
    f"{BADGE}:doors.floor": "number",
    f"{BADGE}:issued": "instant",
    f"{BADGE}:doors.until": "instant",
    "meta.created": "instant",
    "meta.lastModified": "instant",
}  # fmt: skip
ELEMENTS = {
    "emails": {"value": "text", "type": "text", "primary": "boolean"},
    "addresses": {"formatted": "text", "type": "text", "primary": "boolean"},
    "name": {"givenName": "text", "familyName": "text"},
    "meta": {"created": "instant", "version": "text"},
    f"{ENTERPRISE_USER}:manager": {"value": "text"},
    f"{BADGE}:doors": {"floor": "number", "open": "boolean", "until": "instant"},
}
WHOLES = ["emails", "name", "meta", "addresses", "groups", f"{BADGE}:doors", f"{BADGE}:tags"]
OWN = ['"urn:ietf:params:scim:schemas:core:2.0:User"', f'"{BADGE}"', '"User"', '"W/\\"1\\""', quoted(LOCATION)]


@st.composite
def comparisons(draw: st.DrawFn, paths: dict[str, str]) -> str:
    path = draw(st.sampled_from(sorted(paths)))
    kind = paths[path]
    operator = draw(st.sampled_from([*OPERATORS[kind], "pr", "null"]))
    if operator == "pr":
        return f"{path} pr"
    if operator == "null":
        return f"{path} {draw(st.sampled_from(['eq', 'ne']))} null"
    literal = literals["text" if kind == "binary" else kind]
    if kind == "text":
        literal = literal | st.sampled_from(OWN)
    return f"{path} {operator} {draw(literal)}"


@st.composite
def value_paths(draw: st.DrawFn) -> str:
    name = draw(st.sampled_from(sorted(ELEMENTS)))
    return f"{name}[{draw(combined(comparisons(ELEMENTS[name])))}]"


def combined(leaves: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.recursive(
        leaves,
        lambda inner: (
            st.tuples(inner, st.sampled_from(["and", "or"]), inner).map(lambda parts: f"({' '.join(parts)})")
            | inner.map(lambda one: f"not ({one})")
        ),
        max_leaves=4,
    )


filters = combined(comparisons(PATHS) | value_paths() | st.sampled_from(WHOLES).map(lambda name: f"{name} pr"))


# --- the comparison --------------------------------------------------------------------------------------------------


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def db(postgres_module_database: str) -> AsyncIterator[asyncpg.pool.PoolConnectionProxy]:
    """A connection with an empty, temporary copy of `users`."""
    async with open_pool(postgres_module_database, service="test", max_size=1) as pool, pool.acquire() as db:
        await db.execute("CREATE TEMPORARY TABLE some_users (LIKE users)")
        yield db


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def crowd(db: Any) -> UUID:
    """A connection with thousands of users, so that the planner has a choice."""
    connection = uuid4()
    await db.execute("INSERT INTO organizations (id, name, plan) VALUES ($1, 'Crowd', 'enterprise')", connection)
    await db.execute("INSERT INTO connections (id, organization_id, provider_id) VALUES ($1, $1, 'okta')", connection)
    people = "SELECT md5(n::text)::uuid AS id, n FROM generate_series(1, 4000) AS n"
    await db.execute(
        f"INSERT INTO accounts (id, organization_id, display_name, status, created_at, updated_at)"
        f" SELECT id, $1, 'x', 'active', now(), now() FROM ({people}) AS people",
        connection,
    )
    await db.execute(
        f"INSERT INTO users (id, connection_id, account_id, user_name, user_name_key, external_id, active, resource,"
        f" version, created_at, last_modified, email_keys)"
        f" SELECT id, $1, id, 'u' || n, 'u' || n, 'e' || n, true,"
        f"        jsonb_build_object('{ENTERPRISE_USER}', jsonb_build_object('employeeNumber', 'N' || n)), 1,"
        f"        now(), now(), ARRAY['u' || n || '@x.org'] FROM ({people}) AS people",
        connection,
    )
    await db.execute("ANALYZE users")
    return connection


async def store(db: Any, resources: list[dict[str, Any]]) -> dict[UUID, dict[str, Any]]:
    """Put the resources into the table instead of what was there; the same, rendered, by id."""
    await db.execute("TRUNCATE some_users")
    rendered = {}
    for number, resource in enumerate(resources):
        user_id, created = uuid4(), CREATED + timedelta(hours=number)
        await db.execute(
            "INSERT INTO some_users (id, connection_id, account_id, user_name, user_name_key, external_id, active,"
            " resource, version, created_at, last_modified, email_keys)"
            " VALUES ($1, $1, $1, $2, $3, $4, $5, $6, 1, $7, $7, $8)",
            user_id,
            resource["userName"],
            identity_key(resource["userName"]),
            resource.get("externalId"),
            resource["active"],
            resource,
            created,
            email_keys(resource),
        )
        rendered[user_id] = render(
            RICH_USER,
            resource,
            id=str(user_id),
            created=created,
            last_modified=created,
            version=1,
            location=LOCATION + str(user_id),
        )
    return rendered


async def selected(db: Any, text: str) -> set[UUID]:
    where = Compiler(RICH_USER, USERS.layout, BASE_URL).where(compile_filter(RICH_USER, text))
    rows = await db.fetch(
        f"SELECT id FROM some_users AS users WHERE $1::uuid IS NULL AND ({where.sql})", None, *where.parameters
    )
    return {row["id"] for row in rows}


@settings(max_examples=400, deadline=None, suppress_health_check=SLOW)
@given(st.lists(resources, min_size=1, max_size=4), filters)
@example([{"userName": "a", "active": True, "displayName": "ΑΙ"}], 'displayName co "ᾳ"')
@example([{"userName": "a", "active": True, "displayName": "J\u030c"}], 'displayName co "\u030c"')
@example([{"userName": "a", "active": True, "displayName": "α\u0345"}], 'displayName co "α"')
@example([{"userName": "a", "active": True, BADGE: {"weight": 1e-7}}], f"{BADGE}:weight lt 0.1")
async def test_sql_selects_what_the_interpreter_accepts(db, resources, text):
    rendered = await store(db, resources)
    predicate = compile_filter(RICH_USER, text)
    expected = {user_id for user_id, resource in rendered.items() if holds(predicate, resource)}
    assert await selected(db, text) == expected, text


letters = st.characters(exclude_categories=("Cs", "Cc", "Cn", "Co"), max_codepoint=0x2FFFF).filter(
    # Newer characters are not composed by every Postgres.
    lambda character: unicodedata.ucd_3_2_0.category(character) != "Cn"
)


@settings(max_examples=300, deadline=None, suppress_health_check=SLOW)
@given(st.text(letters, min_size=1, max_size=6), st.data())
async def test_any_text_compares_alike(db, text, data):
    """Every letter that Unicode 3.2 knew, against pieces and other cases of itself."""
    start = data.draw(st.integers(0, len(text) - 1))
    piece = data.draw(
        st.sampled_from([text, text.upper(), text.lower(), text.casefold(), text[start:], text[: start + 1]])
    )
    operator = data.draw(st.sampled_from(TEXT_OPERATORS))
    path = data.draw(st.sampled_from(["displayName", "profileUrl", "emails.display"]))
    resource = {"userName": "a", "active": True, "displayName": text, "profileUrl": text, "emails": [{"display": text}]}
    rendered = await store(db, [resource])
    query = f"{path} {operator} {quoted(piece)}"
    try:
        predicate = compile_filter(RICH_USER, query)
    except InvalidFilter:
        return  # an odd blank, a quote
    assert (await selected(db, query) != set()) == holds(predicate, next(iter(rendered.values()))), (text, query)


async def test_an_id_is_compared_as_text_and_found_as_a_key(db):
    rendered = await store(db, [{"userName": "a", "active": True}])
    user_id = next(iter(rendered))
    assert await selected(db, f'id eq "{user_id}"') == {user_id}
    assert await selected(db, f'id eq "{str(user_id).upper()}"') == set()
    assert await selected(db, f'id sw "{str(user_id)[:8]}"') == {user_id}
    assert await selected(db, f'id ne "{user_id}"') == set()
    assert await selected(db, f'meta.location eq "{LOCATION}{user_id}"') == {user_id}


@pytest.mark.parametrize(
    ("text", "index"),
    [
        ('userName eq "ADA@example.com"', "users_user_name_key_connection_id_key"),
        ('externalId eq "A1" and active eq true', "users_external_id_connection_id_key"),
        ('emails[type eq "work"].value eq "Ada@example.com"', "users_email_keys_idx"),
        ('emails eq "Ada@example.com"', "users_email_keys_idx"),
        ('emails[value eq "Ada@example.com"]', "users_email_keys_idx"),
        ('id eq "01a20a44-0475-7000-a374-18669bac48c8"', "users_pkey"),
        (f'{ENTERPRISE_USER}:employeeNumber eq "N1"', "users_employee_number_idx"),
        ('employeeNumber eq "n1"', "users_employee_number_idx"),
    ],
)
async def test_look_ups_use_an_index(db, crowd, text, index):
    where = Compiler(USER, USERS.layout, BASE_URL).where(compile_filter(USER, text))
    plan = await db.fetch(
        f"EXPLAIN SELECT id FROM users WHERE connection_id = $1 AND ({where.sql})", crowd, *where.parameters
    )
    assert any(index in row[0] for row in plan), plan


@pytest.mark.parametrize(
    "path",
    [
        "userName", "id", "externalId", "displayName", "active", "name.givenName", "emails", "emails.type", "addresses",
        "meta.created", "schemas", "name", "x509Certificates", f"{ENTERPRISE_USER}:manager", f"{BADGE}:level",
        f"{BADGE}:issued", f"{BADGE}:tags", f"{BADGE}:doors.floor", "groups", "meta.version", "meta.location",
    ],
)  # fmt: skip
async def test_every_attribute_can_be_a_sort_key(db, path):
    await store(db, [{"userName": "a", "active": True}, {"userName": "b", "active": True, BADGE: {"tags": ["x"]}}])
    parsed = attribute_path(path)
    assert parsed is not None
    target = find_target(RICH_USER, parsed)
    assert target is not None
    rows = await db.fetch(f"SELECT id FROM some_users ORDER BY {sort_key(target, USERS.layout)}")
    assert len(rows) == 2
