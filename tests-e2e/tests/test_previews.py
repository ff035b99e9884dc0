"""What a preview says is what happens: over a generated history, the outcome and the grants are the same."""

import random
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import pytest_asyncio

from e2e.admin import Organization, another_organization
from e2e.scim import patch, user
from e2e.stack import Stack

STATES = 200
GROUP = "urn:ietf:params:scim:schemas:core:2.0:Group"
NAMES = ("Engineers", "Sales", "Admins of nothing", "Unmapped")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def org(stack: Stack) -> AsyncIterator[Organization]:
    async with another_organization(stack) as organization:
        yield organization


async def preview(org: Organization, method: str, path: str, body: Any = None) -> dict[str, Any]:
    asked = {"method": method, "path": path, "body": body}
    answer = await org.admin.request("POST", f"/api/v1/admin/scim/connections/{org.connection_id}/preview", asked)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_a_preview_tells_the_outcome_and_changes_nothing(org: Organization, db: asyncpg.Connection):
    body = user(displayName="Ada Lovelace")
    before = await rows(db, org)

    shown = await preview(org, "POST", "/Users", body)

    assert shown["status"] == 201
    assert shown["resource"]["userName"] == body["userName"]
    [account] = shown["accounts"]
    assert account["before"] is None
    assert account["after"]["email"] == body["userName"]
    assert await rows(db, org) == before
    assert (await org.scim.find(f'userName eq "{body["userName"]}"')) == []
    entry = (await org.admin.request("GET", f"/api/v1/admin/scim/log/{shown['changeId']}")).json()
    assert (entry["dryRun"], entry["status"], entry["events"]) == (True, 201, [])


async def test_a_request_that_cannot_be_read_is_told_as_the_identity_provider_would_hear_it(org: Organization):
    shown = await preview(org, "POST", "/Users", {"userName": 7})

    real = await org.scim.request("POST", "/Users", {"userName": 7})
    assert (shown["status"], shown["scimType"], shown["detail"]) == (
        real.status_code,
        real.json()["scimType"],
        real.json()["detail"],
    )
    assert (shown["changeId"], shown["accounts"], shown["grants"]) == (None, [], [])


async def test_a_preview_works_behind_an_allowlist_and_leaves_no_token(org: Organization, db: asyncpg.Connection):
    await db.execute("UPDATE connections SET allowed_networks = '{198.51.100.0/24}' WHERE id = $1", org.connection_id)
    try:
        shown = await preview(org, "POST", "/Users", user())
    finally:
        await db.execute("UPDATE connections SET allowed_networks = '{}' WHERE id = $1", org.connection_id)

    assert shown["status"] == 201
    live = "SELECT count(*) FROM tokens WHERE connection_id = $1 AND revoked_at IS NULL AND 'preview' = ANY (scopes)"
    assert await db.fetchval(live, org.connection_id) == 0
    listed = await org.admin.request("GET", f"/api/v1/admin/scim/connections/{org.connection_id}/tokens")
    assert [token["label"] for token in listed.json()["tokens"] if token["label"] == "preview"] == []


async def test_an_unknown_and_a_foreign_connection_are_alike(organization: Organization, org: Organization):
    asked = {"method": "POST", "path": "/Users", "body": user()}
    for connection_id in (org.connection_id, uuid.uuid4()):
        path = f"/api/v1/admin/scim/connections/{connection_id}/preview"
        answer = await organization.admin.request("POST", path, asked)
        assert (answer.status_code, answer.json()["error"]) == (404, "not_found")
    for path in ("/../Users", "/Users/1", "/Users?x=1", "/Me", "//evil.example/Users"):
        answer = await org.admin.request(
            "POST", f"/api/v1/admin/scim/connections/{org.connection_id}/preview", {**asked, "path": path}
        )
        assert (answer.status_code, answer.json()["error"]) == (400, "validation")


async def test_previewing_and_then_doing_gives_the_same_outcome_and_grants_for_200_states(
    org: Organization, db: asyncpg.Connection
):
    model = Model(random.Random(4711))
    for name, role in (("Engineers", "engineer"), ("Sales", "seller"), ("Admins of nothing", "reader")):
        made = await org.admin.request("POST", "/api/v1/admin/roles", {"name": role, "permissions": []})
        assert made.status_code == 201, made.text
        mapping = {"scimGroupName": name, "roleName": role}
        made = await org.admin.request("POST", "/api/v1/admin/scim/group-mappings", mapping)
        assert made.status_code == 201, made.text
    moved = refused = 0
    for _ in range(STATES):
        method, path, body = model.request()
        before, shown = await grants(db, org), await preview(org, method, path, body)
        assert await grants(db, org) == before

        done = await org.scim.request(method, path, body)

        after = await grants(db, org)
        assert (shown["status"], shown["detail"]) == (done.status_code, detail_of(done)), (method, path, body)
        assert promised(shown, True) == named(after - before), (method, path, body)
        assert promised(shown, False) == named(before - after), (method, path, body)
        model.learn(method, path, done.json() if done.content else {}, done.status_code)
        moved += before != after
        refused += done.status_code >= 400
    # The history was worth it.
    assert moved > STATES / 10
    assert refused > STATES / 20
    assert refused < STATES / 2


