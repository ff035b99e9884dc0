"""The SCIM operations, as a client sees them."""

from datetime import timedelta
from uuid import uuid4

import pytest

from contracts import CHANGE_ID_HEADER, Operation, ResourceType
from gateway_stand import applied, patch, refused, user
from servicekit.kafka import partition_of

SCIM = "application/scim+json"


async def test_a_create_is_published_and_answered_with_the_resource(gateway, script, tenant):
    answer = await gateway.client.post("/Users", json=user("Ada@Example.com", title="Dr"), headers=tenant.auth)

    assert answer.status_code == 201
    assert answer.headers["content-type"] == SCIM
    body = answer.json()
    assert body["userName"] == "Ada@Example.com"
    assert body["title"] == "Dr"
    assert body["schemas"] == ["urn:ietf:params:scim:schemas:core:2.0:User"]
    location = f"https://scim.example.com/api/auth/scim/v2/Users/{body['id']}"
    assert body["meta"]["location"] == answer.headers["location"] == location
    assert body["meta"]["version"] == answer.headers["etag"] == 'W/"1"'


async def test_a_change_says_who_asked_for_what_until_when(gateway, script, tenant):
    await gateway.client.post("/Users", json=user("ada"), headers=tenant.auth)

    (change,) = script.seen
    assert (change.organization_id, change.connection_id) == (tenant.organization_id, tenant.id)
    assert change.token_id is not None
    assert change.operation is Operation.CREATE
    assert change.resource_type is ResourceType.USER
    assert change.resource == {"userName": "ada"}
    assert change.fingerprint
    assert change.deadline - change.received_at == timedelta(seconds=gateway.settings.gateway_outcome_deadline)
    assert (change.request.method, change.request.path) == ("POST", "/Users")
    assert change.request.body == user("ada")
    assert change.id.version == change.resource_id.version == 7


async def test_a_change_is_keyed_by_organization_and_names_itself_in_a_header(gateway, script, tenant):
    await gateway.client.post("/Users", json=user(), headers=tenant.auth)

    (record,) = script.raw
    key = str(tenant.organization_id).encode()
    assert (record.key, record.partition) == (key, partition_of(key, 12))
    assert dict(record.headers) == {CHANGE_ID_HEADER: str(script.seen[0].id).encode()}


async def test_equal_creates_have_equal_fingerprints(gateway, script, tenant):
    one = {"schemas": user()["schemas"], "userName": "ada", "title": "Dr"}
    await gateway.client.post("/Users", json=one, headers=tenant.auth)
    await gateway.client.post("/Users", json=dict(reversed(one.items())), headers=tenant.auth)
    await gateway.client.post("/Users", json={**one, "title": "Prof"}, headers=tenant.auth)

    first, second, third = (change.fingerprint for change in script.seen)
    assert first == second != third


async def test_put_patch_and_delete_name_their_target_and_its_version(gateway, script, tenant):
    user_id, headers = uuid4(), {**tenant.auth, "If-Match": 'W/"7"'}
    replace = patch({"op": "Replace", "path": "active", "value": "False"})

    replaced = await gateway.client.put(f"/Users/{user_id}", json=user(), headers=headers)
    patched = await gateway.client.patch(f"/Users/{user_id}", json=replace, headers=headers)
    deleted = await gateway.client.delete(f"/Users/{user_id}", headers=headers)

    assert [answer.status_code for answer in (replaced, patched, deleted)] == [200, 200, 204]
    assert [change.operation for change in script.seen] == [Operation.REPLACE, Operation.PATCH, Operation.DELETE]
    assert {(change.resource_id, change.if_match) for change in script.seen} == {(user_id, 'W/"7"')}
    assert replaced.headers["etag"] == 'W/"2"'
    assert deleted.content == b""
    # Dialects end at the gateway.
    assert script.seen[1].patch[0]["op"] == "replace"
    assert script.seen[1].patch[0]["value"] is False


async def test_a_refusal_of_the_provisioner_is_the_answer(gateway, script, tenant):
    script.answer = refused(409, "userName is already in use", "uniqueness")
    answer = await gateway.client.post("/Users", json=user(), headers=tenant.auth)

    assert answer.status_code == 409
    assert answer.headers["content-type"] == SCIM
    assert answer.json() == {
        "schemas": ["urn:ietf:params:scim:api:messages:2.0:Error"],
        "status": "409",
        "scimType": "uniqueness",
        "detail": "userName is already in use",
    }


async def test_a_user_is_read_by_id(gateway, tenant):
    user_id = await tenant.add_user("ada@example.com", name={"givenName": "Ada"})
    answer = await gateway.client.get(f"/Users/{user_id}", headers=tenant.auth)

    assert answer.status_code == 200
    assert answer.headers["etag"] == 'W/"1"'
    body = answer.json()
    assert body["id"] == str(user_id)
    assert body["name"] == {"givenName": "Ada"}
    assert body["meta"]["resourceType"] == "User"


