"""What a new user of the project does first, with what `stack.json` says."""

from e2e.admin import Organization
from e2e.scim import Scim, assert_error, new_name, user
from e2e.stack import Stack

PROMISED = {
    *("scimBaseUrl", "scimToken", "adminUrl", "adminEmail", "adminPassword", "organizationId"),
    *("kafkaBootstrap", "databaseUrl", "processes"),
}


def test_the_stack_file_says_how_to_reach_everything(stack: Stack):
    assert set(stack.document) >= PROMISED
    assert set(stack.document["processes"]) == {"gateway", "provisioner", "admin-api", "kafka", "postgres"}


def test_the_stack_file_is_readable_by_its_owner_only(stack: Stack):
    assert stack.file.stat().st_mode & 0o077 == 0


async def test_a_user_is_provisioned_found_suspended_and_deleted(scim: Scim):
    name = new_name()

    created = await scim.create(user(name, externalId=f"x-{name}"))
    found = await scim.find(f'userName eq "{name}"')
    suspended = await scim.patch(created["id"], {"op": "Replace", "path": "active", "value": "False"})

    assert [each["id"] for each in found] == [created["id"]]
    assert suspended.status_code in (200, 204)
    assert (await scim.get(created["id"]))["active"] is False
    await scim.delete(created["id"])
    assert_error(await scim.request("GET", f"/Users/{created['id']}"), 404)


async def test_the_location_of_a_user_leads_to_it(scim: Scim):
    response = await scim.request("POST", "/Users", user())

    location = response.headers["location"]
    assert location == response.json()["meta"]["location"]
    assert (await scim.request("GET", location)).json() == response.json()


async def test_the_admin_signs_in_and_sees_the_connection(organization: Organization):
    admin = organization.admin

    listed = await admin.request("GET", "/api/auth/scim/list-provider-connections")

    assert admin.organization_id == organization.id
    assert organization.connection_id in [provider["id"] for provider in listed.json()["providers"]]
