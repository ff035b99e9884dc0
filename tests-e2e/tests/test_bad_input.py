"""Whatever is sent, the answer is a SCIM error with the right status and a sentence that helps (P12)."""

import asyncio
import uuid
from typing import Any
from urllib.parse import SplitResult, urlsplit

import pytest

from e2e.scim import CORE_USER, PATCH_OP, Scim, assert_error, new_name, user
from e2e.stack import Stack
from e2e.tls import authorities

MEGABYTE = 1024 * 1024


def core(members: str) -> str:
    """The text of a user with these members."""
    return f'{{"schemas": ["{CORE_USER}"], {members}}}'


BODIES: list[tuple[str, str | bytes, int, str | None]] = [
    ("nothing", "", 400, "invalidSyntax"),
    ("not JSON", "userName=ada", 400, "invalidSyntax"),
    ("half an object", '{"userName": "ada', 400, "invalidSyntax"),
    ("a list", "[]", 400, "invalidSyntax"),
    ("a text", '"ada"', 400, "invalidSyntax"),
    ("null", "null", 400, "invalidSyntax"),
    ("two documents", '{"userName": "a"}{"userName": "b"}', 400, "invalidSyntax"),
    ("UTF-16", '{"userName": "ada"}'.encode("utf-16"), 400, "invalidSyntax"),
    ("broken UTF-8", b'{"userName": "\xff\xfe"}', 400, "invalidSyntax"),
    ("a lone surrogate", rb'{"userName": "\ud800"}', 400, None),
    ("a NUL", core('"userName": "a\\u0000b"'), 400, None),
    ("NaN", core('"userName": "a", "title": NaN'), 400, "invalidSyntax"),
    ("a member twice", '{"userName": "a", "active": true, "active": false}', 400, "invalidSyntax"),
    ("a member twice by case", '{"userName": "a", "USERNAME": "b"}', 400, "invalidSyntax"),
    ("deep nesting", "[" * 10_000, 400, "invalidSyntax"),
    ("a number of 5,000 digits", '{"userName": "a", "x": %s}' % ("9" * 5000), 400, None),
    ("no userName", core('"active": true'), 400, "invalidValue"),
    ("an empty userName", core('"userName": ""'), 400, "invalidValue"),
    ("a userName that is a number", core('"userName": 7'), 400, "invalidValue"),
    ("a name that is a text", core('"userName": "a", "name": "Ada"'), 400, "invalidValue"),
    ("an active that is a number", core('"userName": "a", "active": 2'), 400, "invalidValue"),
    ("a body over 1 MB", b'{"userName": "' + b"a" * MEGABYTE + b'"}', 413, None),
]

PATCHES: list[tuple[str, Any, int, str | None]] = [
    ("no operations", {"schemas": [PATCH_OP]}, 400, "invalidSyntax"),
    ("no schemas", {"Operations": [{"op": "replace", "path": "title", "value": "x"}]}, 400, "invalidSyntax"),
    ("an unknown op", [{"op": "move", "path": "title", "value": "x"}], 400, "invalidSyntax"),
    ("a remove without path", [{"op": "remove"}], 400, "noTarget"),
    ("a broken path", [{"op": "replace", "path": "emails[type eq", "value": "x"}], 400, None),
    ("an unknown path", [{"op": "replace", "path": "shoeSize", "value": 44}], 400, "invalidPath"),
    ("internals", [{"op": "replace", "path": "__class__.x", "value": 44}], 400, "invalidPath"),
    ("the id", [{"op": "replace", "path": "id", "value": "1"}], 400, "mutability"),
    ("a wrong type", [{"op": "replace", "path": "active", "value": "perhaps"}], 400, "invalidValue"),
    ("no userName", [{"op": "remove", "path": "userName"}], 400, None),
]

FILTERS = [
    *("userName", "userName eq", 'userName eq "x', 'userName eq "x" and', '(userName eq "x"', 'userName ~ "x"'),
    *('password eq "x"', 'shoeSize eq "44"', "(" * 2000, 'id;drop table users eq "1"', "not " * 500 + 'id eq "1"'),
]