async def test_a_client_that_has_this_version_gets_304(gateway, tenant):
    user_id = await tenant.add_user("ada@example.com")
    for tag in ('W/"1"', '"1"', 'W/"0", W/"1"', "*"):
        headers = {**tenant.auth, "If-None-Match": tag}
        answer = await gateway.client.get(f"/Users/{user_id}", headers=headers)
        assert (answer.status_code, answer.content) == (304, b"")
    answer = await gateway.client.get(f"/Users/{user_id}", headers={**tenant.auth, "If-None-Match": 'W/"2"'})
    assert answer.status_code == 200


async def test_attributes_and_excluded_attributes_choose_what_is_returned(gateway, tenant, script):
    user_id = await tenant.add_user("ada@example.com", title="Dr", name={"givenName": "Ada", "familyName": "L"})
    url = f"/Users/{user_id}"

    some = (await gateway.client.get(url, params={"attributes": "name.givenName"}, headers=tenant.auth)).json()
    rest = (await gateway.client.get(url, params={"excludedAttributes": "name,meta"}, headers=tenant.auth)).json()
    posted = await gateway.client.post("/Users?attributes=userName", json=user(title="Dr"), headers=tenant.auth)

    assert set(some) == {"schemas", "id", "name"}
    assert some["name"] == {"givenName": "Ada"}
    assert set(rest) == {"schemas", "id", "userName", "title", "active"}
    assert set(posted.json()) == {"schemas", "id", "userName"}


async def test_another_connections_user_is_as_unknown_as_any(gateway, tenant, directory):
    """Threat T3: the answers are equal, byte for byte."""
    other = await directory.add_connection()
    foreign = await other.add_user("bob@example.com")
    unknown = await gateway.client.get(f"/Users/{foreign}", headers=tenant.auth)

    assert (await gateway.client.get(f"/Users/{foreign}", headers=other.auth)).status_code == 200
    assert unknown.status_code == 404
    await directory.owner.execute("DELETE FROM users WHERE id = $1", foreign)
    assert (await gateway.client.get(f"/Users/{foreign}", headers=tenant.auth)).content == unknown.content
    listed = await gateway.client.get("/Users", params={"filter": 'userName sw "bob"'}, headers=tenant.auth)
    assert listed.json()["totalResults"] == 0


@pytest.mark.parametrize("path", ["/Users/1", "/Users/null", "/Users/{upper}", "/Users/{braces}"])
async def test_t02_what_is_no_id_of_ours_is_404_for_every_method(gateway, tenant, script, path):
    user_id = await tenant.add_user("ada@example.com")
    path = path.format(upper=str(user_id).upper(), braces=f"{{{user_id}}}")
    replace = patch({"op": "replace", "path": "active", "value": False})
    answers = [
        await gateway.client.get(path, headers=tenant.auth),
        await gateway.client.put(path, json=user(), headers=tenant.auth),
        await gateway.client.patch(path, json=replace, headers=tenant.auth),
        await gateway.client.delete(path, headers=tenant.auth),
    ]
    assert [answer.status_code for answer in answers] == [404] * 4
    assert script.seen == []


async def test_pages_are_stable_and_totals_exact(gateway, tenant):
    ids = [str(await tenant.add_user(f"user{number}@example.com")) for number in range(7)]

    async def page(**params) -> dict:
        return (await gateway.client.get("/Users", params=params, headers=tenant.auth)).json()

    first, second = await page(startIndex=1, count=4), await page(startIndex=5, count=4)
    assert [resource["id"] for resource in first["Resources"] + second["Resources"]] == ids
    assert [first[name] for name in ("totalResults", "startIndex", "itemsPerPage")] == [7, 1, 4]
    assert [second[name] for name in ("totalResults", "startIndex", "itemsPerPage")] == [7, 5, 3]
    assert (await page(count=0)) == {**first, "itemsPerPage": 0, "Resources": []}
    past = await page(startIndex=100)
    assert (past["totalResults"], past["startIndex"], past["Resources"]) == (7, 100, [])
    filtered = await page(filter='userName co "example"', startIndex=3, count=2)
    assert (filtered["totalResults"], filtered["itemsPerPage"]) == (7, 2)
    assert (await page(filter='userName co "example"', startIndex=100))["totalResults"] == 7
    assert (await page(filter='userName co "example"', count=0))["totalResults"] == 7
    assert (await page(filter='userName eq "nobody"')) == {
        "schemas": ["urn:ietf:params:scim:api:messages:2.0:ListResponse"],
        "totalResults": 0,
        "startIndex": 1,
        "itemsPerPage": 0,
        "Resources": [],
    }


