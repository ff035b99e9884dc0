"""What the simulators share: what the provider believes, and how an intent becomes requests.

An intent changes what is wanted and then pushes it. What could not be pushed stays wanted, and `settle` tries again, as
the next cycle of Entra does or an admin of Okta who retries the failed tasks. So at any time the belief is exact: the
directory is right when it has what is wanted, and nothing else.
"""

import asyncio
import uuid
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from simulators.company import Company, Person
from simulators.wire import PushFailed, Style, Wire

CORE_USER = "urn:ietf:params:scim:schemas:core:2.0:User"
CORE_GROUP = "urn:ietf:params:scim:schemas:core:2.0:Group"
ENTERPRISE = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"
PATCH_OP = "urn:ietf:params:scim:api:messages:2.0:PatchOp"
CYCLES = 5

type Document = dict[str, Any]


@dataclass
class User:
    """One person in the provider's directory, and how far they are pushed."""

    person: Person
    active: bool = True
    id: str = ""  # the server's; empty while it is not known
    sent: Document | None = None  # its `source` as last acknowledged; None when that is not known
    doomed: bool = False  # to be deleted on the server
    incarnation: int = 1  # a person who was removed comes back as another one

    @property
    def external_id(self) -> uuid.UUID:
        return uuid.uuid5(uuid.UUID(self.person.uid), str(self.incarnation))


@dataclass
class Group:
    """One group of the provider, and how far it is pushed. Members are keys of people."""

    key: str
    name: str
    id: str = ""
    sent_name: str | None = None
    members: set[str] = field(default_factory=set)
    pushed: set[str] = field(default_factory=set)  # as acknowledged
    unsure: set[str] = field(default_factory=set)  # of whom it is not known
    doomed: bool = False

    def lacks(self, key: str) -> bool:
        """Whether this person must be added."""
        return key in self.members and (key not in self.pushed or key in self.unsure)

    def has_still(self, key: str) -> bool:
        """Whether this person must be removed."""
        return key not in self.members and (key in self.pushed or key in self.unsure)

    def wrong(self) -> set[str]:
        """Everybody who must be added or removed."""
        return (self.members ^ self.pushed) | self.unsure


class Progress:
    """Told what is under way; this one keeps it to itself."""

    def begin(self, phase: str, total: int) -> None:
        """A phase of `total` steps begins."""

    def step(self) -> None:
        """One of them is done."""


