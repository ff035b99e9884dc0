"""Who may do what (threats T3, T18, T54): every endpoint x every kind of caller.

The table has a row for each route of the application; a new route without one fails. Requests carry ids that nothing
has and empty bodies, so a caller who is let
through gets a 2xx, 400, 404, 409 or 503; who is not gets exactly the refusal that the table says.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts

from admin_api import changes
from admin_api.api_keys import API_KEY
from admin_stand import PEPPER, Person, World, assert_refused, new_client, token_of
from servicekit import bearer

PUBLIC, SIGNED_IN, ADMIN, OPERATOR = "public", "signed in", "admin", "operator"

# Method and path of each route: who may. What begins alike is written once.
SCIM = "/api/v1/admin/scim"
ACCESS: dict[tuple[str, str], str] = {
    ("GET", "/"): PUBLIC,
    ("POST", "/api/auth/sign-in/email"): PUBLIC,
    ("GET", "/api/auth/sign-in/ways"): PUBLIC,
    ("GET", "/api/auth/sign-in/oidc"): PUBLIC,
    ("GET", "/api/auth/callback/oidc"): PUBLIC,
    ("GET", "/api/v1/admin/openapi.json"): PUBLIC,
    ("POST", "/api/auth/sign-out"): SIGNED_IN,
    ("GET", "/api/auth/get-session"): SIGNED_IN,
    ("POST", "/api/auth/scim/generate-token"): ADMIN,
    ("GET", "/api/auth/scim/list-provider-connections"): ADMIN,
    ("GET", "/api/auth/scim/get-provider-connection"): ADMIN,
    ("POST", "/api/auth/scim/delete-provider-connection"): ADMIN,
    ("GET", "/api/v1/admin/organizations"): OPERATOR,
    ("POST", "/api/v1/admin/organizations"): OPERATOR,
    ("GET", "/api/v1/admin/organizations/{id}"): OPERATOR,
    ("PATCH", "/api/v1/admin/organizations/{id}"): OPERATOR,
    ("GET", "/api/v1/admin/api-keys"): ADMIN,
    ("POST", "/api/v1/admin/api-keys"): ADMIN,
    ("DELETE", "/api/v1/admin/api-keys/{id}"): ADMIN,
    ("GET", "/api/v1/admin/roles"): ADMIN,
    ("POST", "/api/v1/admin/roles"): ADMIN,
    ("GET", "/api/v1/admin/roles/{id}"): ADMIN,
    ("PATCH", "/api/v1/admin/roles/{id}"): ADMIN,
    ("DELETE", "/api/v1/admin/roles/{id}"): ADMIN,
    ("GET", f"{SCIM}/group-mappings"): ADMIN,
    ("POST", f"{SCIM}/group-mappings"): ADMIN,
    ("GET", f"{SCIM}/group-mappings/{{id}}"): ADMIN,
    ("DELETE", f"{SCIM}/group-mappings/{{id}}"): ADMIN,
    ("POST", f"{SCIM}/group-mappings/apply"): ADMIN,
    ("POST", f"{SCIM}/group-mappings/preview"): ADMIN,
    ("GET", SCIM): ADMIN,
    ("GET", f"{SCIM}/"): ADMIN,
    ("GET", f"{SCIM}/connections/{{id}}"): ADMIN,
    ("PATCH", f"{SCIM}/connections/{{id}}"): ADMIN,
    ("DELETE", f"{SCIM}/connections/{{id}}"): ADMIN,
    ("GET", f"{SCIM}/connections/{{id}}/tokens"): ADMIN,
    ("POST", f"{SCIM}/connections/{{id}}/tokens"): ADMIN,
    ("POST", f"{SCIM}/connections/{{id}}/tokens/{{token_id}}/rotate"): ADMIN,
    ("PATCH", f"{SCIM}/connections/{{id}}/tokens/{{token_id}}"): ADMIN,
    ("DELETE", f"{SCIM}/connections/{{id}}/tokens/{{token_id}}"): ADMIN,
    ("POST", f"{SCIM}/connections/{{connection_id}}/release-guard"): ADMIN,
    ("POST", f"{SCIM}/connections/{{connection_id}}/preview"): ADMIN,
    ("GET", f"{SCIM}/link-requests"): ADMIN,
    ("POST", f"{SCIM}/link-requests/{{request_id}}/approve"): ADMIN,
    ("POST", f"{SCIM}/link-requests/{{request_id}}/reject"): ADMIN,
    ("GET", f"{SCIM}/holds"): ADMIN,
    ("POST", f"{SCIM}/holds/confirm"): ADMIN,
    ("POST", f"{SCIM}/holds/discard"): ADMIN,
    ("GET", f"{SCIM}/log"): ADMIN,
    ("GET", f"{SCIM}/log/export"): ADMIN,
    ("GET", f"{SCIM}/log/{{change_id}}"): ADMIN,
    ("GET", f"{SCIM}/quarantine"): ADMIN,
    ("GET", f"{SCIM}/quarantine/{{record_id}}"): ADMIN,
    ("POST", f"{SCIM}/quarantine/{{record_id}}/retry"): ADMIN,
    ("POST", f"{SCIM}/quarantine/{{record_id}}/discard"): ADMIN,
    ("GET", f"{SCIM}/access-report"): ADMIN,
    ("GET", f"{SCIM}/access-report/export"): ADMIN,
    ("POST", f"{SCIM}/verify"): ADMIN,
    ("GET", "/api/v1/admin/audit"): ADMIN,
    ("GET", "/api/v1/admin/audit/export"): ADMIN,
    ("POST", "/api/v1/admin/audit/verify"): ADMIN,
    ("GET", "/api/v1/admin/users"): ADMIN,
    ("POST", "/api/v1/admin/users"): ADMIN,
    ("GET", "/api/v1/admin/users/{account_id}"): ADMIN,
    ("PATCH", "/api/v1/admin/users/{account_id}"): ADMIN,
    ("POST", "/api/v1/admin/users/{account_id}/suspend"): ADMIN,
    ("POST", "/api/v1/admin/users/{account_id}/reactivate"): ADMIN,
    ("POST", "/api/v1/admin/users/{account_id}/grants"): ADMIN,
    ("DELETE", "/api/v1/admin/users/{account_id}/grants/{role_id}"): ADMIN,
    ("POST", "/api/v1/admin/users/{account_id}/links"): ADMIN,
    ("DELETE", "/api/v1/admin/users/{account_id}/links/{connection_id}"): ADMIN,
}

UNAUTHENTICATED = (401, "unauthenticated")
FORBIDDEN = (403, "forbidden")
LAPSED = (403, "enterprise_required")
LET_THROUGH = None

Refusal = tuple[int, str] | None
NOBODY: dict[str, Refusal] = dict.fromkeys((SIGNED_IN, ADMIN, OPERATOR), UNAUTHENTICATED)
# What each kind of caller gets from each kind of endpoint; everybody is let through to public ones.
CELLS: dict[str, dict[str, Refusal]] = {
    "anonymous": NOBODY,
    "member": {SIGNED_IN: LET_THROUGH, ADMIN: FORBIDDEN, OPERATOR: FORBIDDEN},
    "admin": {SIGNED_IN: LET_THROUGH, ADMIN: LET_THROUGH, OPERATOR: FORBIDDEN},
    "admin of a lapsed plan": {SIGNED_IN: LET_THROUGH, ADMIN: LAPSED, OPERATOR: FORBIDDEN},
    "operator": {SIGNED_IN: UNAUTHENTICATED, ADMIN: FORBIDDEN, OPERATOR: LET_THROUGH},
    "API key": {SIGNED_IN: UNAUTHENTICATED, ADMIN: LET_THROUGH, OPERATOR: FORBIDDEN},
    "API key of a lapsed plan": {SIGNED_IN: UNAUTHENTICATED, ADMIN: LAPSED, OPERATOR: FORBIDDEN},
    "SCIM token": NOBODY,
    "expired session": NOBODY,
    "idle session": NOBODY,
    "suspended admin": NOBODY,
    "revoked API key": NOBODY,
    "expired API key": NOBODY,
    "API key of a suspended admin": NOBODY,
    "API key of somebody who is no admin any more": NOBODY,
    "API key with another's checksum": NOBODY,
}


def routes_of(app: FastAPI) -> set[tuple[str, str]]:
    """Method and path of everything but the health probes and the console (its pages have a table of their own, in
    test_console_matrix.py); HEAD goes with GET."""
    routes = {
        (method, route.path or "")
        for route in iter_route_contexts(app.routes)
        for method in route.methods or ()
        if method != "HEAD"
    }
    return {(method, path) for method, path in routes if not path.startswith(("/health/", "/admin"))}


def with_ids(path: str, ids: dict[str, str] | None = None) -> str:
    """The path with an id for each parameter, one that nothing has when none is given."""
    while "{" in path:
        name = path[path.index("{") + 1 : path.index("}")]
        path = path.replace("{" + name + "}", (ids or {}).get(name, str(uuid4())), 1)
    return path


async def call(client: httpx.AsyncClient, method: str, path: str, **more: Any) -> httpx.Response:
    return await client.request(method, path, json=None if method == "GET" else {}, **more)


@dataclass(frozen=True)
class Callers:
    """One client of each kind; those with a session get a new one for sign-out's sake."""

    world: World

    async def of(self, kind: str) -> httpx.AsyncClient:
        world = self.world
        plan = "free" if "lapsed" in kind else "enterprise"
        organization = await world.organization(plan)
        match kind:
            case "anonymous":
                return new_client(world.app)
            case "member":
                return await world.signed_in(await world.person(organization, ["member"]))
            case "SCIM token":
                admin = await world.signed_in(await world.person(organization))
                issued = await admin.post("/api/auth/scim/generate-token", json={"providerId": "okta"})
                return self._bearing(issued.json()["scimToken"])
            case "operator":
                return self._bearing(await self._key(None, "operator"))
        person = await world.person(organization)
        if "API key" in kind:
            return self._bearing(await self._spoiled_key(kind, person))
        client = await world.signed_in(person)
        await self._spoil_session(kind, client, person)
        return client

    def _bearing(self, secret: str) -> httpx.AsyncClient:
        client = new_client(self.world.app)
        client.headers["authorization"] = f"Bearer {secret}"
        return client

    async def _spoil_session(self, kind: str, client: httpx.AsyncClient, person: Person) -> None:
        digest = bearer.digest(PEPPER.encode(), "session", token_of(client))
        past = datetime.now(UTC) - timedelta(minutes=16)
        if kind == "expired session":
            await self.world.db.execute("UPDATE sessions SET expires_at = $2 WHERE digest = $1", digest, past)
        if kind == "idle session":
            await self.world.db.execute("UPDATE sessions SET last_seen_at = $2 WHERE digest = $1", digest, past)
        if kind == "suspended admin":
            await self.world.db.execute("UPDATE accounts SET status = 'suspended' WHERE id = $1", person.id)

    async def _spoiled_key(self, kind: str, person: Person) -> str:
        now = datetime.now(UTC)
        expires_at = now - timedelta(seconds=1) if kind == "expired API key" else None
        revoked_at = now if kind == "revoked API key" else None
        secret = await self._key(person.organization_id, f"account:{person.id}", expires_at, revoked_at)
        if kind == "API key of a suspended admin":
            await self.world.db.execute("UPDATE accounts SET status = 'suspended' WHERE id = $1", person.id)
        if kind == "API key of somebody who is no admin any more":
            await self.world.db.execute("DELETE FROM grants WHERE account_id = $1", person.id)
        return secret[:-6] + bearer.mint(API_KEY)[-6:] if "checksum" in kind else secret

    async def _key(
        self,
        organization: UUID | None,
        created_by: str,
        expires_at: datetime | None = None,
        revoked_at: datetime | None = None,
    ) -> str:
        secret = bearer.mint(API_KEY)
        await self.world.db.execute(
            """
            INSERT INTO api_keys
                (id, organization_id, name, digest, hint, created_by, created_at, expires_at, revoked_at)
            VALUES ($1, $2, 'a key', $3, $4, $5, now(), $6, $7)
            """,
            *(uuid4(), organization, bearer.digest(PEPPER.encode(), API_KEY, secret), bearer.hint(secret)),
            *(created_by, expires_at, revoked_at),
        )
        return secret