async def test_a_list_is_sorted_with_missing_values_last_or_first(gateway, tenant):
    for name, attributes in (("c", {"title": "b"}), ("a", {}), ("B", {"title": "A"})):
        await tenant.add_user(name, **attributes)

    async def names(**params) -> list[str]:
        answer = await gateway.client.get("/Users", params=params, headers=tenant.auth)
        return [resource["userName"] for resource in answer.json()["Resources"]]

    assert await names(sortBy="userName") == ["a", "B", "c"]
    assert await names(sortBy="title") == ["B", "c", "a"]
    assert await names(sortBy="title", sortOrder="descending") == ["a", "c", "B"]
    assert await names(sortBy="meta.created", sortOrder="descending") == ["B", "a", "c"]
    for path in ("emails", "emails.value", "name.familyName", "active", "id", "externalId", "meta.lastModified"):
        assert sorted(await names(sortBy=path)) == ["B", "a", "c"]


async def test_sorting_by_a_multi_valued_attribute_takes_the_primary_value(gateway, tenant):
    await tenant.add_user("one", emails=[{"value": "z@x.org"}, {"value": "b@x.org", "primary": True}])
    await tenant.add_user("two", emails=[{"value": "a@x.org"}])
    answer = await gateway.client.get("/Users", params={"sortBy": "emails"}, headers=tenant.auth)
    assert [resource["userName"] for resource in answer.json()["Resources"]] == ["two", "one"]


async def test_a_search_by_post_is_a_search(gateway, tenant):
    await tenant.add_user("ada@example.com", externalId="A1", title="Dr")
    body = {
        "schemas": ["urn:ietf:params:scim:api:messages:2.0:SearchRequest"],
        "filter": 'externalId eq "A1"',
        "attributes": ["userName"],
        "count": 10,
    }
    answer = await gateway.client.post("/Users/.search", json=body, headers=tenant.auth)
    assert answer.status_code == 200
    (found,) = answer.json()["Resources"]
    assert found.keys() == {"schemas", "id", "userName"}


@pytest.mark.parametrize(
    ("query", "hits"),
    [
        ('userName eq "ADA@EXAMPLE.COM"', 1),
        ('externalId eq "A1"', 1),
        ('externalId eq "a1"', 0),
        ('emails[type eq "work"].value eq "Ada@Example.com"', 1),
        ('emails[type eq "home" and value eq "ada@example.com"]', 0),
        ('urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:employeeNumber eq "701"', 1),
        ('displayName sw "50%"', 1),
        ('displayName co "_"', 0),
        ("active eq true", 1),
        ('displayName eq "50% more \\"ada\\" & #1+1"', 1),
        ('not (userName eq "ada@example.com") or title pr', 0),
    ],
)
async def test_a_filter_finds_what_it_says(gateway, tenant, query, hits):
    await tenant.add_user(
        "ada@example.com",
        externalId="A1",
        displayName='50% more "ada" & #1+1',
        emails=[{"value": "ada@example.com", "type": "work"}],
        **{"urn:ietf:params:scim:schemas:extension:enterprise:2.0:User": {"employeeNumber": "701"}},
    )
    answer = await gateway.client.get("/Users", params={"filter": query}, headers=tenant.auth)
    assert answer.json()["totalResults"] == hits


async def test_discovery_describes_what_is_served(gateway, tenant):
    async def get(path: str):
        return await gateway.client.get(path, headers=tenant.auth)

    config = (await get("/ServiceProviderConfig")).json()
    assert config["bulk"] == {"supported": True, "maxOperations": 100, "maxPayloadSize": 1024 * 1024}
    assert config["pagination"] == {
        "cursor": True,
        "index": True,
        "defaultPaginationMethod": "index",
        "defaultPageSize": 100,
        "maxPageSize": 200,
        "cursorTimeout": 3600,
    }
    assert (config["filter"]["supported"], config["etag"]["supported"]) == (True, True)
    schemas = (await get("/Schemas")).json()
    for schema in schemas["Resources"]:
        assert (await get(f"/Schemas/{schema['id']}")).json() == schema
    assert (await get("/ResourceTypes/User")).json()["endpoint"] == "/Users"
    assert [kind["endpoint"] for kind in (await get("/ResourceTypes")).json()["Resources"]] == ["/Users", "/Groups"]
    assert (await get("/Schemas/urn:nothing")).status_code == 404
    for path in ("/Schemas", "/ResourceTypes", "/ServiceProviderConfig"):
        assert (await get(f"{path}?filter=id+pr")).status_code == 403


async def test_an_outcome_without_a_body_is_204(gateway, script, tenant):
    script.answer = lambda change: applied(change).model_copy(update={"resource": None, "status": 204})
    answer = await gateway.client.put(f"/Users/{uuid4()}", json=user(), headers=tenant.auth)
    assert (answer.status_code, answer.content) == (204, b"")
