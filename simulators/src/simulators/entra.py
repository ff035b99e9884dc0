"""Entra ID in both of its dialects: without the flag aadOptscim062020, and with it."""

import re
import uuid
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

from simulators.idp import CORE_GROUP, CORE_USER, ENTERPRISE, Document, Group, IdentityProvider, User
from simulators.wire import SCIM_JSON, Style, is_overload, plus

GROUP_OF_MICROSOFT = "http://schemas.microsoft.com/2006/11/ResourceManagement/ADSCIM/2.0/Group"
MANAGER = f"{ENTERPRISE}:manager"
MEMBERS_IN_ONE_PATCH = 20  # our choice: Microsoft names no number
NOBODY = "00000000-1111-4222-8333-444444444444"  # what Test Connection looks for
VALUE_PATH = re.compile(r'(\w+)\[type eq "(\w+)"\]\.(\w+)')


class Entra(IdentityProvider):
    """One cycle: match or create by userName, then references, then groups. Ids are remembered from then on.

    What fails is not repeated within the cycle, except a 429 after the time that the server asks for.
    """

    label: ClassVar[str] = "Entra ID"
    style = Style(
        headers={"user-agent": "", "content-type": SCIM_JSON, "accept": "application/scim+json"},
        encode=plus,
        tries=3,
        tries_again_on=is_overload,
    )

    def document(self, user: User) -> Document:
        return nested(self.attributes(user))

    def source(self, user: User) -> Document:
        return self.attributes(user)

    def attributes(self, user: User) -> dict[str, Any]:
        """The attribute mapping: target path to value, those that are unassigned left out."""
        person = user.person
        manager = self.users.get(person.manager) if person.manager else None
        values = {
            "userName": person.user_name,
            "active": user.active,
            "displayName": person.full_name,
            "title": person.title,
            'emails[type eq "work"].value': person.user_name,
            "preferredLanguage": person.language,
            "name.givenName": person.given,
            "name.familyName": person.family,
            "name.formatted": person.full_name,
            'addresses[type eq "work"].locality': person.site,
            'addresses[type eq "work"].country': person.country,
            'phoneNumbers[type eq "work"].value': person.telephone,
            "externalId": str(user.external_id),
            f"{ENTERPRISE}:employeeNumber": person.key,
            f"{ENTERPRISE}:department": person.department,
            MANAGER: manager.id if manager else None,
        }
        return {path: value for path, value in values.items() if value not in (None, "")}

    async def test_connection(self) -> None:
        await self.get("/Users", filter=f'userName eq "{NOBODY}"')
        await self.get("/Groups", excludedAttributes="members", filter=f'displayName eq "{NOBODY}"')

    async def match(self, user: User) -> str:
        found = await self.get("/Users", filter=f'userName eq "{user.person.user_name}"')
        return found["Resources"][0]["id"] if found["totalResults"] else ""

    async def create(self, user: User) -> str:
        """References come in a later pass, so nobody is created with a manager."""
        values = {path: value for path, value in self.attributes(user).items() if path != MANAGER}
        body = {"schemas": [CORE_USER, ENTERPRISE], "meta": {"resourceType": "User"}, "roles": []} | nested(values)
        created = await self.post("/Users", body)
        user.sent = values
        return created["id"]

    async def revise(self, user: User) -> None:
        """One PATCH of what differs; the manager in one of its own, after a look if there may be one."""
        new = self.attributes(user)
        old = user.sent or {}
        changes = {path: value for path, value in new.items() if old.get(path) != value}
        manager = changes.pop(MANAGER, None)
        gone = [path for path in old if path not in new]
        if operations := self.operations(changes, gone, old):
            await self.patch(f"/Users/{user.id}", *operations)
        is_new = user.sent is not None and MANAGER not in old
        if manager and (is_new or not await self._has_manager(user, manager)):
            op = "Replace" if MANAGER in old else "Add"
            await self.patch(f"/Users/{user.id}", self.operation(op, MANAGER, manager))
        user.sent = new

    async def _has_manager(self, user: User, manager: str) -> bool:
        condition = f'id eq "{user.id}" and {MANAGER}.value eq "{manager}"'
        return (await self.get("/Users", filter=condition, attributes="id"))["totalResults"] > 0

    def operations(self, changes: dict[str, Any], gone: Sequence[str], old: dict[str, Any]) -> list[Document]:
        """One operation for each attribute, always with a path; booleans as text."""
        return [
            self.operation("Replace" if path in old else "Add", path, str(value) if isinstance(value, bool) else value)
            for path, value in changes.items()
        ] + [self.operation("Remove", path) for path in gone]

    def operation(self, op: str, path: str, value: Any = None) -> Document:
        return {"op": op, "path": path} | ({} if value is None else {"value": value})

    async def find_or_create_group(self, group: Group) -> str:
        found = await self.get("/Groups", excludedAttributes="members", filter=f'displayName eq "{group.name}"')
        if found["totalResults"]:
            return found["Resources"][0]["id"]
        body = {
            "schemas": [CORE_GROUP, GROUP_OF_MICROSOFT],
            "externalId": str(uuid.uuid5(uuid.NAMESPACE_OID, group.key)),
            "displayName": group.name,
            "meta": {"resourceType": "Group"},
        }
        return (await self.post("/Groups", body))["id"]

    async def change_members(self, group: Group, add: Sequence[User], remove: Sequence[User]) -> None:
        for some in _chunks(add):
            members = [{"$ref": None, "value": user.id} for user in some]
            await self.patch(f"/Groups/{group.id}", self.operation("Add", "members", members))
        for some in _chunks(remove):
            await self.patch(f"/Groups/{group.id}", *self.removals_of_members(some))

    def removals_of_members(self, users: Sequence[User]) -> list[Document]:
        """A list of values behind `Remove`: only these are meant."""
        return [self.operation("Remove", "members", [{"$ref": None, "value": user.id} for user in users])]

    async def send_group_name(self, group: Group) -> None:
        await self.patch(f"/Groups/{group.id}", self.operation("Replace", "displayName", group.name))


