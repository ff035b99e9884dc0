"""Who may see and do what in the console (threats T3, T18, T53, T54): every page and form x every kind of visitor.

The table has a row for each route under `/admin`; a new one without a row fails. Ids in paths name nothing, so whoever
is let in gets a page, 404, or the form again.
"""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import httpx
import pytest
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts

from admin_api.console.frame import CSP
from admin_api.console.session import csrf_token
from admin_api.sessions import COOKIE
from admin_stand import ORIGIN, PEPPER, World, new_client, token_of
from servicekit import bearer

PUBLIC, SIGNED_IN, ADMIN = "public", "signed in", "admin"

# Method and path of each route: who may.
ACCESS: dict[tuple[str, str], str] = {
    ("GET", "/admin"): PUBLIC,
    ("GET", "/admin/"): PUBLIC,
    ("GET", "/admin/assets/{name}"): PUBLIC,
    ("GET", "/admin/sign-in"): PUBLIC,
    ("POST", "/admin/sign-in"): PUBLIC,
    ("POST", "/admin/sign-out"): SIGNED_IN,
    ("GET", "/admin/scim"): ADMIN,
    ("GET", "/admin/scim/live"): ADMIN,
    ("GET", "/admin/scim/activity"): ADMIN,
    ("GET", "/admin/scim/activity/live"): ADMIN,
    ("GET", "/admin/scim/activity/{change_id}"): ADMIN,
    ("GET", "/admin/settings"): ADMIN,
    ("POST", "/admin/settings/api-keys"): ADMIN,
    ("GET", "/admin/settings/api-keys/{id}/revoke"): ADMIN,
    ("POST", "/admin/settings/api-keys/{id}/revoke"): ADMIN,
    ("GET", "/admin/scim/connections"): ADMIN,
    ("GET", "/admin/scim/connections/new"): ADMIN,
    ("POST", "/admin/scim/connections/new"): ADMIN,
    ("GET", "/admin/scim/connections/{id}"): ADMIN,
    ("POST", "/admin/scim/connections/{id}"): ADMIN,
    ("GET", "/admin/scim/connections/{id}/setup"): ADMIN,
    ("GET", "/admin/scim/connections/{id}/delete"): ADMIN,
    ("POST", "/admin/scim/connections/{id}/delete"): ADMIN,
    ("GET", "/admin/scim/connections/{id}/tokens/new"): ADMIN,
    ("POST", "/admin/scim/connections/{id}/tokens/new"): ADMIN,
    ("GET", "/admin/scim/connections/{id}/tokens/{token_id}"): ADMIN,
    ("POST", "/admin/scim/connections/{id}/tokens/{token_id}"): ADMIN,
    ("GET", "/admin/scim/connections/{id}/tokens/{token_id}/rotate"): ADMIN,
    ("POST", "/admin/scim/connections/{id}/tokens/{token_id}/rotate"): ADMIN,
    ("GET", "/admin/scim/connections/{id}/tokens/{token_id}/revoke"): ADMIN,
    ("POST", "/admin/scim/connections/{id}/tokens/{token_id}/revoke"): ADMIN,
    ("GET", "/admin/scim/connections/{id}/holds"): ADMIN,
    ("POST", "/admin/scim/connections/{id}/holds/review"): ADMIN,
    ("POST", "/admin/scim/connections/{id}/holds/confirm"): ADMIN,
    ("POST", "/admin/scim/connections/{id}/holds/discard"): ADMIN,
    ("GET", "/admin/scim/connections/{id}/holds/release"): ADMIN,
    ("POST", "/admin/scim/connections/{id}/holds/release"): ADMIN,
    ("GET", "/admin/scim/mappings"): ADMIN,
    ("GET", "/admin/scim/mappings/new"): ADMIN,
    ("POST", "/admin/scim/mappings/new"): ADMIN,
    ("GET", "/admin/scim/mappings/apply"): ADMIN,
    ("POST", "/admin/scim/mappings/apply"): ADMIN,
    ("GET", "/admin/scim/mappings/{id}/delete"): ADMIN,
    ("POST", "/admin/scim/mappings/{id}/delete"): ADMIN,
    ("GET", "/admin/scim/mappings/{id}/confirm"): ADMIN,
    ("POST", "/admin/scim/mappings/{id}/confirm"): ADMIN,
    ("GET", "/admin/scim/link-requests"): ADMIN,
    ("GET", "/admin/scim/link-requests/{request_id}/approve"): ADMIN,
    ("POST", "/admin/scim/link-requests/{request_id}/approve"): ADMIN,
    ("GET", "/admin/scim/link-requests/{request_id}/reject"): ADMIN,
    ("POST", "/admin/scim/link-requests/{request_id}/reject"): ADMIN,
    ("GET", "/admin/scim/quarantine"): ADMIN,
    ("GET", "/admin/scim/quarantine/{record_id}"): ADMIN,
    ("POST", "/admin/scim/quarantine/{record_id}/retry"): ADMIN,
    ("GET", "/admin/scim/quarantine/{record_id}/discard"): ADMIN,
    ("POST", "/admin/scim/quarantine/{record_id}/discard"): ADMIN,
    ("GET", "/admin/roles"): ADMIN,
    ("GET", "/admin/roles/new"): ADMIN,
    ("POST", "/admin/roles/new"): ADMIN,
    ("GET", "/admin/roles/{id}"): ADMIN,
    ("POST", "/admin/roles/{id}"): ADMIN,
    ("GET", "/admin/roles/{id}/delete"): ADMIN,
    ("POST", "/admin/roles/{id}/delete"): ADMIN,
    ("GET", "/admin/users"): ADMIN,
    ("GET", "/admin/users/new"): ADMIN,
    ("POST", "/admin/users/new"): ADMIN,
    ("GET", "/admin/users/access-report"): ADMIN,
    ("GET", "/admin/users/access-report.csv"): ADMIN,
    ("GET", "/admin/users/{account_id}"): ADMIN,
    ("POST", "/admin/users/{account_id}"): ADMIN,
    ("GET", "/admin/users/{account_id}/suspend"): ADMIN,
    ("POST", "/admin/users/{account_id}/suspend"): ADMIN,
    ("POST", "/admin/users/{account_id}/reactivate"): ADMIN,
    ("POST", "/admin/users/{account_id}/break-glass"): ADMIN,
    ("POST", "/admin/users/{account_id}/grants"): ADMIN,
    ("GET", "/admin/users/{account_id}/grants/{role_id}/revoke"): ADMIN,
    ("POST", "/admin/users/{account_id}/grants/{role_id}/revoke"): ADMIN,
    ("POST", "/admin/users/{account_id}/links"): ADMIN,
    ("GET", "/admin/users/{account_id}/links/{connection_id}/unlink"): ADMIN,
    ("POST", "/admin/users/{account_id}/links/{connection_id}/unlink"): ADMIN,
}