def test_every_route_has_a_row(app: FastAPI) -> None:
    assert routes_of(app) == set(ACCESS)


@pytest.mark.parametrize("kind", CELLS)
async def test_t18_t54_only_the_allowed_cells_are_let_through(
    world: World, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """T18, T54."""
    monkeypatch.setattr(changes, "DECISION_TIMEOUT", timedelta(0))  # nobody decides here
    callers = Callers(world)
    client = await callers.of(kind)
    ends_the_session = ("POST", "/api/auth/sign-out")

    for (method, path), access in sorted(ACCESS.items(), key=lambda row: row[0] == ends_the_session):
        refusal = LET_THROUGH if access == PUBLIC else CELLS[kind][access]
        answer = await call(client, method, with_ids(path))
        cell = f"{kind}: {method} {path}: {answer.status_code} {answer.text[:200]}"
        if refusal:
            assert (answer.status_code, answer.json()["error"]) == refusal, cell
            assert_refused(answer, *refusal)
        elif path == "/api/auth/callback/oidc":
            assert answer.status_code == 404, cell
        else:
            assert answer.status_code in (200, 201, 204, 400, 404, 409, 503), cell


async def test_t03_foreign_ids_answer_like_unknown_ones(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """T3: for each route with an id, the other organization's admin and key; nothing of the owner's changes."""
    monkeypatch.setattr(changes, "DECISION_TIMEOUT", timedelta(0))
    organization = await world.organization()
    owner = await world.person(organization)
    things = await new_things(world, await world.signed_in(owner), owner)
    before = await dump(world, organization)
    callers = Callers(world)

    for kind in ("admin", "API key"):
        client = await callers.of(kind)
        for method, path in sorted(ACCESS):
            if "{" not in path or ACCESS[method, path] != ADMIN:
                continue
            ids = {name: things[path, name] for name in names_in(path)}
            foreign = await call(client, method, with_ids(path, ids))
            unknown = await call(client, method, with_ids(path))
            assert foreign.status_code == unknown.status_code, f"{method} {path}: {foreign.text} {unknown.text}"
            assert foreign.status_code in (400, 404, 503), f"{method} {path}: {foreign.text}"
            assert without_ids(foreign, ids) == without_ids(unknown, {}), f"{method} {path}"
            if foreign.status_code == 503:  # a change was published, which the provisioner refuses (its tests)
                assert "outcome" in foreign.json()["message"], foreign.text

    assert await dump(world, organization) == before


def names_in(path: str) -> list[str]:
    return [part[1:-1] for part in path.split("/") if part.startswith("{")]


def without_ids(answer: httpx.Response, ids: dict[str, str]) -> tuple[str, str]:
    """The refusal without what differs between any two requests."""
    body = answer.json()
    message = body["message"]
    if answer.status_code == 503:
        message = "a change's id"
    for value in ids.values():
        assert value not in message
    return body["error"], message


class Things(dict[tuple[str, str], str]):
    """Ids of the owner's things by the path and the name of its parameter."""

    def __init__(self, by_name: dict[str, str]) -> None:
        super().__init__()
        self._by_name = by_name

    def __missing__(self, key: tuple[str, str]) -> str:
        path, name = key
        segment = path.split("/{" + name)[0].rsplit("/", 1)[1]
        return self._by_name[segment]


async def new_things(world: World, admin: httpx.AsyncClient, owner: Person) -> Things:
    """One of everything that has an id in a path, by the segment before the id."""

    async def made(path: str, **body: Any) -> dict[str, Any]:
        answer = await admin.post(path, json=body)
        assert answer.status_code == 201, answer.text
        return answer.json()

    role = await made("/api/v1/admin/roles", name="Auditor")
    issued = await made("/api/auth/scim/generate-token", providerId="okta")
    mapping = await made(f"{SCIM}/group-mappings", scimGroupName="Finance", roleName="Auditor")
    key = await made("/api/v1/admin/api-keys", name="a key")
    request, change = uuid4(), uuid4()
    await world.db.execute(
        """
        INSERT INTO link_requests (id, organization_id, connection_id, account_id, user_name, change_id, requested_at)
        VALUES ($1, $2, $3, $4, 'ada', $1, now())
        """,
        *(request, owner.organization_id, UUID(issued["connectionId"]), owner.id),
    )
    await world.db.execute(
        """
        INSERT INTO outcomes (change_id, organization_id, actor, resource_type, operation, resource_id, status, reply,
                              received_at, applied_at)
        VALUES ($1, $2, 'token', 'User', 'create', $1, 201, '{}', now(), now())
        """,
        *(change, owner.organization_id),
    )
    record = uuid4()
    await world.db.execute(
        """
        INSERT INTO quarantine (id, topic, partition, record_offset, organization_id, error, created_at)
        VALUES ($1, 'scim.changes', 0, $2, $3, 'a bug', now())
        """,
        *(record, record.int % 2**40, owner.organization_id),
    )
    return Things(
        {
            "roles": role["id"],
            "group-mappings": mapping["id"],
            "connections": issued["connectionId"],
            "links": issued["connectionId"],
            "tokens": issued["tokenId"],
            "api-keys": key["id"],
            "users": str(owner.id),
            "grants": role["id"],
            "link-requests": str(request),
            "log": str(change),
            "quarantine": str(record),
        }
    )


async def dump(world: World, organization: UUID) -> list[str]:
    """The rows of the organization that admin-api writes."""
    return [
        str(row)
        for table in ("roles", "connections", "group_mappings", "api_keys", "link_requests")
        for row in await world.db.fetch(f"SELECT * FROM {table} WHERE organization_id = $1 ORDER BY id", organization)
    ] + [
        str(row)
        for row in await world.db.fetch(
            "SELECT t.* FROM tokens t JOIN connections c ON c.id = t.connection_id WHERE c.organization_id = $1",
            organization,
        )
    ]


async def test_a_lapsed_plan_loses_nothing_and_works_again_when_it_is_back(world: World) -> None:
    organization = await world.organization()
    owner = await world.person(organization)
    admin = await world.signed_in(owner)
    await new_things(world, admin, owner)
    operator = await Callers(world).of("operator")
    before = (await admin.get(SCIM)).json(), (await admin.get(f"{SCIM}/group-mappings")).json()

    lapsed = await operator.patch(f"/api/v1/admin/organizations/{organization}", json={"plan": "free"})
    assert (lapsed.status_code, lapsed.json()["plan"]) == (200, "free")
    assert_refused(await admin.get(SCIM), 403, "enterprise_required")
    assert (await admin.get("/api/auth/get-session")).status_code == 200
    assert (await operator.patch(f"/api/v1/admin/organizations/{organization}", json={"plan": "enterprise"})).is_success

    assert ((await admin.get(SCIM)).json(), (await admin.get(f"{SCIM}/group-mappings")).json()) == before