class IdentityProvider(ABC):
    """A simulated identity provider that pushes to one connection. `concurrency` requests at a time at most."""

    label: ClassVar[str]
    style: Style

    def __init__(self, wire: Wire, *, concurrency: int = 8) -> None:
        self.wire = wire
        self.users: dict[str, User] = {}  # by the person's key
        self.groups: dict[str, Group] = {}  # by key
        self.failures: list[str] = []  # all that ever failed, also when a later try succeeded
        self.removals: Counter[str] = Counter()  # by the person's key
        self._slots = asyncio.Semaphore(concurrency)

    # Intents

    async def initial_sync(self, company: Company, progress: Progress | None = None) -> None:
        """Everybody, then references between them, then the groups with their members."""
        progress = progress or Progress()
        self._take(company)
        await self.test_connection()
        await self._each("users", self.users.values(), self._provision_only, progress)
        behind = [user for user in self.users.values() if user.id and not self.is_pushed(user)]
        if behind:
            await self._each("references", behind, self._push_user, progress)
        await self._each("groups", self.groups.values(), self._push_group, progress)

    async def assign(self, person: Person) -> None:
        """Give somebody access: a joiner, or one who comes back."""
        if person.key not in self.users:
            self.users[person.key] = User(person, incarnation=1 + self.removals[person.key])
        user = self.users[person.key]
        user.person, user.active, user.doomed = person, True, False
        self._want_groups(user)
        await self._push(user)

    async def update(self, person: Person) -> None:
        """Push what has changed about somebody, membership included."""
        user = self.users[person.key]
        user.person = person
        self._want_groups(user)
        await self._push(user)

    async def deactivate(self, key: str) -> None:
        """Take somebody's access away; they stay in the directory, and in their groups."""
        self.users[key].active = False
        await self._push(self.users[key])

    async def remove(self, key: str) -> None:
        """Delete somebody who was deactivated before."""
        user = self.users[key]
        user.doomed = True
        await self._push(user)

    async def open_group(self, key: str, name: str, members: Iterable[str] = ()) -> None:
        """Push another group; `members` are keys of people who are assigned."""
        self._give_role(key, name, members)
        await self._push_group(self.groups[key])

    async def rename_group(self, key: str, name: str) -> None:
        self.groups[key].name = name
        await self._push_group(self.groups[key])

    async def close_group(self, key: str) -> None:
        """Delete a group; its members stay."""
        self._take_role(key)
        self.groups[key].doomed = True
        await self._push_group(self.groups[key])

    async def settle(self, cycles: int = CYCLES) -> bool:
        """Try again what has failed, this often at most; whether everything is pushed now."""
        for _ in range(cycles):
            users, groups = self._behind()
            if not users and not groups:
                return True
            await asyncio.gather(*(self._push(user) for user in users))
            await asyncio.gather(*(self._push_group(group) for group in self._behind()[1]))
        return self._behind() == ([], [])

    # Belief

    def expected_users(self) -> list[Document]:
        """What the directory must have, in canonical SCIM, each with its `id` (empty: it has none yet)."""
        return [{"id": user.id} | self.document(user) for user in self.users.values()]

    def expected_groups(self) -> list[Document]:
        """Each group's id, displayName and members (a set of ids)."""
        return [
            {"id": group.id, "displayName": group.name, "members": {user.id for user in self.known(group.members)}}
            for group in self.groups.values()
        ]

    def is_pushed(self, user: User) -> bool:
        return bool(user.id) and not user.doomed and user.sent == self.source(user)

    def source(self, user: User) -> Document:
        """What the provider compares to see whether something has changed."""
        return self.document(user)

    def known(self, keys: Iterable[str]) -> list[User]:
        """Those of these people whom the server has."""
        return [user for key in sorted(keys) if (user := self.users.get(key)) and user.id]

    # What each provider does in its own way

    @abstractmethod
    def document(self, user: User) -> Document:
        """The user as the directory must have it, in canonical SCIM without `id`, `meta` and `schemas`."""

    @abstractmethod
    async def test_connection(self) -> None: ...

    @abstractmethod
    async def match(self, user: User) -> str:
        """Look for the person on the server before creating them; their id, or an empty text."""

    @abstractmethod
    async def create(self, user: User) -> str:
        """The id of the new user. Afterwards `sent` is what was sent."""

    @abstractmethod
    async def revise(self, user: User) -> None:
        """Bring the user on the server, of whom `sent` may be unknown, to `document`."""

    @abstractmethod
    async def find_or_create_group(self, group: Group) -> str: ...

    @abstractmethod
    async def change_members(self, group: Group, add: Sequence[User], remove: Sequence[User]) -> None: ...

    @abstractmethod
    async def send_group_name(self, group: Group) -> None: ...

    async def delete_user(self, user: User) -> None:
        await self.delete(f"/Users/{user.id}")

    async def delete_group(self, group: Group) -> None:
        await self.delete(f"/Groups/{group.id}")

    # Requests

    async def get(self, path: str, **query: object) -> Any:
        return await self.wire.send(self.style, "GET", path, query)

    async def post(self, path: str, body: Document) -> Any:
        return await self.wire.send(self.style, "POST", path, body=body)

    async def put(self, path: str, body: Document) -> Any:
        return await self.wire.send(self.style, "PUT", path, body=body)

    async def patch(self, path: str, *operations: Document) -> Any:
        body = {"schemas": [PATCH_OP], "Operations": list(operations)}
        return await self.wire.send(self.style, "PATCH", path, body=body)

    async def delete(self, path: str) -> None:
        """Delete; what is gone already is fine."""
        try:
            await self.wire.send(self.style, "DELETE", path)
        except PushFailed as failure:
            if failure.status != 404:
                raise

    # How an intent is pushed

    def _take(self, company: Company) -> None:
        self.users = {key: User(person) for key, person in company.people.items()}
        self.groups = {key: Group(key, name) for key, name in company.groups.items()}
        for user in self.users.values():
            self._want_groups(user)

    def _want_groups(self, user: User) -> None:
        for group in self.groups.values():
            if group.key in user.person.groups:
                group.members.add(user.person.key)
            else:
                group.members.discard(user.person.key)

    def _give_role(self, key: str, name: str, members: Iterable[str]) -> None:
        self.groups[key] = Group(key, name, members=set(members))
        for user in (self.users[member] for member in members):
            user.person = replace(user.person, roles=user.person.roles | {key})

    def _take_role(self, key: str) -> None:
        for user in (self.users[member] for member in self.groups[key].members):
            user.person = replace(user.person, roles=user.person.roles - {key})

    def _behind(self) -> tuple[list[User], list[Group]]:
        """Who and what is not pushed."""
        users = [user for user in self.users.values() if not self.is_pushed(user)]
        groups = [group for group in self.groups.values() if self._is_behind(group)]
        return users, groups

    def _is_behind(self, group: Group) -> bool:
        return group.doomed or group.sent_name != group.name or bool(group.wrong())

    async def _push(self, user: User) -> None:
        """The user, then membership of those groups that the server has."""
        await self._push_user(user)
        await self._push_memberships(user)

    async def _push_memberships(self, user: User) -> None:
        for group in list(self.groups.values()):
            if group.lacks(user.person.key) or group.has_still(user.person.key):
                await self._attempt(self._push_members, group, {user.person.key})

    async def _push_user(self, user: User) -> None:
        if not await self._attempt(self._bring_up, user):
            user.sent = None

    async def _provision_only(self, user: User) -> None:
        await self._attempt(self._provision, user)

    async def _bring_up(self, user: User) -> None:
        if user.doomed:
            await self._delete(user)
            return
        if not user.id:
            await self._provision(user)
        if user.sent != self.source(user):
            await self.revise(user)

    async def _provision(self, user: User) -> None:
        user.id = await self.match(user)
        if not user.id:
            user.id = await self.create(user)

    async def _delete(self, user: User) -> None:
        if user.id:
            await self.delete_user(user)
        self._forget(user)

    def _forget(self, user: User) -> None:
        """The server has them no more, and no group either."""
        self.users.pop(user.person.key)
        self.removals[user.person.key] += 1
        for group in self.groups.values():
            for keys in (group.members, group.pushed, group.unsure):
                keys.discard(user.person.key)

    async def _push_group(self, group: Group) -> None:
        await self._attempt(self._bring_up_group, group)

    async def _bring_up_group(self, group: Group) -> None:
        if group.doomed:
            if group.id:
                await self.delete_group(group)
            self.groups.pop(group.key)
            return
        if not group.id:
            group.id, group.sent_name = await self.find_or_create_group(group), group.name
        if group.sent_name != group.name:
            await self.send_group_name(group)
            group.sent_name = group.name
        await self._push_members(group, group.wrong())

    async def _push_members(self, group: Group, keys: set[str]) -> None:
        """Bring the membership of these people to what is wanted, as far as the server knows them."""
        users = self.known(keys)
        add = [user for user in users if group.lacks(user.person.key)]
        remove = [user for user in users if group.has_still(user.person.key)]
        if not (add or remove) or not await self._is_there(group):
            return
        group.unsure.update(keys)
        await self.change_members(group, add, remove)
        group.pushed.update(user.person.key for user in add)
        group.pushed.difference_update(user.person.key for user in remove)
        group.unsure.difference_update(keys)

    async def _is_there(self, group: Group) -> bool:
        """Whether the server has the group."""
        return bool(group.id)

    async def _attempt[**P](self, work: Callable[P, Awaitable[None]], *args: P.args, **kwargs: P.kwargs) -> bool:
        """Do it within a slot; a failure is remembered, and the work is still to be done."""
        async with self._slots:
            try:
                await work(*args, **kwargs)
            except PushFailed as failure:
                self.failures.append(str(failure))
                return False
        return True

    async def _each[T](
        self, phase: str, items: Iterable[T], work: Callable[[T], Awaitable[None]], progress: Progress
    ) -> None:
        things: Sequence[T] = list(items)
        progress.begin(phase, len(things))

        async def one(thing: T) -> None:
            await work(thing)
            progress.step()

        await asyncio.gather(*(one(thing) for thing in things))
