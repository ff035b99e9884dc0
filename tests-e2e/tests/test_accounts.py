"""Accounts over the admin API, end to end: what an admin does, and what a connection then may."""

import uuid
from collections.abc import AsyncIterator

import asyncpg
import httpx
import pytest
import pytest_asyncio

from e2e.admin import Admin, Organization, another_organization
from e2e.scim import assert_error, patch, user
from e2e.stack import Stack

USERS = "/api/v1/admin/users"
LINK_REQUESTS = "/api/v1/admin/scim/link-requests"
UNKNOWN = "6b0c9a52-1d1e-4f77-8b1f-2f5b6a3c9d10"  # the id of nothing


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def org(stack: Stack) -> AsyncIterator[Organization]:
    async with another_organization(stack) as organization:
        yield organization


async def ask(admin: Admin, method: str, path: str, body: object = None, status: int = 200) -> dict:
    answer = await admin.request(method, path, body)
    assert answer.status_code == status, answer.text
    return answer.json() if answer.content else {}


async def account_of(admin: Admin, search: str) -> dict:
    [account] = (await admin.request("GET", USERS, params={"search": search})).json()["users"]
    return account


async def new_role(admin: Admin) -> str:
    name = f"role {uuid.uuid4().hex[:8]}"
    await ask(admin, "POST", "/api/v1/admin/roles", {"name": name, "permissions": ["read"]}, 201)
    return name


def refused(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]


async def test_a_provisioned_user_is_an_account_with_its_connection(org: Organization):
    created = await org.scim.create(user(displayName="Ada Lovelace"))

    account = await account_of(org.admin, created["userName"])

    assert (account["email"], account["status"], account["breakGlass"]) == (created["userName"], "active", False)
    assert account["scimUser"]["id"] == created["id"]
    assert [(link["providerId"], link["origin"]) for link in account["connections"]] == [("okta", "created")]
    assert await ask(org.admin, "GET", f"{USERS}/{account['id']}") == account


async def test_a_role_by_hand_comes_and_goes(org: Organization):
    account, role = await account_of(org.admin, (await org.scim.create(user()))["userName"]), await new_role(org.admin)
    grants = f"{USERS}/{account['id']}/grants"

    given = await ask(org.admin, "POST", grants, {"roleName": role}, 201)
    again = await ask(org.admin, "POST", grants, {"roleName": role}, 201)

    [held] = given["roles"]
    assert (held["role"], held["source"]["type"], held["label"]) == (role, "manual", None)
    assert again["roles"] == given["roles"]
    await ask(org.admin, "DELETE", f"{grants}/{held['roleId']}", status=204)
    assert refused(await org.admin.request("DELETE", f"{grants}/{held['roleId']}")) == (404, "not_found")
    assert (await account_of(org.admin, account["email"]))["roles"] == []
    assert refused(await org.admin.request("POST", grants, {"roleName": "no such role"})) == (404, "not_found")


async def test_a_role_by_a_group_shows_its_group_and_is_not_taken_by_hand(org: Organization):
    role, group_name = await new_role(org.admin), f"Group {uuid.uuid4().hex[:8]}"
    mapping = {"scimGroupName": group_name, "roleName": role}
    await ask(org.admin, "POST", "/api/v1/admin/scim/group-mappings", mapping, 201)
    created = await org.scim.create(user())
    group = {"schemas": ["urn:ietf:params:scim:schemas:core:2.0:Group"], "displayName": group_name}
    made = await org.scim.request("POST", "/Groups", {**group, "members": [{"value": created["id"]}]})
    assert made.status_code == 201, made.text

    account = await account_of(org.admin, created["userName"])

    [held] = account["roles"]
    assert held["role"] == role
    assert held["source"]["type"] == "group"
    assert held["source"]["groupName"] == group_name
    assert held["source"]["providerId"] == "okta"
    path = f"{USERS}/{account['id']}/grants/{held['roleId']}"
    assert refused(await org.admin.request("DELETE", path)) == (404, "not_found")


async def test_a_manual_account_is_made_changed_and_found(org: Organization):
    email = f"{uuid.uuid4().hex[:10]}@example.com"

    made = await ask(org.admin, "POST", USERS, {"email": email, "displayName": "Grace Hopper"}, 201)
    changed = await ask(org.admin, "PATCH", f"{USERS}/{made['id']}", {"displayName": "Rear Admiral Hopper"})
    twin = await org.admin.request("POST", USERS, {"email": email.upper(), "displayName": "Another"})

    assert (made["email"], made["status"], made["connections"], made["scimUser"]) == (email, "active", [], None)
    assert changed["displayName"] == "Rear Admiral Hopper"
    assert (await account_of(org.admin, email[:8].upper())) == changed
    assert refused(twin) == (409, "conflict")
    assert refused(await org.admin.request("PATCH", f"{USERS}/{made['id']}", {})) == (400, "validation")