@pytest.mark.parametrize(("body", "status", "scim_type"), [row[1:] for row in BODIES], ids=[row[0] for row in BODIES])
async def test_a_create_from(body: str | bytes, status: int, scim_type: str | None, scim: Scim):
    assert_error(await scim.request("POST", "/Users", body), status, scim_type)


@pytest.mark.parametrize(("body", "status", "scim_type"), [row[1:] for row in PATCHES], ids=[row[0] for row in PATCHES])
async def test_a_patch_with(body: Any, status: int, scim_type: str | None, scim: Scim):
    created = await scim.create(user())
    document = {"schemas": [PATCH_OP], "Operations": body} if isinstance(body, list) else body

    assert_error(await scim.request("PATCH", f"/Users/{created['id']}", document), status, scim_type)

    assert await scim.get(created["id"]) == created


@pytest.mark.parametrize("filter", FILTERS, ids=lambda text: text[:20])
async def test_a_filter_that_is(filter: str, scim: Scim):
    assert_error(await scim.request("GET", "/Users", params={"filter": filter}), 400, "invalidFilter")


@pytest.mark.parametrize("query", ["count=many", "startIndex=first", "sortOrder=upwards&sortBy=userName"])
async def test_a_list_with(query: str, scim: Scim):
    assert_error(await scim.request("GET", f"/Users?{query}"), 400)


@pytest.mark.parametrize(
    "user_id", ["1", "null", "%20", "a" * 500, "..%2fUsers", "6b0c9a52-1d1e-4f77-8b1f-2f5b6a3c9d10", "%00", "🦊"]
)
async def test_an_unknown_id(user_id: str, scim: Scim):
    response = await scim.request("GET", f"/Users/{user_id}")

    assert response.status_code in (400, 404), response.text
    assert_error(response, response.status_code)


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
async def test_a_write_to_an_unknown_id(method: str, scim: Scim):
    operations = {"schemas": [PATCH_OP], "Operations": [{"op": "replace", "path": "active", "value": True}]}
    body = {"PUT": user(), "PATCH": operations}.get(method)

    assert_error(await scim.request(method, f"/Users/{uuid.uuid4()}", body), 404)


@pytest.mark.parametrize(
    "path", ["/Nothing", "/Users/a/b", "/Users/", "/users", "//Users", "/Users%2f", "/%2e%2e/Users", "/Users;x=1"]
)
async def test_t23_a_path_that_is_nothing(path: str, scim: Scim):
    response = await scim.http.get(path, headers={"authorization": f"Bearer {scim.token}"})
    anonymous = await scim.http.get(path)

    assert response.status_code in (400, 404), response.text
    assert_error(response, response.status_code)
    assert_error(anonymous, anonymous.status_code)
    assert anonymous.status_code in (400, 401)


AUTHORIZATIONS = [None, "", "non-token", "Bearer", "Bearer wrong", "Basic YTpi", "Bearer a, Bearer b", "Bearer a b"]


@pytest.mark.parametrize("authorization", AUTHORIZATIONS)
@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/Users"), ("POST", "/Users"), ("GET", "/Schemas"), ("GET", "/x")]
)
async def test_t19_no_valid_token(authorization: str | None, method: str, path: str, scim: Scim):
    headers = {"authorization": authorization} if authorization is not None else {}

    response = await scim.http.request(method, path, headers=headers, json=user() if method == "POST" else None)

    assert_error(response, 401)
    assert "bearer" in response.headers["www-authenticate"].lower()


async def test_t19_a_token_that_is_nearly_right(scim: Scim):
    token = scim.token
    for wrong in (token[:-1], token + "x", token.upper(), token[:-1] + ("a" if token[-1] != "a" else "b")):
        response = await scim.request("GET", "/Users", headers={"authorization": f"Bearer {wrong}"})
        assert_error(response, 401)


async def test_t40_a_token_in_the_url_is_refused(scim: Scim):
    assert_error(await scim.http.get(f"/Users?access_token={scim.token}"), 401)


@pytest.mark.parametrize("swapped", [False, True])
async def test_t41_two_authorization_headers_are_refused_in_any_order(swapped: bool, scim: Scim):
    headers = [("authorization", f"Bearer {scim.token}"), ("authorization", "Bearer other")]

    response = await scim.http.get("/Users", headers=headers[::-1] if swapped else headers)

    assert_error(response, 400)


