"""The provisioning log: what was asked, what came of it, and why."""

import csv
import io
import json
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from admin_api.store.database import open_engine, transactions
from admin_api.store.events import append
from admin_seed import Seed, seed
from admin_stand import World, assert_refused
from contracts.events import EventRow
from servicekit.ids import uuid7

LOG = "/api/v1/admin/scim/log"


@pytest.fixture
async def okta(world: World) -> Seed:
    return await seed(world.db, await world.organization(), "okta")


@pytest.fixture
async def admin(world: World, okta: Seed) -> httpx.AsyncClient:
    return await world.signed_in(await world.person(okta.organization_id))


async def entries(admin: httpx.AsyncClient, **params: object) -> list[dict]:
    answer = await admin.get(LOG, params={name.rstrip("_"): str(value) for name, value in params.items()})
    assert answer.status_code == 200, answer.text
    return answer.json()["entries"]


async def test_an_entry_shows_what_was_asked_what_came_of_it_and_why(okta: Seed, admin: httpx.AsyncClient) -> None:
    user = await okta.user()
    body = {"userName": "ada@example.com", "password": "***"}
    change_id = await okta.outcome(
        user.id,
        409,
        operation="create",
        request={"method": "POST", "path": "/Users", "body": body},
        reply={"scim_type": "uniqueness", "detail": "userName is already in use"},
    )

    [entry] = await entries(admin)

    assert entry["changeId"] == str(change_id)
    assert (entry["status"], entry["scimType"], entry["detail"]) == (409, "uniqueness", "userName is already in use")
    assert entry["request"] == {"method": "POST", "path": "/Users", "body": body}
    assert (entry["connectionId"], entry["providerId"], entry["actor"]) == (
        str(okta.connection_id),
        "okta",
        "scim:okta",
    )
    assert (entry["operation"], entry["resourceType"], entry["resourceId"]) == ("create", "User", str(user.id))
    assert entry["dryRun"] is False
    assert entry == (await admin.get(f"{LOG}/{change_id}")).json()


async def test_an_entry_shows_before_and_after(
    okta: Seed, admin: httpx.AsyncClient, postgres_module_database: str
) -> None:
    user, at = await okta.user(), datetime.now(UTC)
    change_id = await okta.outcome(user.id, at=at)
    other_id = await okta.outcome(user.id, at=at)
    data = {"before": {"displayName": "Ada"}, "after": {"displayName": "Ada L."}}
    async with open_engine(postgres_module_database, pool_size=1) as engine, transactions(engine)() as db:
        await append(
            db,
            EventRow(
                id=uuid7(),
                organization_id=okta.organization_id,
                connection_id=okta.connection_id,
                token_id=None,
                actor="scim:okta",
                change_id=change_id,
                type="urn:ietf:params:scim:event:prov:patch:full",
                subject_type="Account",
                subject_id=user.account_id,
                at=at,
                data=data,
            ),
        )

    by_id = {entry["changeId"]: entry["events"] for entry in await entries(admin)}

    assert by_id[str(other_id)] == []
    assert by_id[str(change_id)] == [
        {
            "type": "urn:ietf:params:scim:event:prov:patch:full",
            "subjectType": "Account",
            "subjectId": str(user.account_id),
            "data": data,
        }
    ]


