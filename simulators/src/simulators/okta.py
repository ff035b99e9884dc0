"""Okta, as an application of its catalogue does it: PUT for profiles, PATCH to activate and for groups."""

from collections.abc import Sequence
from typing import ClassVar

from simulators.company import Person
from simulators.idp import CORE_GROUP, CORE_USER, ENTERPRISE, Document, Group, IdentityProvider, User
from simulators.wire import SCIM_JSON, Style, percent

PAGE = 100
SCHEMAS = {"schemas": [CORE_USER, ENTERPRISE]}


class Okta(IdentityProvider):
    """Every user and group is looked for before it is made; nobody is ever deleted."""

    label: ClassVar[str] = "Okta"
    style = Style(
        headers={"user-agent": "Okta SCIM Client 1.0.0", "content-type": SCIM_JSON, "accept": "application/scim+json"},
        encode=percent,
        tries=5,
    )

    async def assign(self, person: Person) -> None:
        user = self.users.get(person.key)
        if user and user.incarnation <= self.removals[person.key]:
            # To Okta somebody new with an old userName: the lookup finds whom it deactivated then.
            user.id, user.sent, user.incarnation = "", None, 1 + self.removals[person.key]
        await super().assign(person)

    async def remove(self, key: str) -> None:
        """Okta forgets its user and sends nothing: on the server they stay deactivated."""
        self.removals[key] += 1

    def document(self, user: User) -> Document:
        person = user.person
        extension: Document = {"employeeNumber": person.key, "department": person.department}
        if person.manager:
            extension["manager"] = {"value": person.manager}  # what the profile says, no reference to a resource
        document: Document = {
            "userName": person.user_name,
            "name": {"givenName": person.given, "familyName": person.family},
            "displayName": person.full_name,
            "emails": [{"value": person.user_name, "type": "work", "primary": True}],
            "title": person.title,
            "locale": person.language,
            "externalId": f"00u{user.external_id.hex[:17]}",
            "active": user.active,
            ENTERPRISE: extension,
        }
        if person.telephone:
            document["phoneNumbers"] = [{"value": person.telephone, "type": "work", "primary": True}]
        return document

    async def test_connection(self) -> None:
        await self.get("/Users", startIndex=1, count=2)
        await self.get("/Groups", startIndex=1, count=PAGE)

    async def match(self, user: User) -> str:
        found = await self.get("/Users", filter=f'userName eq "{user.person.user_name}"', startIndex=1, count=PAGE)
        return found["Resources"][0]["id"] if found["totalResults"] else ""

    async def create(self, user: User) -> str:
        document = self.document(user)
        password = f"Init-{user.external_id.hex[-12:]}"
        created = await self.post("/Users", SCHEMAS | document | {"groups": [], "password": password})
        user.sent = document
        return created["id"]

    async def revise(self, user: User) -> None:
        """GET and PUT of the whole user; when nothing but `active` changes, a PATCH. Who comes back is looked for."""
        document = self.document(user)
        if user.sent and user.active and not user.sent["active"]:
            await self.match(user)
        if user.sent and user.sent | {"active": user.active} == document:
            await self.patch(f"/Users/{user.id}", {"op": "replace", "value": {"active": user.active}})
        else:
            await self.get(f"/Users/{user.id}")
            whole = SCHEMAS | document | {"id": user.id, "groups": [], "meta": {"resourceType": "User"}}
            await self.put(f"/Users/{user.id}", whole)
        user.sent = document

    async def find_or_create_group(self, group: Group) -> str:
        found = await self.get("/Groups", filter=f'displayName eq "{group.name}"', startIndex=1, count=PAGE)
        if found["totalResults"]:
            group_id = found["Resources"][0]["id"]
        else:
            body = {"schemas": [CORE_GROUP], "displayName": group.name, "members": []}
            group_id = (await self.post("/Groups", body))["id"]
        await self._push_all_members(group, group_id)
        return group_id

    async def _push_all_members(self, group: Group, group_id: str) -> None:
        """A push of the whole group, which also takes away whoever is in it and should not."""
        users = self.known(group.members)
        if users:
            members = [_member(user) for user in users]
            await self.patch(f"/Groups/{group_id}", {"op": "replace", "path": "members", "value": members})
        group.pushed, group.unsure = {user.person.key for user in users}, set()

    async def change_members(self, group: Group, add: Sequence[User], remove: Sequence[User]) -> None:
        """The name goes ahead of every change of members."""
        operations: list[Document] = [{"op": "remove", "path": f'members[value eq "{user.id}"]'} for user in remove]
        if add:
            operations.append({"op": "add", "path": "members", "value": [_member(user) for user in add]})
        await self.send_group_name(group)
        await self.patch(f"/Groups/{group.id}", *operations)

    async def send_group_name(self, group: Group) -> None:
        value = {"id": group.id, "displayName": group.name}
        await self.patch(f"/Groups/{group.id}", {"op": "replace", "value": value})


def _member(user: User) -> Document:
    return {"value": user.id, "display": user.person.user_name}
