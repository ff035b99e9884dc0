import pytest
from scim2_models import ListResponse, ResourceType, Schema, ServiceProviderConfig

from scim.discovery import (
    Features,
    find_resource_type,
    find_schema,
    resource_types_list,
    schema_document,
    schemas_list,
    service_provider_config,
)
from scim.errors import NotFound
from scim.schema import CORE_GROUP, CORE_USER, ENTERPRISE_USER, GROUP, USER, USER_SCHEMA, schema_from_json
from scim.strictjson import dumps, loads

BASE = "https://directory.example.com/api/auth/scim/v2"
CUSTOM = {
    "id": "urn:example:scim:schemas:Badge",
    "name": "Badge",
    "description": "Badges.",
    "attributes": [
        {"name": "number", "type": "integer", "required": True},
        {
            "name": "site",
            "type": "complex",
            "multiValued": True,
            "subAttributes": [{"name": "code", "caseExact": True}],
        },
    ],
}
BADGE = schema_from_json(CUSTOM)


def test_the_configuration_says_what_the_server_offers():
    config = service_provider_config(BASE, Features(cursor_timeout=3_600, documentation_uri="https://docs.example.com"))

    assert config["patch"] == {"supported": True}
    assert config["bulk"] == {"supported": True, "maxOperations": 100, "maxPayloadSize": 1_048_576}
    assert config["filter"] == {"supported": True, "maxResults": 200}
    assert config["changePassword"] == {"supported": False}
    assert config["sort"] == config["etag"] == {"supported": True}
    assert config["pagination"] == {
        "cursor": True,
        "index": True,
        "defaultPaginationMethod": "index",
        "defaultPageSize": 100,
        "maxPageSize": 200,
        "cursorTimeout": 3_600,
    }
    assert [scheme["type"] for scheme in config["authenticationSchemes"]] == ["oauthbearertoken"]
    assert config["documentationUri"] == "https://docs.example.com"
    assert config["meta"] == {"resourceType": "ServiceProviderConfig", "location": f"{BASE}/ServiceProviderConfig"}


def test_what_is_switched_off_is_said_to_be():
    config = service_provider_config(BASE, Features(patch=False, bulk=False, sort=False, etag=False, cursor=False))
    assert config["bulk"] == {"supported": False, "maxOperations": 0, "maxPayloadSize": 0}
    assert not any(config[name]["supported"] for name in ("patch", "sort", "etag"))
    assert config["pagination"]["cursor"] is False
    assert "cursorTimeout" not in config["pagination"]
    assert "documentationUri" not in config


def test_all_schemas_are_listed_once_with_their_location():
    document = schemas_list([USER, GROUP], BASE + "/")
    assert document["totalResults"] == document["itemsPerPage"] == 3
    assert [schema["id"] for schema in document["Resources"]] == [CORE_USER, ENTERPRISE_USER, CORE_GROUP]
    assert document["Resources"][0]["meta"] == {"resourceType": "Schema", "location": f"{BASE}/Schemas/{CORE_USER}"}


def test_a_custom_extension_shows_up_in_schemas_and_resource_types():
    rt = USER.with_extensions(BADGE)
    assert [schema["id"] for schema in schemas_list([rt, GROUP], BASE)["Resources"]][2] == BADGE.id
    user, group = resource_types_list([rt, GROUP], BASE)["Resources"]
    assert user["schemaExtensions"] == [
        {"schema": ENTERPRISE_USER, "required": False},
        {"schema": BADGE.id, "required": False},
    ]
    assert group["schemaExtensions"] == []


def test_a_schema_document_can_be_read_back_as_a_schema():
    document = schema_document(BADGE, BASE)
    assert schema_from_json(loads(dumps(document))) == BADGE


def test_an_attribute_is_described_with_its_characteristics():
    attributes = {item["name"]: item for item in schema_document(USER_SCHEMA, BASE)["attributes"]}
    assert attributes["userName"] == {
        "name": "userName",
        "type": "string",
        "multiValued": False,
        "description": "Unique identifier of the user at the client, used to sign in.",
        "required": True,
        "caseExact": False,
        "mutability": "readWrite",
        "returned": "default",
        "uniqueness": "server",
    }
    assert attributes["password"]["returned"] == "never"
    assert attributes["profileUrl"]["referenceTypes"] == ["external"]
    assert [sub["name"] for sub in attributes["emails"]["subAttributes"]] == ["value", "display", "type", "primary"]
    assert not {"id", "externalId", "meta", "schemas"} & attributes.keys()


@pytest.mark.parametrize("urn", [CORE_USER, CORE_USER.lower(), ENTERPRISE_USER, CORE_GROUP])
def test_a_schema_is_found_by_its_urn(urn: str):
    assert find_schema([USER, GROUP], urn, BASE)["id"].lower() == urn.lower()


def test_a_resource_type_is_found_by_its_name():
    document = find_resource_type([USER, GROUP], "Group", BASE)
    assert (document["endpoint"], document["schema"]) == ("/Groups", CORE_GROUP)
    assert document["meta"]["location"] == f"{BASE}/ResourceTypes/Group"


@pytest.mark.parametrize("name", ["", "user", "Users", "urn:x", "../User", BADGE.id])
def test_what_is_not_there_is_not_found(name: str):
    with pytest.raises(NotFound):
        find_resource_type([USER, GROUP], name, BASE)
    with pytest.raises(NotFound):
        find_schema([USER, GROUP], name, BASE)


def test_another_implementation_reads_our_documents():
    ServiceProviderConfig.model_validate(service_provider_config(BASE, Features(cursor_timeout=60)))
    schemas = ListResponse[Schema].model_validate(schemas_list([USER.with_extensions(BADGE), GROUP], BASE))
    types = ListResponse[ResourceType].model_validate(resource_types_list([USER, GROUP], BASE))
    assert (len(schemas.resources or []), len(types.resources or [])) == (4, 2)
