"""The life of a token over HTTP: issued, used, listed without its secret, ended (design section 6, P10)."""

import uuid

import asyncpg
import pytest

from e2e.admin import Organization
from e2e.scim import assert_error, client, user
from e2e.stack import Stack, until

GENERATE = "/api/auth/scim/generate-token"
DELETE = "/api/auth/scim/delete-provider-connection"
GET = "/api/auth/scim/get-provider-connection"
LIST = "/api/auth/scim/list-provider-connections"
READ_DEADLINE = 2.0  # seconds; P10


def new_provider() -> str:
    return f"idp-{uuid.uuid4().hex[:10]}"


async def test_a_token_is_generated_shown_once_and_works(stack: Stack, organization: Organization):
    provider_id = new_provider()

    response = await organization.admin.request(
        "POST", GENERATE, {"providerId": provider_id, "organizationId": organization.id}
    )

    assert response.status_code == 201, response.text
    assert response.headers["cache-control"] == "no-store"
    async with client(stack.scim_url, response.json()["scimToken"]) as scim:
        created = await scim.create(user())
        assert (await scim.get(created["id"]))["id"] == created["id"]
    await organization.admin.delete_connection(provider_id)


async def test_t44_a_token_is_nowhere_after_it_was_shown(
    stack: Stack, organization: Organization, db: asyncpg.Connection
):
    provider_id = new_provider()
    token = (await organization.admin.generate_token(provider_id))["scimToken"]

    listed = await organization.admin.request("GET", LIST)
    got = await organization.admin.request("GET", GET, params={"providerId": provider_id})
    rows = await db.fetch("SELECT tokens::text AS token FROM tokens")

    shown = {key: value for key, value in got.json().items() if key in ("providerId", "organizationId")}
    assert shown == {"providerId": provider_id, "organizationId": organization.id}
    assert provider_id in [provider["providerId"] for provider in listed.json()["providers"]]
    assert token not in listed.text + got.text + "".join(row["token"] for row in rows)
    assert not any(token.encode().hex() in row["token"] for row in rows)
    await organization.admin.delete_connection(provider_id)


async def test_p10_a_deleted_connections_token_writes_nothing_at_once_and_reads_nothing_soon(
    stack: Stack, organization: Organization, db: asyncpg.Connection
):
    provider_id = new_provider()
    issued = await organization.admin.generate_token(provider_id)
    async with client(stack.scim_url, issued["scimToken"]) as scim:
        created = await scim.create(user())

        response = await organization.admin.request("POST", DELETE, {"providerId": provider_id})

        assert response.json() == {"success": True}
        write = await scim.request("POST", "/Users", user())
        assert write.status_code in (401, 403), write.text
        assert_error(write, write.status_code)

        async def reads_nothing() -> bool:
            return (await scim.request("GET", f"/Users/{created['id']}")).status_code == 401

        await until(reads_nothing, "the token to be dead", READ_DEADLINE)
    gone = await organization.admin.request("GET", GET, params={"providerId": provider_id})
    assert (gone.status_code, gone.json()["error"]) == (404, "not_found")


async def test_deleting_a_connection_takes_its_users_and_keeps_their_accounts(
    stack: Stack, organization: Organization, db: asyncpg.Connection
):
    provider_id = new_provider()
    issued = await organization.admin.generate_token(provider_id)
    async with client(stack.scim_url, issued["scimToken"]) as scim:
        created = await scim.create(user())
    account_of = "SELECT account_id FROM users WHERE id = $1"
    account_id = await db.fetchval(account_of, uuid.UUID(created["id"]))

    await organization.admin.delete_connection(provider_id)

    async def is_gone() -> bool:
        return await db.fetchval(account_of, uuid.UUID(created["id"])) is None

    await until(is_gone, "the users of the connection to go", 15)
    assert await db.fetchval("SELECT status FROM accounts WHERE id = $1", account_id) == "active"


async def test_t17_a_connection_of_an_old_name_has_nothing_of_the_old_one(stack: Stack, organization: Organization):
    provider_id = new_provider()
    old = await organization.admin.generate_token(provider_id)
    async with client(stack.scim_url, old["scimToken"]) as scim:
        created = await scim.create(user())
    await organization.admin.delete_connection(provider_id)

    new = await organization.admin.generate_token(provider_id)

    assert new["connectionId"] != old["connectionId"]
    async with client(stack.scim_url, new["scimToken"]) as scim:
        assert_error(await scim.request("GET", f"/Users/{created['id']}"), 404)
        assert (await scim.request("GET", "/Users")).json()["totalResults"] == 0
    await organization.admin.delete_connection(provider_id)


async def test_t48_two_tokens_overlap_and_a_third_is_refused(stack: Stack, organization: Organization):
    provider_id = new_provider()
    tokens = [(await organization.admin.generate_token(provider_id))["scimToken"] for _ in range(2)]

    third = await organization.admin.request("POST", GENERATE, {"providerId": provider_id})

    assert (third.status_code, third.json()["error"]) == (409, "conflict")
    for token in tokens:
        async with client(stack.scim_url, token) as scim:
            assert (await scim.request("GET", "/Users")).status_code == 200
    await organization.admin.delete_connection(provider_id)


async def test_t54_each_surface_refuses_the_others_credential(stack: Stack, organization: Organization):
    admin, scim = organization.admin, organization.scim

    with_scim_token = await admin.http.get(LIST, headers={"authorization": f"Bearer {scim.token}"})
    async with client(stack.scim_url, admin.session) as with_session:
        as_scim = await with_session.request("GET", "/Users")

    assert (with_scim_token.status_code, with_scim_token.json()["error"]) == (401, "unauthenticated")
    assert_error(as_scim, 401)


async def test_t18_another_organization_is_refused_whether_it_exists_or_not(
    organization: Organization, other_organization: Organization
):
    bodies = [
        {"providerId": "okta", "organizationId": organization_id}
        for organization_id in (other_organization.id, str(uuid.uuid4()))
    ]

    answers = [await organization.admin.request("POST", GENERATE, body) for body in bodies]

    assert [answer.status_code for answer in answers] == [403, 403]
    assert answers[0].json()["error"] == "forbidden"
    assert answers[0].json()["message"] == answers[1].json()["message"]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({}, 400, "validation"),
        ({"providerId": ""}, 400, "validation"),
        ({"providerId": 7}, 400, "validation"),
        ({"providerId": "okta", "scimToken": "my-own"}, 400, "validation"),
    ],
)
async def test_t45_a_wrong_request_for_a_token_is_refused(
    body: dict[str, object], status: int, code: str, organization: Organization
):
    response = await organization.admin.request("POST", GENERATE, body)

    assert response.status_code == status
    assert set(response.json()) >= {"error", "message", "requestId"}
    assert response.json()["error"] == code


@pytest.mark.parametrize(("method", "path"), [("POST", GENERATE), ("GET", LIST), ("GET", GET), ("POST", DELETE)])
async def test_t18_nobody_manages_tokens_without_a_session(method: str, path: str, organization: Organization):
    response = await organization.admin.http.request(method, path, json={"providerId": "okta"})

    assert (response.status_code, response.json()["error"]) == (401, "unauthenticated")
