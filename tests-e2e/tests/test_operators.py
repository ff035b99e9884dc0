"""What operators do at the command line, in the running system."""

from e2e.admin import another_organization, command
from e2e.scim import user
from e2e.stack import Stack

CORE_GROUP = "urn:ietf:params:scim:schemas:core:2.0:Group"


async def test_a_mapping_is_previewed_and_applied_at_the_command_line(stack: Stack):
    async with another_organization(stack) as org:
        organization = ("--organization", org.id)
        member = await org.scim.create(user())
        group = {"schemas": [CORE_GROUP], "displayName": "Auditors", "members": [{"value": member["id"]}]}
        assert (await org.scim.request("POST", "/Groups", group)).status_code == 201
        await command(stack, "role", "create", "auditor", *organization)

        would = await command(stack, "mapping", "preview", "Auditors", "auditor", *organization)
        await command(stack, "mapping", "create", "Auditors", "auditor", *organization)
        done = await command(stack, "mapping", "apply", "--group", "Auditors", *organization)
        again = await command(stack, "mapping", "apply", *organization)

        [told] = would["grants"]
        assert (told["gained"], told["email"], told["roleName"]) == (True, member["userName"], "auditor")
        assert (would["dryRun"], done["dryRun"]) == (True, False)
        assert [(each["gained"], each["lost"]) for each in (would, done, again)] == [(1, 0), (1, 0), (0, 0)]
        [auditor] = [role for role in await command(stack, "role", "list", *organization) if role["name"] == "auditor"]
        assert (auditor["accounts"], auditor["groupMappings"]) == (1, 1)