class EntraFlagged(Entra):
    """With aadOptscim062020, which is in the URL of every request: lower case, booleans, dotted keys without a path."""

    label: ClassVar[str] = "Entra ID, flagged"
    style = replace(Entra.style, flag="aadOptscim062020")

    def operations(self, changes: dict[str, Any], gone: Sequence[str], old: dict[str, Any]) -> list[Document]:
        """A value path has an operation of its own; all else is in one value without a path, for each verb."""
        operations: list[Document] = []
        for op, some in (
            ("replace", {path: value for path, value in changes.items() if path in old}),
            ("add", {path: value for path, value in changes.items() if path not in old}),
        ):
            operations += [self.operation(op, path, value) for path, value in some.items() if "[" in path]
            if plain := {path: value for path, value in some.items() if "[" not in path}:
                operations.append({"op": op, "value": plain})
        return operations + [self.operation("remove", path) for path in gone]

    def operation(self, op: str, path: str, value: Any = None) -> Document:
        return super().operation(op.lower(), path, value)

    def removals_of_members(self, users: Sequence[User]) -> list[Document]:
        return [self.operation("remove", f'members[value eq "{user.id}"]') for user in users]

    async def send_group_name(self, group: Group) -> None:
        await self.patch(f"/Groups/{group.id}", {"op": "replace", "value": {"displayName": group.name}})


def nested(attributes: dict[str, Any]) -> Document:
    """The resource that has these values at these paths."""
    document: Document = {}
    for path, value in attributes.items():
        if match := VALUE_PATH.fullmatch(path):
            name, kind, sub = match.groups()
            first = {"type": kind, "primary": True} if name == "emails" else {"type": kind}
            document.setdefault(name, [first])[0][sub] = value
        elif path.startswith(ENTERPRISE):
            name = path.removeprefix(f"{ENTERPRISE}:")
            document.setdefault(ENTERPRISE, {})[name] = {"value": value} if path == MANAGER else value
        else:
            name, _, sub = path.partition(".")
            if sub:
                document.setdefault(name, {})[sub] = value
            else:
                document[name] = value
    return document


def _chunks(users: Sequence[User]) -> list[Sequence[User]]:
    return [users[start : start + MEMBERS_IN_ONE_PATCH] for start in range(0, len(users), MEMBERS_IN_ONE_PATCH)]
