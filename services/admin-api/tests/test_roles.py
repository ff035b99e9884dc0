"""Roles of an organization."""

import json
from uuid import UUID, uuid4

import httpx
import pytest

from admin_stand import World, assert_refused

ROLES = "/api/v1/admin/roles"
MAPPINGS = "/api/v1/admin/scim/group-mappings"


async def create(client: httpx.AsyncClient, name: str = "Auditor", permissions: tuple[str, ...] = ()) -> dict:
    answer = await client.post(ROLES, json={"name": name, "permissions": list(permissions)})
    assert answer.status_code == 201, answer.text
    return answer.json()


async def test_a_role_is_made_listed_changed_and_deleted(world: World) -> None:
    admin = await world.admin()

    role = await create(admin, "Auditor", ("reports:read", "reports:read", "logs:read"))

    assert role["permissions"] == ["reports:read", "logs:read"]
    assert (role["builtIn"], role["isProtected"]) == (False, False)
    listed = (await admin.get(ROLES)).json()
    assert listed["nextCursor"] is None
    assert sorted((r["name"], r["builtIn"], r["isProtected"], r["accounts"]) for r in listed["roles"]) == [
        ("Auditor", False, False, 0),
        ("admin", True, True, 1),
        ("member", True, False, 0),
    ]
    changed = await admin.patch(f"{ROLES}/{role['id']}", json={"name": "Reviewer"})
    assert changed.status_code == 200
    assert (changed.json()["name"], changed.json()["permissions"]) == ("Reviewer", ["reports:read", "logs:read"])
    assert (await admin.get(f"{ROLES}/{role['id']}")).json()["name"] == "Reviewer"
    assert (await admin.delete(f"{ROLES}/{role['id']}")).status_code == 204
    assert_refused(await admin.delete(f"{ROLES}/{role['id']}"), 404, "not_found")
    events = await world.db.fetch(
        "SELECT type, data FROM events WHERE subject_id = $1 AND chain = -1 ORDER BY seq", UUID(role["id"])
    )
    assert [event["type"].rpartition(":")[2] for event in events] == ["role-created", "role-changed", "role-deleted"]


async def test_roles_are_listed_by_page(world: World) -> None:
    admin = await world.admin()
    for number in range(5):
        await create(admin, f"role {number}")

    names: list[str] = []
    cursor: str | None = None
    while cursor is not None or not names:
        answer = (await admin.get(ROLES, params={"limit": 3} | ({"cursor": cursor} if cursor else {}))).json()
        assert len(answer["roles"]) <= 3
        names += [role["name"] for role in answer["roles"]]
        cursor = answer["nextCursor"]

    assert sorted(names) == sorted(["admin", "member", *(f"role {number}" for number in range(5))])
    assert len(names) == len(set(names))


@pytest.mark.parametrize("cursor", ["x", "W10", "bnVsbA", "WyJhIl0", "WyJhIiwiYiJd", "é", "WyJcdTAwMDAiLCAiYSJd"])
async def test_a_cursor_that_no_list_gave_is_refused(world: World, cursor: str) -> None:
    assert_refused(await (await world.admin()).get(ROLES, params={"cursor": cursor}), 400, "validation")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"name": ""},
        {"name": " padded "},
        {"name": "a\u0000b"},
        {"name": "x" * 101},
        {"name": 7},
        {"name": "a", "permissions": "all"},
        {"name": "a", "permissions": [""]},
        {"name": "a", "permissions": ["p"] * 201},
        {"name": "a", "builtIn": True},
        {"name": "\ud800"},
    ],
)
async def test_what_is_no_role_is_refused(world: World, body: dict) -> None:
    admin = await world.admin()
    answer = await admin.post(ROLES, content=json.dumps(body), headers={"content-type": "application/json"})

    assert_refused(answer, 400, "validation")


async def test_a_name_is_taken_once_and_the_built_in_ones_in_any_case(world: World) -> None:
    admin, other = await world.admin(), await world.admin()
    role = await create(admin)

    assert_refused(await admin.post(ROLES, json={"name": "Auditor"}), 409, "conflict")
    assert_refused(await admin.post(ROLES, json={"name": "ADMIN"}), 409, "conflict")
    second = await create(admin, "Second")
    assert_refused(await admin.patch(f"{ROLES}/{second['id']}", json={"name": "Auditor"}), 409, "conflict")
    assert (await admin.patch(f"{ROLES}/{role['id']}", json={"name": "Auditor"})).status_code == 200
    await create(other, "Auditor")


async def test_built_in_roles_stay(world: World) -> None:
    admin = await world.admin()

    for role in (await admin.get(ROLES)).json()["roles"]:
        assert_refused(await admin.delete(f"{ROLES}/{role['id']}"), 409, "conflict")
        assert_refused(await admin.patch(f"{ROLES}/{role['id']}", json={"name": "chief"}), 409, "conflict")


async def test_a_role_in_use_is_kept_and_says_by_whom(world: World) -> None:
    organization = await world.organization()
    admin = await world.signed_in(await world.person(organization))
    role = await create(admin)
    holder = await world.person(organization, ["Auditor"])
    mapping = (await admin.post(MAPPINGS, json={"scimGroupName": "Finance", "roleName": "Auditor"})).json()

    answer = await admin.delete(f"{ROLES}/{role['id']}")

    assert_refused(answer, 409, "conflict")
    assert "'Finance'" in answer.json()["message"]
    assert holder.email in answer.json()["message"]
    await world.db.execute("DELETE FROM grants WHERE account_id = $1", holder.id)
    assert_refused(await admin.delete(f"{ROLES}/{role['id']}"), 409, "conflict")
    await admin.delete(f"{MAPPINGS}/{mapping['id']}")
    assert (await admin.delete(f"{ROLES}/{role['id']}")).status_code == 204


async def test_another_organizations_role_is_as_unknown_as_none(world: World) -> None:
    admin, other = await world.admin(), await world.admin()
    foreign = (await create(other))["id"]

    for id in (foreign, str(uuid4()), "nonsense"):
        for call in (admin.get, admin.delete):
            answer = await call(f"{ROLES}/{id}")
            assert_refused(answer, 404, "not_found")
            assert answer.json()["message"] == "there is nothing of this id"
        assert_refused(await admin.patch(f"{ROLES}/{id}", json={"name": "x"}), 404, "not_found")
    assert (await other.get(f"{ROLES}/{foreign}")).status_code == 200
