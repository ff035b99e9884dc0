"""The rules of the directory for users (design section 5), from outside, with a look at the rows behind them."""

import uuid
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from e2e.admin import Organization, another_organization, bootstrap, sign_in
from e2e.scim import Scim, assert_error, client, new_name, user
from e2e.stack import Stack

ACCOUNT_OF_USER = "SELECT accounts.* FROM accounts JOIN users ON users.account_id = accounts.id WHERE users.id = $1"
ACCOUNTS_BY_EMAIL = "SELECT * FROM accounts WHERE organization_id = $1 AND email_key = $2"
# What makes an account somebody's: `FOR` a hash of the row would do, but a difference is easier to read.
GIVE_PASSWORD = """
    INSERT INTO credentials (account_id, password_hash)
    SELECT $1, password_hash FROM credentials JOIN accounts ON accounts.id = account_id
    WHERE accounts.organization_id = $2 AND accounts.email = $3
"""


async def account_of(db: asyncpg.Connection, user_id: str) -> dict[str, Any]:
    return dict(await db.fetchrow(ACCOUNT_OF_USER, uuid.UUID(user_id)) or {})


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def second_connection(stack: Stack, organization: Organization) -> AsyncIterator[Scim]:
    """Another connection of the first organization, which the tests share; it goes at the end."""
    provider_id = f"onelogin-{uuid.uuid4().hex[:8]}"
    issued = await organization.admin.generate_token(provider_id)
    async with client(stack.scim_url, issued["scimToken"]) as scim:
        yield scim
    await organization.admin.delete_connection(provider_id)


class TestAccounts:
    async def test_a_user_becomes_an_account(self, scim: Scim, db: asyncpg.Connection, organization: Organization):
        name = new_name()

        created = await scim.create(user(name))

        account = await account_of(db, created["id"])
        assert account["email"] == name
        assert account["display_name"] == "Mara Quill"
        assert account["status"] == "active"
        assert str(account["organization_id"]) == organization.id

    async def test_a_user_name_that_is_no_address_leaves_the_email_to_the_primary_one(
        self, scim: Scim, db: asyncpg.Connection
    ):
        name = new_name()
        emails = [{"value": new_name(), "type": "home"}, {"value": name, "type": "work", "primary": True}]

        created = await scim.create(user(f"mara.{uuid.uuid4().hex}", emails=emails))

        assert (await account_of(db, created["id"]))["email"] == name

    async def test_inactive_suspends_and_active_reactivates_the_same_account(self, scim: Scim, db: asyncpg.Connection):
        created = await scim.create(user())
        before = await account_of(db, created["id"])

        await scim.set_active(created["id"], False)
        suspended = await account_of(db, created["id"])
        await scim.set_active(created["id"], True)
        active = await account_of(db, created["id"])

        assert [row["status"] for row in (before, suspended, active)] == ["active", "suspended", "active"]
        assert before["id"] == suspended["id"] == active["id"]

    async def test_a_user_created_inactive_has_a_suspended_account(self, scim: Scim, db: asyncpg.Connection):
        created = await scim.create(user(active=False))

        assert created["active"] is False
        assert (await account_of(db, created["id"]))["status"] == "suspended"

    async def test_a_deleted_user_leaves_a_suspended_account(
        self, scim: Scim, db: asyncpg.Connection, organization: Organization
    ):
        name = new_name()
        created = await scim.create(user(name))

        await scim.delete(created["id"])

        accounts = await db.fetch(ACCOUNTS_BY_EMAIL, uuid.UUID(organization.id), name)
        assert [row["status"] for row in accounts] == ["suspended"]
        assert await scim.find(f'userName eq "{name}"') == []

    async def test_a_rehired_person_gets_the_old_account_and_a_new_id(
        self, scim: Scim, db: asyncpg.Connection, organization: Organization
    ):
        name = new_name()
        hired = await scim.create(user(name, externalId=f"x-{name}"))
        account = await account_of(db, hired["id"])
        await scim.delete(hired["id"])

        rehired = await scim.create(user(name.upper(), externalId=f"x-{name}"))

        assert rehired["id"] != hired["id"]
        assert (await account_of(db, rehired["id"]))["id"] == account["id"]
        accounts = await db.fetch(ACCOUNTS_BY_EMAIL, uuid.UUID(organization.id), name)
        assert [row["status"] for row in accounts] == ["active"]
        assert_error(await scim.request("GET", f"/Users/{hired['id']}"), 404)

    async def test_names_and_emails_follow_to_the_account(self, scim: Scim, db: asyncpg.Connection):
        created, moved = await scim.create(user()), new_name()

        response = await scim.patch(
            created["id"],
            {"op": "replace", "path": "userName", "value": moved},
            {"op": "replace", "path": "name.givenName", "value": "Nadia"},
        )

        assert response.status_code == 200, response.text
        account = await account_of(db, created["id"])
        assert (account["email"], account["display_name"]) == (moved, "Nadia Quill")