def detail_of(answer: Any) -> str | None:
    return answer.json().get("detail") if answer.status_code >= 400 else None


def promised(shown: dict[str, Any], gained: bool) -> list[tuple[str, str]]:
    """Role and account of each grant; a group that is made has another id each time."""
    assert shown["gained" if gained else "lost"] == sum(grant["gained"] is gained for grant in shown["grants"])
    return sorted((grant["roleName"], grant["accountId"]) for grant in shown["grants"] if grant["gained"] is gained)


def named(grants: set[tuple]) -> list[tuple[str, str]]:
    return sorted((role, str(account_id)) for role, account_id, _ in grants)


async def grants(db: asyncpg.Connection, org: Organization) -> set[tuple]:
    found = await db.fetch(
        "SELECT r.name, a.id, g.group_id FROM grants g JOIN roles r ON r.id = g.role_id"
        " JOIN accounts a ON a.id = g.account_id WHERE a.organization_id = $1",
        uuid.UUID(org.id),
    )
    return {tuple(row) for row in found}


async def rows(db: asyncpg.Connection, org: Organization) -> list[int | None]:
    connection_id = uuid.UUID(org.connection_id)
    return [
        await db.fetchval("SELECT count(*) FROM users WHERE connection_id = $1", connection_id),
        await db.fetchval("SELECT users FROM connection_stats WHERE connection_id = $1", connection_id),
        await db.fetchval("SELECT count(*) FROM links WHERE connection_id = $1", connection_id),
        await db.fetchval("SELECT count(*) FROM events WHERE connection_id = $1 AND chain >= 0", connection_id),
    ]


@dataclass
class Model:
    """Knows what is there, as an identity provider would, and asks for something that fits, mostly."""

    random: random.Random
    users: dict[str, str] = field(default_factory=dict)
    groups: dict[str, str] = field(default_factory=dict)

    def request(self) -> tuple[str, str, Any]:
        choices = [self.new_user, self.new_group]
        if self.users:
            choices += [self.switch, self.rename_user, self.drop_user]
        if self.groups:
            choices += [self.rename_group, self.drop_group, *[self.members] * 6]
        return self.random.choice(choices)()

    def new_user(self) -> tuple[str, str, Any]:
        return "POST", "/Users", user(f"user{self.random.randrange(14)}-{id(self)}@example.com")

    def new_group(self) -> tuple[str, str, Any]:
        body = {"schemas": [GROUP], "displayName": self.random.choice(NAMES), "members": self.some_members()}
        return "POST", "/Groups", body

    def switch(self) -> tuple[str, str, Any]:
        operation = {"op": "replace", "path": "active", "value": self.random.random() < 0.5}
        return "PATCH", f"/Users/{self.some(self.users)}", patch(operation)

    def rename_user(self) -> tuple[str, str, Any]:
        return "PUT", f"/Users/{self.some(self.users)}", self.new_user()[2]

    def drop_user(self) -> tuple[str, str, Any]:
        return "DELETE", f"/Users/{self.some(self.users)}", None

    def rename_group(self) -> tuple[str, str, Any]:
        operation = {"op": "replace", "path": "displayName", "value": self.random.choice(NAMES)}
        return "PATCH", f"/Groups/{self.some(self.groups)}", patch(operation)

    def drop_group(self) -> tuple[str, str, Any]:
        return "DELETE", f"/Groups/{self.some(self.groups)}", None

    def members(self) -> tuple[str, str, Any]:
        operation = {"op": self.random.choice(("add", "add", "remove", "replace")), "path": "members"}
        return "PATCH", f"/Groups/{self.some(self.groups)}", patch({**operation, "value": self.some_members()})

    def some_members(self) -> list[dict[str, str]]:
        """Users, and now and then a group, which may well make a cycle."""
        pool = [*self.users, *(self.groups if self.random.random() < 0.3 else ())]
        return [{"value": each} for each in self.random.sample(pool, min(len(pool), self.random.randrange(4)))]

    def some(self, known: dict[str, str]) -> str:
        return self.random.choice(sorted(known)) if self.random.random() < 0.95 else str(uuid.uuid4())

    def learn(self, method: str, path: str, body: dict[str, Any], status: int) -> None:
        known = self.users if path.startswith("/Users") else self.groups
        if method == "POST" and status == 201:
            known[body["id"]] = path
        if method == "DELETE":
            known.pop(path.rpartition("/")[2], None)