SIGN_IN_FIRST, FORBIDDEN, LET_IN = "sign in first", "403", "let in"
NOBODY = {SIGNED_IN: SIGN_IN_FIRST, ADMIN: SIGN_IN_FIRST}
VISITORS: dict[str, dict[str, str]] = {
    "anonymous": NOBODY,
    "member": {SIGNED_IN: LET_IN, ADMIN: FORBIDDEN},
    "admin": {SIGNED_IN: LET_IN, ADMIN: LET_IN},
    "admin of a lapsed plan": {SIGNED_IN: LET_IN, ADMIN: FORBIDDEN},
    "expired session": NOBODY,
    "idle session": NOBODY,
    "suspended admin": NOBODY,
    "bearer token of an admin's session": NOBODY,
}


async def visitor(world: World, kind: str) -> tuple[httpx.AsyncClient, str]:
    """A client with the cookie of a session, and the token that its forms carry."""
    client = new_client(world.app)
    client.headers["origin"] = ORIGIN
    if kind == "anonymous":
        return client, ""
    organization = await world.organization("free" if "lapsed" in kind else "enterprise")
    person = await world.person(organization, [] if kind == "member" else ["admin"])
    secret = token_of(await world.signed_in(person))
    digest = bearer.digest(PEPPER.encode(), "session", secret)
    past = datetime.now(UTC) - timedelta(minutes=16)
    if kind == "expired session":
        await world.db.execute("UPDATE sessions SET expires_at = $2 WHERE digest = $1", digest, past)
    if kind == "idle session":
        await world.db.execute("UPDATE sessions SET last_seen_at = $2 WHERE digest = $1", digest, past)
    if kind == "suspended admin":
        await world.db.execute("UPDATE accounts SET status = 'suspended' WHERE id = $1", person.id)
    name, value = ("authorization", f"Bearer {secret}") if "bearer" in kind else ("cookie", f"{COOKIE}={secret}")
    client.headers[name] = value
    return client, csrf_token(PEPPER.encode(), secret)


