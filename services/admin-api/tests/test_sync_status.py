"""The status of directory sync, and the settings of a connection."""

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import httpx
import pytest

from admin_api.settings import Settings
from admin_stand import World, assert_refused, running
from contracts import CHANGES
from servicekit.kafka import partition_of

STATUS = "/api/v1/admin/scim"
CONNECTIONS = f"{STATUS}/connections"
GENERATE = "/api/auth/scim/generate-token"
MAPPINGS = f"{STATUS}/group-mappings"


async def connect(client: httpx.AsyncClient, provider_id: str = "okta") -> str:
    answer = await client.post(GENERATE, json={"providerId": provider_id})
    assert answer.status_code == 201, answer.text
    return answer.json()["connectionId"]


async def test_an_organization_without_connections_has_an_empty_status(world: World) -> None:
    admin = await world.admin()

    for path in (STATUS, f"{STATUS}/"):
        status = await admin.get(path)
        assert status.status_code == 200, status.text
        body = status.json()
        assert (body["activeConnections"], body["provisionedUsers"], body["lastSyncAt"]) == (0, 0, None)
        assert body["connections"] == []


async def test_the_status_counts_what_the_provisioner_has_written(world: World) -> None:
    organization = await world.organization()
    admin = await world.signed_in(await world.person(organization))
    connection, other = UUID(await connect(admin)), await connect(admin, "entra")
    now = datetime.now(UTC).replace(microsecond=0)
    await world.db.execute(
        """
        INSERT INTO connection_stats (connection_id, users, active_users, groups, last_success_at, last_error_at,
                                      guard_tripped_at)
        VALUES ($1, 7, 5, 2, $2, $3, $3)
        """,
        *(connection, now - timedelta(hours=1), now),
    )
    for age, version, late in ((100, 2, None), (100, 1, "late"), (1, 1, None)):
        person = await world.person(organization, [])
        await world.db.execute(
            """
            INSERT INTO users (id, connection_id, account_id, user_name, user_name_key, active, resource, version,
                               created_at, last_modified, late_fingerprint, email_keys)
            VALUES ($1, $2, $3, $4, $4, true, '{}', $5, $6, $6, $7, '{}')
            """,
            *(uuid4(), connection, person.id, person.email, version, now - timedelta(days=age), late),
        )
    await world.db.execute(
        """
        INSERT INTO link_requests (id, organization_id, connection_id, account_id, user_name, change_id, requested_at)
        VALUES ($1, $2, $3, $4, 'ada', $1, now())
        """,
        *(uuid4(), organization, connection, person.id),
    )

    status = (await admin.get(STATUS)).json()

    assert (status["activeConnections"], status["provisionedUsers"], status["activeUsers"]) == (2, 7, 5)
    assert datetime.fromisoformat(status["lastSyncAt"]) == now - timedelta(hours=1)
    first, second = status["connections"]
    assert (first["providerId"], second["id"]) == ("okta", other)
    assert {name: first[name] for name in ("users", "activeUsers", "groups", "staleUsers", "orphanUsers")} == {
        "users": 7,
        "activeUsers": 5,
        "groups": 2,
        "staleUsers": 2,
        "orphanUsers": 1,
    }
    assert (first["linkRequests"], second["linkRequests"], first["guard"]["openHolds"]) == (1, 0, 0)
    assert {warning["code"] for warning in first["warnings"]} == {
        "last_change_failed",
        "guard_tripped",
        "link_requests",
    }
    assert second["warnings"] == []
    assert (await admin.get(f"{CONNECTIONS}/{connection}")).json() == first


async def test_lag_is_what_the_provisioner_has_not_applied(world: World) -> None:
    organization = await world.organization()
    admin = await world.signed_in(await world.person(organization))
    partition = partition_of(str(organization).encode(), CHANGES.partitions)
    unapplied = (await admin.get(STATUS)).json()["lag"]

    await world.db.execute(
        """
        INSERT INTO partition_offsets (topic, partition, next_offset, epoch, owner) VALUES ($1, $2, $3, 1, 'test')
        """,
        *(CHANGES.name, partition, unapplied),
    )

    assert (await admin.get(STATUS)).json()["lag"] == 0
    await world.db.execute("DELETE FROM partition_offsets WHERE partition = $1", partition)


async def test_without_kafka_the_lag_is_unknown_and_the_rest_is_shown(
    world: World, settings: Settings, unused_port: int
) -> None:
    admin = await world.admin()
    cut_off = settings.model_copy(update={"kafka_bootstrap": f"127.0.0.1:{unused_port}"})

    async with running(cut_off) as app:
        alone = World(world.db, app)
        status = await (await alone.signed_in(await alone.person(await alone.organization()))).get(STATUS)

    assert status.status_code == 200
    assert status.json()["lag"] is None
    assert (await admin.get(STATUS)).json()["lag"] is not None