async def test_a_suspended_account_keeps_its_roles_and_is_back_when_it_is_reactivated(org: Organization):
    second = await a_second_admin(org)

    suspended = await ask(org.admin, "POST", f"{USERS}/{second['id']}/suspend")

    assert suspended["status"] == "suspended"
    assert [held["role"] for held in suspended["roles"]] == ["admin"]
    assert (await ask(org.admin, "POST", f"{USERS}/{second['id']}/reactivate"))["status"] == "active"


async def a_second_admin(org: Organization) -> dict:
    email = f"{uuid.uuid4().hex[:10]}@example.com"
    made = await ask(org.admin, "POST", USERS, {"email": email, "displayName": "Second"}, 201)
    return await ask(org.admin, "POST", f"{USERS}/{made['id']}/grants", {"roleName": "admin"}, 201)


async def test_t15_the_last_active_admin_is_kept_whoever_asks(stack: Stack):
    async with another_organization(stack) as org:
        me = await account_of(org.admin, org.admin.email)
        [admin_role] = me["roles"]

        for method, path in (
            ("POST", f"{USERS}/{me['id']}/suspend"),
            ("DELETE", f"{USERS}/{me['id']}/grants/{admin_role['roleId']}"),
        ):
            assert refused(await org.admin.request(method, path)) == (409, "conflict")
        assert (await account_of(org.admin, org.admin.email)) == me


async def test_t9_a_deleted_user_leaves_the_account_its_history_and_its_other_roles(org: Organization):
    created, role = await org.scim.create(user()), await new_role(org.admin)
    account = await account_of(org.admin, created["userName"])
    await ask(org.admin, "POST", f"{USERS}/{account['id']}/grants", {"roleName": role}, 201)

    await org.scim.delete(created["id"])

    left = await account_of(org.admin, created["userName"])
    assert (left["id"], left["status"], left["scimUser"]) == (account["id"], "suspended", None)
    assert [held["role"] for held in left["roles"]] == [role]
    rehired = await org.scim.create(user(created["userName"]))
    back = await account_of(org.admin, created["userName"])
    assert (back["id"], back["status"], back["scimUser"]["id"]) == (account["id"], "active", rehired["id"])


async def test_a_refused_takeover_is_a_link_request_that_an_admin_approves(org: Organization):
    email = f"{uuid.uuid4().hex[:10]}@example.com"
    made = await ask(org.admin, "POST", USERS, {"email": email, "displayName": "Local"}, 201)

    assert_error(await org.scim.request("POST", "/Users", user(email)), 409, "uniqueness")
    [request] = [r for r in await open_requests(org.admin) if r["accountId"] == made["id"]]
    approved = await ask(org.admin, "POST", f"{LINK_REQUESTS}/{request['id']}/approve")

    assert (request["accountEmail"], request["providerId"], request["userName"]) == (email, "okta", email)
    assert (approved["resolution"], approved["resolvedBy"][:8]) == ("approved", "account:")
    assert refused(await org.admin.request("POST", f"{LINK_REQUESTS}/{request['id']}/reject")) == (409, "conflict")
    created = await org.scim.create(user(email))
    linked = await account_of(org.admin, email)
    assert (linked["id"], linked["scimUser"]["id"]) == (made["id"], created["id"])
    assert [link["origin"] for link in linked["connections"]] == ["admin"]


async def test_a_rejected_link_request_changes_nothing_and_may_come_again(org: Organization):
    email = f"{uuid.uuid4().hex[:10]}@example.com"
    made = await ask(org.admin, "POST", USERS, {"email": email, "displayName": "Local"}, 201)
    assert_error(await org.scim.request("POST", "/Users", user(email)), 409, "uniqueness")
    [request] = [r for r in await open_requests(org.admin) if r["accountId"] == made["id"]]

    rejected = await ask(org.admin, "POST", f"{LINK_REQUESTS}/{request['id']}/reject")

    assert rejected["resolution"] == "rejected"
    assert_error(await org.scim.request("POST", "/Users", user(email)), 409, "uniqueness")
    assert (await account_of(org.admin, email)) == made
    assert len([r for r in await open_requests(org.admin) if r["accountId"] == made["id"]]) == 1


async def open_requests(admin: Admin) -> list[dict]:
    answer = await admin.request("GET", LINK_REQUESTS, params={"status": "open", "limit": 200})
    assert answer.status_code == 200, answer.text
    return answer.json()["linkRequests"]


async def test_an_account_is_linked_and_unlinked_by_hand(org: Organization):
    email = f"{uuid.uuid4().hex[:10]}@example.com"
    made = await ask(org.admin, "POST", USERS, {"email": email, "displayName": "Local"}, 201)
    links = f"{USERS}/{made['id']}/links"

    linked = await ask(org.admin, "POST", links, {"connectionId": org.connection_id}, 201)
    await ask(org.admin, "DELETE", f"{links}/{org.connection_id}", status=204)

    assert [link["connectionId"] for link in linked["connections"]] == [org.connection_id]
    assert refused(await org.admin.request("DELETE", f"{links}/{org.connection_id}")) == (404, "not_found")
    assert_error(await org.scim.request("POST", "/Users", user(email)), 409, "uniqueness")
    assert refused(await org.admin.request("POST", links, {"connectionId": str(uuid.uuid4())})) == (404, "not_found")