async def call(client: httpx.AsyncClient, method: str, path: str, csrf: str) -> httpx.Response:
    """The request with ids that nothing has; a POST carries the form's token and nothing else."""
    for name in ("id", "token_id", "role_id", "change_id", "record_id", "request_id", "account_id", "connection_id"):
        path = path.replace(f"{{{name}}}", str(uuid4()))
    path = path.replace("{name}", "nothing")
    return await client.request(method, path, data={"csrf": csrf} if method == "POST" else None)


def test_every_route_of_the_console_has_a_row(app: FastAPI) -> None:
    routes = {
        (method, route.path or "")
        for route in iter_route_contexts(app.routes)
        for method in route.methods or ()
        if method != "HEAD" and (route.path or "").startswith("/admin")
    }
    assert routes == set(ACCESS)


@pytest.mark.parametrize("kind", VISITORS)
async def test_t18_t54_only_the_allowed_visitors_are_let_in(world: World, kind: str) -> None:
    """T18, T54."""
    client, csrf = await visitor(world, kind)

    for (method, path), access in sorted(ACCESS.items(), key=lambda row: "sign-out" in row[0][1]):
        if path.endswith("/live") and VISITORS[kind][access] == LET_IN:
            continue  # an answer without an end: tests-e2e/tests/console/test_console_live.py
        answer = await call(client, method, path, csrf)
        cell = f"{kind}: {method} {path}: {answer.status_code} {answer.text[:300]}"
        assert answer.headers["content-security-policy"] == CSP, cell
        match LET_IN if access == PUBLIC else VISITORS[kind][access]:
            case "sign in first":
                assert answer.status_code == 303, cell
                assert answer.headers["location"].startswith("/admin/sign-in?returnTo="), cell
            case "403":
                assert answer.status_code == 403, cell
                assert answer.headers["content-type"].startswith("text/html"), cell
            case _:
                assert answer.status_code in (200, 303, 400, 401, 404, 409, 422, 503), cell
                assert not answer.headers.get("location", "").startswith("/admin/sign-in?"), cell


@pytest.mark.parametrize("spoil", ["no token", "another session's token", "another site", "no origin"])
async def test_t53_forms_that_are_not_ours_are_refused(world: World, spoil: str) -> None:
    """T53: each form of an admin, from elsewhere."""
    client, csrf = await visitor(world, "admin")
    match spoil:
        case "no token":
            csrf = ""
        case "another session's token":
            _, csrf = await visitor(world, "admin")
        case "another site":
            client.headers["origin"] = "https://elsewhere.test"
        case _:
            del client.headers["origin"]

    for (method, path), access in ACCESS.items():
        if method == "POST" and access != PUBLIC:
            answer = await call(client, method, path, csrf)
            assert answer.status_code == 403, f"{path}: {answer.status_code} {answer.text[:300]}"
