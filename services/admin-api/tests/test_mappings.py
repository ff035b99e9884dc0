"""Group mappings: their shapes and errors, versions, and what asks the provisioner."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from admin_api import changes as changes_module
from admin_api.settings import Settings
from admin_stand import World, assert_refused, new_client
from contracts import CHANGES, Change, Effects, GrantEffect, MappingRequest, Operation, Outcome, ResourceType
from contracts.events import FIRST_HASH, EventRow, chained, digest_of
from directory.tables import Group
from servicekit.kafka import partition_of

MAPPINGS = "/api/v1/admin/scim/group-mappings"
ROLES = "/api/v1/admin/roles"
GENERATE = "/api/auth/scim/generate-token"


async def organization_of(client: httpx.AsyncClient) -> UUID:
    return UUID((await client.get("/api/auth/get-session")).json()["user"]["organizationId"])


async def admin_with_role(world: World, role: str = "Auditor") -> httpx.AsyncClient:
    admin = await world.admin()
    assert (await admin.post(ROLES, json={"name": role})).status_code == 201
    return admin


async def create(client: httpx.AsyncClient, name: str = "Finance", **more: Any) -> dict:
    answer = await client.post(MAPPINGS, json={"scimGroupName": name, "roleName": "Auditor", **more})
    assert answer.status_code == 201, answer.text
    return answer.json()


async def connection_of(client: httpx.AsyncClient, provider_id: str = "okta") -> str:
    return (await client.post(GENERATE, json={"providerId": provider_id})).json()["connectionId"]


async def new_group(world: World, connection_id: str, name: str, *, owns_name: bool = True) -> UUID:
    """A group as the provisioner would have made it."""
    group_id = uuid4()
    await world.db.execute(
        f"""
        INSERT INTO {Group.__tablename__}
            (id, connection_id, display_name, display_name_key, resource, version, created_at, last_modified, owns_name)
        VALUES ($1, $2, $3, lower($3), '{{}}', 1, now(), now(), $4)
        """,
        *(group_id, UUID(connection_id), name, owns_name),
    )
    return group_id


async def row_of(world: World, query: str, *values: Any) -> asyncpg.Record:
    """The one row that there must be."""
    row = await world.db.fetchrow(query, *values)
    assert row is not None
    return row


async def test_a_mapping_is_made_listed_and_deleted(world: World) -> None:
    admin = await admin_with_role(world)
    organization = await organization_of(admin)

    made = await create(admin)

    assert made.keys() >= {"id", "scimGroupName", "roleName", "connectionId", "createdAt"}
    assert (made["scimGroupName"], made["roleName"], made["connectionId"]) == ("Finance", "Auditor", None)
    listed = (await admin.get(MAPPINGS)).json()
    assert listed == {"groupMappings": [made], "nextCursor": None}
    assert (await admin.get(f"{MAPPINGS}/{made['id']}")).json() == made
    found = await row_of(world, "SELECT mappings_version FROM organizations WHERE id = $1", organization)
    version = found["mappings_version"]
    deleted = await admin.delete(f"{MAPPINGS}/{made['id']}")
    assert (deleted.status_code, deleted.content) == (204, b"")
    assert_refused(await admin.delete(f"{MAPPINGS}/{made['id']}"), 404, "not_found")
    assert_refused(await admin.get(f"{MAPPINGS}/{made['id']}"), 404, "not_found")
    assert (await admin.get(MAPPINGS)).json() == {"groupMappings": [], "nextCursor": None}
    [row] = await world.db.fetch("SELECT * FROM group_mappings WHERE id = $1", UUID(made["id"]))
    assert (row["created_version"], row["deleted_version"]) == (version, version + 1)
    events = await world.db.fetch("SELECT type FROM events WHERE subject_id = $1 ORDER BY seq", UUID(made["id"]))
    assert [event["type"].rpartition(":")[2] for event in events] == ["mapping-created", "mapping-deleted"]


async def test_the_same_mapping_twice_is_a_conflict_and_others_are_not(world: World) -> None:
    admin = await admin_with_role(world)
    connection = await connection_of(admin)
    body = {"scimGroupName": "Finance", "roleName": "Auditor"}
    first = await create(admin)

    assert_refused(await admin.post(MAPPINGS, json=body), 409, "conflict")
    await create(admin, "finance")  # names are exact
    await create(admin, "Finance ")
    await create(admin, connectionId=connection)
    assert_refused(await admin.post(MAPPINGS, json={**body, "connectionId": connection}), 409, "conflict")
    assert (await admin.post(MAPPINGS, json={**body, "roleName": "member"})).status_code == 201
    await admin.delete(f"{MAPPINGS}/{first['id']}")
    await create(admin)
    of_name = (await admin.get(MAPPINGS, params={"scimGroupName": "Finance"})).json()["groupMappings"]
    assert {mapping["roleName"] for mapping in of_name} == {"Auditor", "member"}
    of_connection = (await admin.get(MAPPINGS, params={"connectionId": connection})).json()["groupMappings"]
    assert [mapping["connectionId"] for mapping in of_connection] == [connection]


async def test_the_same_mapping_at_the_same_time_is_made_once(world: World) -> None:
    admin = await admin_with_role(world)
    body = {"scimGroupName": "Finance", "roleName": "Auditor"}

    answers = await asyncio.gather(*(admin.post(MAPPINGS, json=body) for _ in range(5)))

    assert sorted(answer.status_code for answer in answers) == [201, 409, 409, 409, 409]


@pytest.mark.parametrize(
    "body",
    [
        {},
        [],
        {"scimGroupName": "Finance"},
        {"roleName": "Auditor"},
        {"scimGroupName": "", "roleName": "Auditor"},
        {"scimGroupName": "  ", "roleName": "Auditor"},
        {"scimGroupName": "a\u0000", "roleName": "Auditor"},
        {"scimGroupName": "x" * 1001, "roleName": "Auditor"},
        {"scimGroupName": 5, "roleName": "Auditor"},
        {"scimGroupName": "Finance", "roleName": None},
        {"scimGroupName": "Finance", "roleName": "Auditor", "connectionId": "okta"},
        {"scimGroupName": "Finance", "roleName": "Auditor", "organizationId": str(uuid4())},
    ],
)
async def test_what_is_no_mapping_is_refused(world: World, body: Any) -> None:
    admin = await admin_with_role(world)

    assert_refused(await admin.post(MAPPINGS, json=body), 400, "validation")


async def test_a_missing_role_connection_or_mapping_is_not_found(world: World) -> None:
    admin, other = await admin_with_role(world), await admin_with_role(world, "Theirs")
    foreign_connection = await connection_of(other)
    foreign = (await other.post(MAPPINGS, json={"scimGroupName": "Finance", "roleName": "Theirs"})).json()["id"]

    for role in ("auditor", "Theirs", "nobody", "a\u0000"):
        answer = await admin.post(MAPPINGS, json={"scimGroupName": "Finance", "roleName": role})
        assert_refused(answer, 404, "not_found")
    for connection in (foreign_connection, str(uuid4())):
        body = {"scimGroupName": "Finance", "roleName": "Auditor", "connectionId": connection}
        assert_refused(await admin.post(MAPPINGS, json=body), 404, "not_found")
    for id in (foreign, str(uuid4()), "nonsense"):
        assert_refused(await admin.get(f"{MAPPINGS}/{id}"), 404, "not_found")
        assert_refused(await admin.delete(f"{MAPPINGS}/{id}"), 404, "not_found")
        if id != "nonsense":
            assert_refused(await admin.post(f"{MAPPINGS}/preview", json={"without": id}), 404, "not_found")
    assert (await other.get(f"{MAPPINGS}/{foreign}")).status_code == 200


async def test_only_admins_with_the_plan_may(world: World) -> None:
    member = await world.signed_in(await world.person(await world.organization(), ["member"]))
    body = {"scimGroupName": "Finance", "roleName": "member"}

    assert_refused(await new_client(world.app).post(MAPPINGS, json=body), 401, "unauthenticated")
    assert_refused(await member.post(MAPPINGS, json=body), 403, "forbidden")
    assert_refused(await (await world.admin("free")).post(MAPPINGS, json=body), 403, "enterprise_required")


async def test_t14_a_protected_role_is_mapped_only_with_an_explicit_word(world: World) -> None:
    """T14: and only for the groups that bear the name at that moment; the audit names who did it."""
    admin = await world.admin()
    connection = await connection_of(admin)
    group = await new_group(world, connection, "Chiefs")
    body = {"scimGroupName": "Chiefs", "roleName": "admin"}

    refused = await admin.post(MAPPINGS, json=body)
    assert_refused(refused, 400, "validation")
    assert "confirm" in refused.json()["message"]
    assert_refused(await admin.post(MAPPINGS, json={**body, "confirm": False}), 400, "validation")
    made = await admin.post(MAPPINGS, json={**body, "confirm": True})

    assert made.status_code == 201
    shape = made.json()
    assert (shape["isProtected"], shape["matchingGroups"], shape["unconfirmedGroups"]) == (True, 1, 0)
    row = await row_of(world, "SELECT * FROM group_mappings WHERE id = $1", UUID(shape["id"]))
    assert row["group_ids"] == [group]
    event = await row_of(world, "SELECT * FROM events WHERE subject_id = $1", UUID(shape["id"]))
    assert event["actor"] == row["created_by"] == shape["createdBy"]
    assert json.loads(event["data"])["after"]["isProtected"] is True


async def test_t12_t13_a_group_that_comes_to_a_protected_name_is_shown_as_unconfirmed(world: World) -> None:
    """T12, T13: by renaming or by being made again."""
    admin = await world.admin()
    connection, other, third = [await connection_of(admin, name) for name in ("okta", "entra", "onelogin")]
    first = await new_group(world, connection, "Chiefs")
    body = {"scimGroupName": "Chiefs", "roleName": "admin", "confirm": True}
    mapping = (await admin.post(MAPPINGS, json=body)).json()
    await new_group(world, other, "Chiefs")
    await new_group(world, third, "Chiefs", owns_name=False)

    async def counts() -> tuple[int, int]:
        shape = (await admin.get(f"{MAPPINGS}/{mapping['id']}")).json()
        return shape["matchingGroups"], shape["unconfirmedGroups"]

    assert await counts() == (3, 1)
    await world.db.execute("DELETE FROM groups WHERE id = $1", first)
    await new_group(world, connection, "Chiefs", owns_name=False)
    assert await counts() == (3, 2)


async def test_t18_who_maps_a_group_is_in_the_audit_trail_which_is_one_chain(world: World) -> None:
    admin = await admin_with_role(world)

    made = await create(admin)

    event = await row_of(world, "SELECT * FROM events WHERE subject_id = $1", UUID(made["id"]))
    assert event["chain"] == -1
    assert event["actor"].startswith("account:")
    before = await world.db.fetchval("SELECT hash FROM events WHERE chain = -1 AND seq = $1", event["seq"] - 1)
    columns = [column for column in EventRow.__dataclass_fields__ if column != "data"]
    row = EventRow(**{column: event[column] for column in columns}, data=json.loads(event["data"]))
    assert event["digest"] == digest_of(row.data)
    assert event["hash"] == chained(before or FIRST_HASH, row, event["digest"])


@asynccontextmanager
async def answering(world: World, settings: Settings, organization: UUID, outcome: dict) -> AsyncIterator[list[Change]]:
    """A stand-in for the provisioner's end of the road: reads the real topic and writes this outcome's row."""
    seen: list[Change] = []
    partition = TopicPartition(CHANGES.name, partition_of(str(organization).encode(), CHANGES.partitions))
    consumer = AIOKafkaConsumer(bootstrap_servers=settings.kafka_bootstrap, auto_offset_reset="latest")
    await consumer.start()
    consumer.assign([partition])
    await consumer.seek_to_end(partition)

    async def answer() -> None:
        async for record in consumer:
            change = Change.model_validate_json(record.value or b"")
            if change.organization_id != organization:
                continue
            seen.append(change)
            reply = Outcome(
                change_id=change.id, resource_type=change.resource_type, resource_id=change.resource_id, **outcome
            )
            await world.db.execute(
                """
                INSERT INTO outcomes (change_id, organization_id, actor, resource_type, operation, resource_id, status,
                                      reply, received_at, applied_at)
                VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9)
                """,
                *(change.id, organization, change.actor, change.resource_type, change.operation, change.resource_id),
                *(reply.status, reply.model_dump_json().encode(), datetime.now(UTC)),
            )

    task = asyncio.create_task(answer())
    try:
        yield seen
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await consumer.stop()


async def test_applying_is_one_change_whose_effects_are_told_by_name(world: World, settings: Settings) -> None:
    organization = await world.organization()
    person = await world.person(organization)
    admin = await world.signed_in(person)
    assert (await admin.post(ROLES, json={"name": "Auditor"})).status_code == 201
    group = await new_group(world, await connection_of(admin), "Finance")
    mapping = await create(admin)
    grant = GrantEffect(account_id=person.id, role_id=UUID(mapping["roleId"]), group_id=group, gained=True)
    effects = Effects(grants=(grant,), gained=1)

    async with answering(world, settings, organization, {"status": 200, "effects": effects}) as changes:
        applied = await admin.post(f"{MAPPINGS}/apply", json={"scimGroupName": "Finance"})
        dry = await admin.post(f"{MAPPINGS}/apply", json={}, params={"dryRun": "true"})
        new = {"scimGroupName": "Finance", "roleName": "member", "connectionId": mapping["connectionId"]}
        previewed = await admin.post(f"{MAPPINGS}/preview", json={"mapping": new})
        without = await admin.post(f"{MAPPINGS}/preview", json={"without": mapping["id"]})

    assert [a.status_code for a in (applied, dry, previewed, without)] == [200] * 4, applied.text
    assert (applied.json()["dryRun"], dry.json()["dryRun"], previewed.json()["dryRun"]) == (False, True, True)
    assert applied.json()["gained"] == 1
    [told] = applied.json()["grants"]
    assert (told["email"], told["roleName"], told["groupName"]) == (person.email, "Auditor", "Finance")
    assert {(c.resource_type, c.operation, c.version) for c in changes} == {
        (ResourceType.GROUP_MAPPING, Operation.APPLY, 2)
    }
    assert [change.dry_run for change in changes] == [None, True, True, True]
    assert changes[0].mapping == MappingRequest(scim_group_name="Finance")
    assert changes[1].mapping == MappingRequest()
    assert changes[2].mapping is not None
    assert changes[2].mapping.role_id not in (None, UUID(mapping["roleId"]))
    assert changes[3].mapping == MappingRequest(scim_group_name="Finance", without=UUID(mapping["id"]))
    assert changes[0].actor == f"account:{person.id}"


@pytest.mark.parametrize(
    ("status", "answered", "code"),
    [(400, 400, "validation"), (403, 403, "forbidden"), (404, 404, "not_found"), (409, 409, "conflict"),
     (503, 503, "unavailable"), (500, 500, "internal")],
)  # fmt: skip
async def test_a_refusal_of_the_provisioner_is_an_error_of_the_admin_api(
    world: World, settings: Settings, status: int, answered: int, code: str
) -> None:
    organization = await world.organization()
    admin = await world.signed_in(await world.person(organization))

    async with answering(world, settings, organization, {"status": status, "detail": "because"}):
        answer = await admin.post(f"{MAPPINGS}/apply", json={})

    assert_refused(answer, answered, code)


async def test_while_nobody_decides_the_outcome_is_unknown_and_named(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes_module, "DECISION_TIMEOUT", timedelta(seconds=0.2))

    answer = await (await world.admin()).post(f"{MAPPINGS}/apply", json={})

    assert_refused(answer, 503, "unavailable")
    assert "unknown" in answer.json()["message"]
    assert "retry-after" in answer.headers