@pytest.mark.parametrize("content_type", ["text/plain", "text/xml", "application/x-www-form-urlencoded", "nonsense"])
async def test_t42_a_body_of_another_type(content_type: str, scim: Scim):
    response = await scim.request("POST", "/Users", user(), headers={"content-type": content_type})

    assert_error(response, 415)


async def test_t27_a_compressed_body_is_refused(scim: Scim):
    response = await scim.request("POST", "/Users", user(), headers={"content-encoding": "gzip"})

    assert_error(response, 415)


@pytest.mark.parametrize(
    ("method", "path"),
    [("PUT", "/Users"), ("DELETE", "/Users"), ("POST", "/Schemas"), ("PATCH", "/ServiceProviderConfig")],
)
async def test_t42_a_method_that_the_endpoint_has_not(method: str, path: str, scim: Scim):
    response = await scim.request(method, path, user())

    assert_error(response, 405)
    assert "GET" in response.headers["allow"]


async def test_t42_a_method_override_is_ignored(scim: Scim):
    created = await scim.create(user())

    await scim.request("GET", f"/Users/{created['id']}", headers={"x-http-method-override": "DELETE"})

    assert await scim.get(created["id"]) == created


async def test_t27_a_chunked_body_over_1_mb_is_refused(scim: Scim):
    async def chunks():
        yield b'{"userName": "'
        for _ in range(40):
            yield b"a" * 65536
        yield b'"}'

    headers = {"authorization": f"Bearer {scim.token}", "content-type": "application/scim+json"}
    response = await scim.http.post("/Users", content=chunks(), headers=headers)

    assert_error(response, 413)


async def test_details_do_not_repeat_what_was_sent(scim: Scim):
    canary = f"{{{uuid.uuid4().hex}}}"

    for response in (
        await scim.request("GET", "/Users", params={"filter": f'{canary} eq "x"'}),
        await scim.request("POST", "/Users", {"schemas": [CORE_USER], "userName": new_name(), "active": canary}),
        await scim.request("POST", "/Users", f'{{"userName": {canary}'),
    ):
        assert canary not in assert_error(response, 400)


RAW = {
    "no HTTP": b"hello\r\n\r\n",
    "a bare CR": b"GET / HTTP/1.1\rHost: x\r\n\r\n",
    "two Hosts": b"GET %s HTTP/1.1\r\nHost: a\r\nHost: b\r\nAuthorization: Bearer %s\r\n\r\n",
    "a hostile Host": b"GET %s HTTP/1.1\r\nHost: x/admin?\r\nAuthorization: Bearer %s\r\n\r\n",
    "length and chunks": b"POST %s HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer %s\r\nContent-Length: 4\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "headers of 1 MB": b"GET %s HTTP/1.1\r\nHost: a\r\nX-Filler: " + b"x" * MEGABYTE + b"\r\n\r\n",
}


@pytest.mark.parametrize("name", RAW)
async def test_t25_bytes_that_are_hostile_get_4xx_or_a_closed_connection(name: str, stack: Stack, scim: Scim):
    url = urlsplit(stack.scim_url)
    data = RAW[name]
    if b"%s" in data:
        data = data.replace(b"%s", f"{url.path}/Users".encode(), 1).replace(b"%s", scim.token.encode(), 1)

    answer = await exchange(url, data)

    assert not answer or answer.split(b" ", 2)[1].startswith(b"4"), answer[:200]
    assert b"Resources" not in answer
    assert (await scim.request("GET", "/Users?count=0")).status_code == 200


async def exchange(url: SplitResult, data: bytes) -> bytes:
    """What comes back, until the server ends the connection or is silent for two seconds."""
    reader, writer = await asyncio.open_connection(
        url.hostname, url.port or 80, ssl=authorities() if url.scheme == "https" else None
    )
    answer = b""
    try:
        writer.write(data)
        await writer.drain()
        while chunk := await asyncio.wait_for(reader.read(65536), 2):
            answer += chunk
    except (TimeoutError, ConnectionError):
        pass
    finally:
        writer.close()
    return answer