class TestSessions:
    @pytest.mark.parametrize("how", ["patch", "put", "delete"])
    async def test_t16_suspension_ends_the_sessions_of_the_account(
        self, how: str, scim: Scim, db: asyncpg.Connection, organization: Organization
    ):
        name, admin = new_name(), organization.admin
        created = await scim.create(user(name))
        account = await account_of(db, created["id"])
        await db.execute(GIVE_PASSWORD, account["id"], account["organization_id"], admin.email)
        session = (await sign_in(admin.http, name, admin.password))["token"]
        headers = {"authorization": f"Bearer {session}"}
        assert (await admin.http.get("/api/auth/get-session", headers=headers)).status_code == 200

        match how:
            case "patch":
                await scim.set_active(created["id"], False)
            case "put":
                response = await scim.request("PUT", f"/Users/{created['id']}", user(name, active=False))
                assert response.status_code == 200, response.text
            case "delete":
                await scim.delete(created["id"])

        assert (await admin.http.get("/api/auth/get-session", headers=headers)).status_code == 401
        refused = await admin.http.post("/api/auth/sign-in/email", json={"email": name, "password": admin.password})
        assert refused.status_code == 401

    async def test_t16_a_session_from_before_the_suspension_stays_dead_after_it(
        self, scim: Scim, db: asyncpg.Connection, organization: Organization
    ):
        name, admin = new_name(), organization.admin
        created = await scim.create(user(name))
        account = await account_of(db, created["id"])
        await db.execute(GIVE_PASSWORD, account["id"], account["organization_id"], admin.email)
        old = (await sign_in(admin.http, name, admin.password))["token"]

        await scim.set_active(created["id"], False)
        await scim.set_active(created["id"], True)

        dead = await admin.http.get("/api/auth/get-session", headers={"authorization": f"Bearer {old}"})
        assert dead.status_code == 401
        new = (await sign_in(admin.http, name, admin.password))["token"]
        alive = await admin.http.get("/api/auth/get-session", headers={"authorization": f"Bearer {new}"})
        assert alive.status_code == 200


class TestNoTakeover:
    @pytest.fixture
    async def foreign_account(self, stack: Stack, db: asyncpg.Connection) -> AsyncIterator[tuple[Scim, Any]]:
        """A connection, and an account of its organization that SCIM did not create."""
        async with another_organization(stack) as other:
            email = f"owner-{uuid.uuid4().hex[:12]}@example.com"
            await bootstrap(stack, organization=other.name, email=email, password=uuid.uuid4().hex, provider_id="okta")
            yield other.scim, await self.row(db, other.id, email)

    async def row(self, db: asyncpg.Connection, organization_id: str, email: str) -> asyncpg.Record:
        (account,) = await db.fetch(ACCOUNTS_BY_EMAIL, uuid.UUID(organization_id), email)
        return account

    async def assert_untouched(self, db: asyncpg.Connection, account: asyncpg.Record) -> None:
        assert await self.row(db, str(account["organization_id"]), account["email"]) == account
        assert await db.fetchval("SELECT count(*) FROM users WHERE account_id = $1", account["id"]) == 0
        assert await db.fetchval("SELECT count(*) FROM links WHERE account_id = $1", account["id"]) == 0

    async def test_t01_a_create_with_the_email_of_another_account_is_refused(
        self, foreign_account: tuple[Scim, Any], db: asyncpg.Connection
    ):
        scim, account = foreign_account

        by_name = await scim.request("POST", "/Users", user(account["email"].upper()))
        by_email = await scim.request(
            "POST", "/Users", user(f"owner.{uuid.uuid4().hex}", emails=[{"value": account["email"], "primary": True}])
        )

        assert_error(by_name, 409, "uniqueness")
        assert_error(by_email, 409, "uniqueness")
        await self.assert_untouched(db, account)

    async def test_t01_a_user_cannot_be_moved_onto_another_account(
        self, foreign_account: tuple[Scim, Any], db: asyncpg.Connection
    ):
        scim, account = foreign_account
        name = new_name()
        created = await scim.create(user(name))

        patched = await scim.patch(created["id"], {"op": "replace", "path": "userName", "value": account["email"]})
        put = await scim.request("PUT", f"/Users/{created['id']}", user(account["email"]))

        assert_error(patched, 409, "uniqueness")
        assert_error(put, 409, "uniqueness")
        await self.assert_untouched(db, account)
        assert await scim.get(created["id"]) == created
        assert (await account_of(db, created["id"]))["email"] == name

    async def test_t02_an_external_id_is_text_and_no_id_of_ours(
        self, foreign_account: tuple[Scim, Any], db: asyncpg.Connection
    ):
        scim, account = foreign_account

        for external_id in (str(account["id"]), "1", "0", "-1", "null", "true"):
            created = await scim.create(user(externalId=external_id))
            assert (await account_of(db, created["id"]))["id"] != account["id"]

        assert_error(await scim.request("GET", "/Users/1"), 404)
        assert_error(await scim.request("GET", f"/Users/{account['id']}"), 404)
        await self.assert_untouched(db, account)


