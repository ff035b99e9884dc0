"""OneLogin: one user at a time, each with their groups; updates are a PUT of the template."""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Literal

from simulators.company import Company
from simulators.idp import CORE_GROUP, ENTERPRISE, Document, Group, IdentityProvider, Progress, User
from simulators.wire import Style, Wire, plus

PAGE = 100
SCHEMAS = ["urn:scim:schemas:core:2.0", "urn:scim:schemas:extension:enterprise:2.0"]  # the template's
NOBODY = "onelogin-00000000-1111-4222-8333-444444444444"  # what the status check looks for


class OneLogin(IdentityProvider):
    """Groups are values of a rule: made when the first member needs them, never renamed, never deleted.

    `when_leaving` is the connector's setting for people who lose access.
    """

    label: ClassVar[str] = "OneLogin"
    style = Style(
        headers={"user-agent": "OneLogin", "content-type": "application/json", "accept": "application/json"},
        encode=plus,
        query_end="&",
        empty_query_on_put=True,
    )

    def __init__(
        self, wire: Wire, *, concurrency: int = 8, when_leaving: Literal["suspend", "delete"] = "suspend"
    ) -> None:
        super().__init__(wire, concurrency=concurrency)
        self.when_leaving = when_leaving
        self.listed: dict[str, str] = {}  # displayName: id, of the groups that the server is known to have
        self._listing = asyncio.Lock()

    async def initial_sync(self, company: Company, progress: Progress | None = None) -> None:
        """Everybody, each followed by their groups."""
        self._take(company)
        await self.test_connection()
        await self._each("users", self.users.values(), self._push, progress or Progress())

    async def deactivate(self, key: str) -> None:
        """Leave all groups, then suspend or delete, as the connector is set."""
        user = self.users[key]
        user.active, user.doomed = False, self.when_leaving == "delete"
        for group in self.groups.values():
            group.members.discard(key)
        await self._push(user)

    async def remove(self, key: str) -> None:
        """Who is suspended stays so; who was to be deleted is gone already."""

    async def open_group(self, key: str, name: str, members: Iterable[str] = ()) -> None:
        self._give_role(key, name, members)
        await asyncio.gather(*(self._push_memberships(self.users[each]) for each in sorted(self.groups[key].members)))

    async def rename_group(self, key: str, name: str) -> None:
        """The rule gives another value: everybody moves to another group, and the old one stays, empty."""
        old = self.groups.pop(key)
        members, old.members = old.members, set()
        self.groups[f"{key}, once {old.name}"] = old
        self.groups[key] = Group(key, name, members=members)
        await asyncio.gather(*(self._push_memberships(user) for user in self.known(members)))

    async def close_group(self, key: str) -> None:
        """Everybody leaves it; it stays, empty."""
        members = self.known(self.groups[key].members)
        self._take_role(key)
        self.groups[key].members = set()
        await asyncio.gather(*(self._push_memberships(user) for user in members))

    def expected_groups(self) -> list[Document]:
        """Without those that nobody ever was in: they were never made."""
        return [group for group in super().expected_groups() if group["id"] or group["members"]]

    def document(self, user: User) -> Document:
        person = user.person
        extension: Document = {"department": person.department, "employeeNumber": person.key}
        if person.manager:
            extension["manager"] = {"value": person.manager}
        document: Document = {
            "userName": person.user_name,
            "active": user.active,
            "externalId": str(10**8 + int(person.key) * 100 + user.incarnation),
            "name": {"givenName": person.given, "familyName": person.family},
            "displayName": person.full_name,
            "title": person.title,
            "emails": [{"value": person.user_name, "type": "work", "primary": True}],
            ENTERPRISE: extension,
        }
        if person.telephone:
            document["phoneNumbers"] = [{"value": person.telephone, "type": "work"}]
        return document

    def template(self, user: User) -> dict[str, Any]:
        """The document as the connector's template writes it: old URNs, and nulls for what is empty."""
        document = self.document(user)
        extension = document.pop(ENTERPRISE)
        document.setdefault("phoneNumbers", [{"value": None, "type": "work"}])
        return {"schemas": SCHEMAS} | document | {"locale": None, SCHEMAS[1]: extension}

    async def test_connection(self) -> None:
        await self.get("/Users", filter=f'userName eq "{NOBODY}"')

    async def match(self, user: User) -> str:
        found = await self.get("/Users", filter=f'userName eq "{user.person.user_name}"')
        return found["Resources"][0]["id"] if found["totalResults"] else ""

    async def create(self, user: User) -> str:
        created = await self.post("/Users", self.template(user))
        user.sent = self.document(user)
        return created["id"]

    async def revise(self, user: User) -> None:
        if user.sent and user.active and not user.sent["active"]:
            await self.match(user)
        await self.put(f"/Users/{user.id}", self.template(user))
        user.sent = self.document(user)

    async def find_or_create_group(self, group: Group) -> str:
        """The list of groups is read again when it lacks this one, before that is created."""
        async with self._listing:
            if group.name not in self.listed:
                await self._list_groups()
            if group.name not in self.listed:
                created = await self.post("/Groups", {"displayName": group.name, "schemas": [CORE_GROUP]})
                self.listed[group.name] = created["id"]
        return self.listed[group.name]

    async def _list_groups(self) -> None:
        start, total = 1, 1
        while start <= total:
            page = await self.get("/Groups", count=PAGE, startIndex=start)
            self.listed |= {group["displayName"]: group["id"] for group in page.get("Resources", [])}
            start, total = start + PAGE, page["totalResults"]

    async def change_members(self, group: Group, add: Sequence[User], remove: Sequence[User]) -> None:
        for op, users in (("add", add), ("remove", remove)):
            if users:
                value = [{"value": user.id} for user in users]
                await self.patch(f"/Groups/{group.id}", {"value": value, "op": op, "path": "members"})

    async def send_group_name(self, group: Group) -> None:
        raise NotImplementedError("OneLogin renames no group")

    async def _is_there(self, group: Group) -> bool:
        if not group.id:
            group.id = await self.find_or_create_group(group)
        return True

    def _is_behind(self, group: Group) -> bool:
        return bool(group.wrong())

    async def _bring_up_group(self, group: Group) -> None:
        await self._push_members(group, group.wrong())

    async def _push(self, user: User) -> None:
        """Who leaves, leaves the groups first."""
        if user.active:
            await super()._push(user)
        else:
            await self._push_memberships(user)
            await self._push_user(user)
