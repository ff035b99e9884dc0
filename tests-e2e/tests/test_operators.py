"""What operators do at the command line, in the running system."""

import json

import asyncpg

from e2e.admin import another_organization, command, operate
from e2e.scim import assert_error, user
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


async def test_a_request_is_previewed_at_the_command_line(stack: Stack, tmp_path):
    async with another_organization(stack) as org:
        body, file = user(), tmp_path / "user.json"
        file.write_text(json.dumps(body))
        where = ("--organization", org.id, "--connection", org.connection_id)

        would = await command(stack, "preview", "POST", "/Users", "--body", str(file), *where)
        told = await operate(stack, "preview", "POST", "/Users", "--body", str(file), *where)

        assert (would["status"], would["accounts"][0]["before"]) == (201, None)
        assert "201" in told
        assert body["userName"] in told
        assert await org.scim.find(f'userName eq "{body["userName"]}"') == []


async def test_held_deactivations_are_decided_at_the_command_line(stack: Stack, db: asyncpg.Connection):
    async with another_organization(stack) as org:
        where = ("--organization", org.id, "--connection", org.connection_id)
        await db.execute(
            "UPDATE connections SET guard_users = 1, guard_percent = 1, guard_holds = true WHERE id = $1",
            org.connection_id,
        )
        ids = [(await org.scim.create(user()))["id"] for _ in range(5)]
        off = {"op": "replace", "path": "active", "value": False}
        assert (await org.scim.patch(ids[0], off)).status_code == 200
        for each in ids[1:]:
            assert_error(await org.scim.patch(each, off), 503)

        held = {hold["user_id"]: hold["id"] for hold in await command(stack, "holds", "list", *where)}
        one = await operate(stack, "holds", "confirm", held[ids[1]], *where[:2])
        other = await operate(stack, "holds", "discard", held[ids[2]], *where[:2])
        rest = await operate(stack, "holds", "release", "--minutes", "5", *where)

        assert set(held) == set(ids[1:])
        assert "1 confirmed" in one
        assert "1 discarded" in other
        assert "2 discarded" in rest
        assert await command(stack, "holds", "list", *where) == []
        assert [(await org.scim.get(each))["active"] for each in ids] == [False, False, True, True, True]
        assert (await org.scim.patch(ids[2], off)).status_code == 200