class TestIsolation:
    METHODS = ("GET", "PUT", "PATCH", "DELETE")

    async def request(self, scim: Scim, method: str, user_id: str) -> tuple[int, bytes, dict[str, str]]:
        body = {
            "PUT": user("nobody@example.com"),
            "PATCH": {
                "schemas": ["urn:ietf:params:scim:api:messages:2.0:PatchOp"],
                "Operations": [{"op": "replace", "path": "active", "value": False}],
            },
        }.get(method)
        response = await scim.request(method, f"/Users/{user_id}", body)
        headers = {name: value for name, value in response.headers.items() if name not in ("date", "x-request-id")}
        return response.status_code, response.content, headers

    @pytest.mark.parametrize("method", METHODS)
    async def test_t03_another_organizations_user_answers_like_an_unknown_one(
        self, method: str, scim: Scim, other_organization: Organization
    ):
        theirs = await other_organization.scim.create(user())

        foreign = await self.request(scim, method, theirs["id"])
        unknown = await self.request(scim, method, str(uuid.uuid4()))

        assert foreign == unknown
        assert foreign[0] == 404
        assert await other_organization.scim.get(theirs["id"]) == theirs

    @pytest.mark.parametrize("method", METHODS)
    async def test_t03_another_connections_user_answers_like_an_unknown_one(
        self, method: str, scim: Scim, second_connection: Scim
    ):
        theirs = await scim.create(user())

        foreign = await self.request(second_connection, method, theirs["id"])
        unknown = await self.request(second_connection, method, str(uuid.uuid4()))

        assert foreign == unknown
        assert foreign[0] == 404
        assert await scim.get(theirs["id"]) == theirs

    async def test_t07_lists_and_filters_show_nothing_of_others(
        self, scim: Scim, second_connection: Scim, other_organization: Organization
    ):
        name = new_name()
        await other_organization.scim.create(user(name))
        mine = await scim.create(user())

        assert await scim.find(f'userName eq "{name}"') == []
        assert await scim.find(f'userName co "{name[:12]}" or emails.value eq "{name}"') == []
        assert await second_connection.find(f'id eq "{mine["id"]}"') == []

    async def test_t05_a_name_that_another_organization_uses_is_free(
        self, scim: Scim, other_organization: Organization, db: asyncpg.Connection
    ):
        name = new_name()
        theirs = await other_organization.scim.create(user(name, externalId="same"))
        before = await account_of(db, theirs["id"])

        ours = await scim.create(user(name, externalId=f"same-{name}"))

        assert (await account_of(db, ours["id"]))["id"] != before["id"]
        assert await account_of(db, theirs["id"]) == before

    async def test_a_person_of_another_connection_of_the_organization_is_not_taken_over(
        self, scim: Scim, second_connection: Scim, db: asyncpg.Connection
    ):
        name = new_name()
        theirs = await scim.create(user(name))
        before = await account_of(db, theirs["id"])

        assert_error(await second_connection.request("POST", "/Users", user(name)), 409, "uniqueness")

        assert await account_of(db, theirs["id"]) == before

    async def test_both_organizations_call_their_connection_okta(
        self, organization: Organization, other_organization: Organization
    ):
        path = "/api/auth/scim/get-provider-connection"

        mine = await organization.admin.request("GET", path, params={"providerId": "okta"})
        theirs = await other_organization.admin.request("GET", path, params={"providerId": "okta"})

        assert (mine.json()["id"], theirs.json()["id"]) == (
            organization.connection_id,
            other_organization.connection_id,
        )