async def test_t15_a_break_glass_account_is_suspended_by_no_connection(org: Organization):
    created = await org.scim.create(user())
    account = await account_of(org.admin, created["userName"])
    safe = await ask(org.admin, "PATCH", f"{USERS}/{account['id']}", {"breakGlass": True})

    off = await org.scim.patch(created["id"], {"op": "replace", "path": "active", "value": False})
    gone = await org.scim.request("DELETE", f"/Users/{created['id']}")

    assert safe["breakGlass"] is True
    assert_error(off, 403)
    assert_error(gone, 403)
    assert (await account_of(org.admin, created["userName"]))["status"] == "active"


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "", None),
        ("PATCH", "", {"breakGlass": True}),
        ("POST", "/suspend", None),
        ("POST", "/reactivate", None),
        ("POST", "/grants", {"roleName": "admin"}),
        ("DELETE", f"/grants/{UNKNOWN}", None),
        ("POST", "/links", {"connectionId": UNKNOWN}),
        ("DELETE", f"/links/{UNKNOWN}", None),
    ],
)
async def test_another_organizations_account_is_as_unknown_as_none(
    organization: Organization, org: Organization, method: str, path: str, body: object
):
    me = await account_of(org.admin, org.admin.email)
    foreign = await organization.admin.request(method, f"{USERS}/{me['id']}{path}", body)
    unknown = await organization.admin.request(method, f"{USERS}/{uuid.uuid4()}{path}", body)
    bodies = [{**answer.json(), "requestId": ""} for answer in (foreign, unknown)]
    assert (foreign.status_code, unknown.status_code, bodies[0]) == (404, 404, bodies[1])


async def test_what_an_admin_did_is_in_the_log_and_in_the_trail(org: Organization, db: asyncpg.Connection):
    account, role = await account_of(org.admin, (await org.scim.create(user()))["userName"]), await new_role(org.admin)
    await ask(org.admin, "POST", f"{USERS}/{account['id']}/grants", {"roleName": role}, 201)

    log = (await org.admin.request("GET", "/api/v1/admin/scim/log", params={"userId": account["id"]})).json()["entries"]
    trail = (await org.admin.request("GET", "/api/v1/admin/audit", params={"subjectId": account["id"]})).json()[
        "events"
    ]

    assert log[0]["actor"].startswith("account:")
    assert (log[0]["operation"], log[0]["resourceType"], log[0]["status"]) == ("patch", "Account", 200)
    [gained] = log[0]["events"]
    assert gained["type"] == trail[0]["type"] == "urn:directory-sync:event:roles-changed"
    assert trail[0]["changeId"] == log[0]["changeId"]
    assert (await org.admin.request("POST", "/api/v1/admin/audit/verify")).json()["broken"] is None


async def test_t12_t13_a_group_that_comes_to_a_mapped_name_makes_no_admin(stack: Stack):
    """By a rename, or by being made anew: the protected role was given to the group that bore the name."""
    async with another_organization(stack) as org:
        created = [await org.scim.create(user()) for _ in range(3)]
        first = await new_group(org, "Owners", created[0]["id"])
        mapping = {"scimGroupName": "Owners", "roleName": "admin", "confirm": True}
        await ask(org.admin, "POST", "/api/v1/admin/scim/group-mappings", mapping, 201)
        await org.scim.request("PATCH", f"/Groups/{first}", patch(add_member(created[1]["id"])))
        assert await roles_of(org, created) == [[], ["admin"], []]

        await org.scim.request("DELETE", f"/Groups/{first}")
        await new_group(org, "Owners", created[0]["id"])  # T13
        assert await roles_of(org, created) == [[], [], []]
        other = await new_group(org, "Others", created[2]["id"])
        taken = await org.scim.request("PATCH", f"/Groups/{other}", patch(rename("Owners")))
        assert_error(taken, 409, "uniqueness")
        [again] = (await org.scim.request("GET", '/Groups?filter=displayName eq "Owners"')).json()["Resources"]
        await org.scim.request("DELETE", f"/Groups/{again['id']}")
        renamed = await org.scim.request("PATCH", f"/Groups/{other}", patch(rename("Owners")))  # T12
        assert renamed.status_code == 200, renamed.text
        assert await roles_of(org, created) == [[], [], []]


async def new_group(org: Organization, name: str, *members: str) -> str:
    body = {"schemas": ["urn:ietf:params:scim:schemas:core:2.0:Group"], "displayName": name}
    made = await org.scim.request("POST", "/Groups", {**body, "members": [{"value": each} for each in members]})
    assert made.status_code == 201, made.text
    return made.json()["id"]


def add_member(user_id: str) -> dict:
    return {"op": "add", "path": "members", "value": [{"value": user_id}]}


def rename(name: str) -> dict:
    return {"op": "replace", "path": "displayName", "value": name}


async def roles_of(org: Organization, users: list[dict]) -> list[list[str]]:
    accounts = [await account_of(org.admin, each["userName"]) for each in users]
    return [[held["role"] for held in account["roles"]] for account in accounts]