async def test_entries_are_found_by_connection_user_status_operation_and_time(
    okta: Seed, admin: httpx.AsyncClient
) -> None:
    entra = await seed(okta.db, okta.organization_id, "entra")
    ada, grace = await okta.user("ada@example.com"), await entra.user("Grace@Example.com")
    now = datetime.now(UTC)
    made = await okta.outcome(ada.id, 201, operation="create")
    patched = await entra.outcome(grace.id, 200)
    refused = await entra.outcome(uuid7(), 409, operation="create", request=request("GRACE@example.com"))
    broken = await okta.outcome(ada.id, 500)
    read = await okta.outcome(uuid7(), 400, operation="read")

    async def ids(**params: object) -> list[str]:
        return [entry["changeId"] for entry in await entries(admin, **params)]

    everything = [str(each) for each in (read, broken, refused, patched, made)]
    assert await ids() == everything
    assert await ids(connectionId=entra.connection_id) == [str(refused), str(patched)]
    assert await ids(userId=ada.id) == [str(broken), str(made)]
    assert await ids(userName="grace@EXAMPLE.com") == [str(refused), str(patched)]
    assert await ids(status="4xx") == [str(read), str(refused)]
    assert await ids(status="5xx") == [str(broken)]
    assert await ids(operation="create") == [str(refused), str(made)]
    assert await ids(operation="read") == [str(read)]
    assert await ids(from_=now - timedelta(minutes=1)) == everything
    assert await ids(from_=now + timedelta(minutes=1)) == []
    assert await ids(to=now - timedelta(minutes=1)) == []
    assert await ids(connectionId=entra.connection_id, status="2xx") == [str(patched)]


def request(user_name: str) -> dict:
    return {"method": "POST", "path": "/Users", "body": {"userName": user_name}}


async def test_pages_show_every_entry_once_while_new_ones_come(okta: Seed, admin: httpx.AsyncClient) -> None:
    user = await okta.user()
    made = [str(await okta.outcome(user.id)) for _ in range(5)]
    seen, cursor = [], None
    while True:
        answer = (await admin.get(LOG, params={"limit": 2, **({"cursor": cursor} if cursor else {})})).json()
        seen += [entry["changeId"] for entry in answer["entries"]]
        await okta.outcome(user.id)
        if not (cursor := answer["nextCursor"]):
            break

    assert seen == made[::-1]


async def test_another_organization_sees_none_of_it(okta: Seed, world: World) -> None:
    change_id = await okta.outcome((await okta.user()).id)
    stranger = await world.admin()

    assert await entries(stranger) == []
    assert await entries(stranger, connectionId=okta.connection_id) == []
    assert_refused(await stranger.get(f"{LOG}/{change_id}"), 404, "not_found")
    assert_refused(await stranger.get(f"{LOG}/{uuid7()}"), 404, "not_found")
    assert (await stranger.get(f"{LOG}/export", params={"format": "jsonl"})).text == ""


@pytest.mark.parametrize("params", [{"status": "3xx"}, {"cursor": "x"}, {"userName": "a\u200bb"}, {"operation": "eat"}])
async def test_a_search_that_cannot_be_meant_is_refused(admin: httpx.AsyncClient, params: dict) -> None:
    assert_refused(await admin.get(LOG, params=params), 400, "validation")


FORMULAS = ['=cmd|"/c calc"!A1', "+1", "-1+1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", " =1", "＝1", "＋1"]


async def test_t52_no_cell_of_an_export_is_a_formula(okta: Seed, admin: httpx.AsyncClient) -> None:
    user = await okta.user()
    for formula in FORMULAS:
        await okta.outcome(user.id, 409, actor=formula, reply={"detail": formula})

    answer = await admin.get(f"{LOG}/export")

    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.headers["content-disposition"] == 'attachment; filename="provisioning-log.csv"'
    rows = list(csv.reader(io.StringIO(answer.text)))
    assert len(rows) == 1 + len(FORMULAS)
    cells = [cell for row in rows for cell in row]
    assert not [cell for cell in cells if cell.lstrip().startswith(("=", "+", "-", "@", "＝", "＋"))]
    assert {row[rows[0].index("detail")] for row in rows[1:]} == {f"'{formula}" for formula in FORMULAS}


async def test_an_export_streams_more_than_one_page_in_both_formats(
    okta: Seed, admin: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("admin_api.provisioning_log.PAGE", 2)
    user = await okta.user()
    made = [str(await okta.outcome(user.id)) for _ in range(5)][::-1]

    lines = (await admin.get(f"{LOG}/export", params={"format": "jsonl"})).text.splitlines()
    rows = list(csv.DictReader(io.StringIO((await admin.get(f"{LOG}/export")).text)))

    assert [json.loads(line)["changeId"] for line in lines] == made
    assert [row["changeId"] for row in rows] == made
    assert json.loads(rows[0]["request"])["method"] == "PATCH"