async def test_settings_are_changed_one_by_one_and_audited(world: World) -> None:
    admin = await world.admin()
    connection = f"{CONNECTIONS}/{await connect(admin)}"
    defaults = (await admin.get(connection)).json()
    assert (defaults["groupPatchAnswer"], defaults["linkExistingAccounts"], defaults["appendOnly"]) == (
        "resource",
        False,
        False,
    )
    assert (defaults["allowedNetworks"], defaults["guard"]["holds"]) == ([], False)

    networks = ["203.0.113.0/24", "2001:db8::/32", "203.0.113.0/24"]
    changed = await admin.patch(
        connection,
        json={"groupPatchAnswer": "none", "allowedNetworks": networks, "guard": {"users": 5, "holds": True}},
    )

    assert changed.status_code == 200, changed.text
    body = changed.json()
    assert body["groupPatchAnswer"] == "none"
    assert body["allowedNetworks"] == networks[:2]
    assert (body["guard"]["users"], body["guard"]["percent"], body["guard"]["holds"]) == (5, 10, True)
    assert (await admin.get(connection)).json() == body
    again = await admin.patch(
        connection, json={"allowedNetworks": [], "appendOnly": True, "linkExistingAccounts": True}
    )
    assert (again.json()["allowedNetworks"], again.json()["appendOnly"], again.json()["linkExistingAccounts"]) == (
        [],
        True,
        True,
    )
    await admin.patch(connection, json={})
    events = await world.db.fetch(
        "SELECT type FROM events WHERE connection_id = $1 AND type LIKE '%:connection-changed'", UUID(body["id"])
    )
    assert len(events) == 2


@pytest.mark.parametrize(
    "body",
    [
        {"groupPatchAnswer": "all"},
        {"allowedNetworks": ["203.0.113.7/24"]},
        {"allowedNetworks": ["nowhere"]},
        {"allowedNetworks": ["10.0.0.0/8"] * 101},
        {"guard": {"users": 0}},
        {"guard": {"percent": 101}},
        {"providerId": "other"},
        {"guard": {"trippedAt": None}},
    ],
)
async def test_settings_that_cannot_be_are_refused(world: World, body: dict) -> None:
    admin = await world.admin()

    assert_refused(await admin.patch(f"{CONNECTIONS}/{await connect(admin)}", json=body), 400, "validation")


async def test_a_deleted_connection_is_gone_with_its_tokens_and_its_own_mappings(world: World) -> None:
    admin = await world.admin()
    connection = await connect(admin)
    body = {"scimGroupName": "Finance", "roleName": "member"}
    assert (await admin.post(MAPPINGS, json=body | {"connectionId": connection})).status_code == 201
    assert (await admin.post(MAPPINGS, json=body)).status_code == 201

    assert (await admin.delete(f"{CONNECTIONS}/{connection}")).status_code == 204

    assert_refused(await admin.delete(f"{CONNECTIONS}/{connection}"), 404, "not_found")
    assert_refused(await admin.get(f"{CONNECTIONS}/{connection}"), 404, "not_found")
    assert_refused(await admin.patch(f"{CONNECTIONS}/{connection}", json={}), 404, "not_found")
    assert_refused(await admin.get(f"{CONNECTIONS}/{connection}/tokens"), 404, "not_found")
    live = await world.db.fetchval(
        "SELECT count(*) FROM tokens WHERE connection_id = $1 AND revoked_at IS NULL", UUID(connection)
    )
    assert live == 0
    left = (await admin.get(MAPPINGS)).json()["groupMappings"]
    assert [mapping["connectionId"] for mapping in left] == [None]


async def test_t03_another_organizations_connection_is_as_unknown_as_none(world: World) -> None:
    admin, other = await world.admin(), await world.admin()
    foreign = await connect(other)
    answers = []

    for id in (foreign, str(uuid4())):
        answers.append(await admin.get(f"{CONNECTIONS}/{id}"))
        answers.append(await admin.delete(f"{CONNECTIONS}/{id}"))
        answers.append(await admin.patch(f"{CONNECTIONS}/{id}", json={"appendOnly": True}))

    assert {(a.status_code, a.json()["error"], a.json()["message"]) for a in answers} == {
        (404, "not_found", "there is nothing of this id")
    }
    assert (await other.get(f"{CONNECTIONS}/{foreign}")).json()["appendOnly"] is False
