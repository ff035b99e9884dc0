"""The part of the directory that a batch touches, held in memory while its changes are decided one after another."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime
from uuid import UUID

from contracts import Json
from scim.schema import GROUP, USER, ResourceType


@dataclass(frozen=True, slots=True)
class Connection:
    """One IdP application of an organization, as far as a change depends on it."""

    id: UUID
    organization_id: UUID
    is_open: bool
    has_plan: bool
    link_existing_accounts: bool
    user_type: ResourceType = USER
    group_type: ResourceType = GROUP


@dataclass(frozen=True, slots=True)
class User:
    """A live SCIM user; `resource` is canonical (see scim.resource)."""

    id: UUID
    connection_id: UUID
    account_id: UUID
    user_name: str
    user_name_key: str
    external_id: str | None
    active: bool
    resource: Json
    version: int
    created_at: datetime
    last_modified: datetime
    late_fingerprint: str | None = None


@dataclass(frozen=True, slots=True)
class Group:
    """A live SCIM group; `resource` is canonical and without members."""

    id: UUID
    connection_id: UUID
    display_name: str
    display_name_key: str
    external_id: str | None
    resource: Json
    version: int
    created_at: datetime
    last_modified: datetime
    late_fingerprint: str | None = None

    def touched(self, at: datetime) -> "Group":
        """The group at its next version."""
        return replace(self, version=self.version + 1, last_modified=max(at, self.last_modified))


@dataclass(frozen=True, slots=True)
class Account:
    """A person in the application. `epoch` rises with each suspension, so older sessions are dead."""

    id: UUID
    organization_id: UUID
    email: str | None
    email_key: str | None
    display_name: str
    is_active: bool
    epoch: int
    break_glass: bool
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Tombstone:
    """A deleted user: how a person who comes back is recognised."""

    id: UUID
    connection_id: UUID
    account_id: UUID
    user_name_key: str
    external_id: str | None
    deleted_at: datetime


@dataclass(frozen=True, slots=True)
class Link:
    """A connection's right to change an account; it outlives the user."""

    connection_id: UUID
    account_id: UUID
    origin: str
    created_at: datetime


type ResourceKey = tuple[UUID, str]  # connection id and key of a name, or externalId
type EmailKey = tuple[UUID, str]  # organization id and email key


@dataclass(slots=True)
class Touched:
    """What a batch of changes can touch: the keys that must be loaded before deciding."""

    changes: set[UUID] = field(default_factory=set)
    connections: set[UUID] = field(default_factory=set)
    tokens: set[UUID] = field(default_factory=set)
    users: set[UUID] = field(default_factory=set)
    user_names: set[ResourceKey] = field(default_factory=set)
    external_ids: set[ResourceKey] = field(default_factory=set)
    emails: set[EmailKey] = field(default_factory=set)
    groups: set[UUID] = field(default_factory=set)
    group_names: set[ResourceKey] = field(default_factory=set)
    group_external_ids: set[ResourceKey] = field(default_factory=set)
    members: dict[UUID, UUID] = field(default_factory=dict)
    """Ids that shall become members, with the connection: what they are must be known."""
    memberships: set[tuple[UUID, UUID]] = field(default_factory=set)
    """Pairs of group and member that are spoken of."""
    whole_groups: set[UUID] = field(default_factory=set)
    """Groups all of whose members must be known."""
    leaving: set[UUID] = field(default_factory=set)
    """Users and groups to be deleted: the groups that they are in must be known."""

    def nesting(self) -> set[UUID]:
        """Connections in which a group that the batch may make becomes a member; those that exist are found by id."""
        return {connection_id for member_id, connection_id in self.members.items() if member_id in self.groups}


class Directory:
    """The loaded rows and their indexes; `put_*`, `add_*` and `remove_*` move it on from change to change.

    A look-up of what was not loaded answers None, so `touched_by` must name everything that a rule may ask for.
    """

    def __init__(
        self,
        *,
        connections: Iterable[Connection] = (),
        live_tokens: Iterable[UUID] = (),
        replies: dict[UUID, bytes] | None = None,
        users: Iterable[User] = (),
        accounts: Iterable[Account] = (),
        tombstones: Iterable[Tombstone] = (),
        links: Iterable[tuple[UUID, UUID]] = (),
        groups: Iterable[Group] = (),
        memberships: Iterable[tuple[UUID, UUID]] = (),
        member_types: dict[tuple[UUID, UUID], str] | None = None,
        nested: Iterable[tuple[UUID, UUID]] = (),
    ) -> None:
        self.connections = {connection.id: connection for connection in connections}
        self.live_tokens = set(live_tokens)
        self.replies = replies or {}
        self.links = set(links)
        self.accounts: dict[UUID, Account] = {}
        self._accounts_by_email: dict[EmailKey, UUID] = {}
        self._tombstones: list[Tombstone] = sorted(tombstones, key=lambda tombstone: tombstone.deleted_at)
        self._users: dict[UUID, User] = {}
        self._users_by_name: dict[ResourceKey, UUID] = {}
        self._users_by_external_id: dict[ResourceKey, UUID] = {}
        self._users_by_account: dict[UUID, UUID] = {}
        self._groups: dict[UUID, Group] = {}
        self._groups_by_name: dict[ResourceKey, UUID] = {}
        self._groups_by_external_id: dict[ResourceKey, UUID] = {}
        self._members: defaultdict[UUID, set[UUID]] = defaultdict(set)
        self._groups_of: defaultdict[UUID, set[UUID]] = defaultdict(set)
        # Connection and id of what may become a member.
        self._member_types = member_types or {}
        self._children: defaultdict[UUID, set[UUID]] = defaultdict(set)
        self._parents: defaultdict[UUID, set[UUID]] = defaultdict(set)
        for user in users:
            self.put_user(user)
        for account in accounts:
            self.put_account(account)
        for group in groups:
            self.put_group(group)
        for group_id, member_id in memberships:
            self._join(group_id, member_id)
        for group_id, member_id in nested:
            self._nest(group_id, member_id)

    # --- users and accounts

    def user(self, connection_id: UUID, user_id: UUID) -> User | None:
        """The live user of this connection; another connection's is as unknown as none (threat T3)."""
        user = self._users.get(user_id)
        return user if user and user.connection_id == connection_id else None

    def user_named(self, connection_id: UUID, user_name_key: str) -> User | None:
        return self._user_at(self._users_by_name.get((connection_id, user_name_key)))

    def user_with_external_id(self, connection_id: UUID, external_id: str) -> User | None:
        return self._user_at(self._users_by_external_id.get((connection_id, external_id)))

    def user_of(self, account_id: UUID) -> User | None:
        """The account's one live user, of whichever connection."""
        return self._user_at(self._users_by_account.get(account_id))

    def account_with_email(self, organization_id: UUID, email_key: str) -> Account | None:
        account_id = self._accounts_by_email.get((organization_id, email_key))
        return self.accounts.get(account_id) if account_id else None

    def tombstones(self, connection_id: UUID) -> list[Tombstone]:
        """This connection's loaded tombstones, the latest first."""
        return [stone for stone in reversed(self._tombstones) if stone.connection_id == connection_id]

    def put_user(self, user: User) -> None:
        self._forget_user(user.id)
        self._users[user.id] = user
        self._users_by_name[user.connection_id, user.user_name_key] = user.id
        if user.external_id is not None:
            self._users_by_external_id[user.connection_id, user.external_id] = user.id
        self._users_by_account[user.account_id] = user.id
        self._member_types[user.connection_id, user.id] = "User"

    def remove_user(self, tombstone: Tombstone) -> None:
        self._forget_user(tombstone.id)
        self._tombstones.append(tombstone)

    def put_account(self, account: Account) -> None:
        before = self.accounts.get(account.id)
        if before and before.email_key is not None:
            self._accounts_by_email.pop((before.organization_id, before.email_key), None)
        self.accounts[account.id] = account
        if account.email_key is not None:
            self._accounts_by_email[account.organization_id, account.email_key] = account.id

    # --- groups and members

    def group(self, connection_id: UUID, group_id: UUID) -> Group | None:
        """The live group of this connection; another connection's is as unknown as none."""
        group = self._groups.get(group_id)
        return group if group and group.connection_id == connection_id else None

    def group_named(self, connection_id: UUID, display_name_key: str) -> Group | None:
        return self._group_at(self._groups_by_name.get((connection_id, display_name_key)))

    def group_with_external_id(self, connection_id: UUID, external_id: str) -> Group | None:
        return self._group_at(self._groups_by_external_id.get((connection_id, external_id)))

    def member_type(self, connection_id: UUID, member_id: UUID) -> str | None:
        """`User` or `Group` when this connection has it, so that it can be a member."""
        return self._member_types.get((connection_id, member_id))

    def is_member(self, group_id: UUID, member_id: UUID) -> bool:
        return member_id in self._members[group_id]

    def members(self, group_id: UUID) -> set[UUID]:
        """All members, of a group that was loaded whole."""
        return self._members[group_id]

    def groups_of(self, member_id: UUID) -> list[Group]:
        """The groups that a user or group which is about to be deleted is directly in."""
        return [self._groups[group_id] for group_id in sorted(self._groups_of[member_id]) if group_id in self._groups]

    def nested_in(self, group_id: UUID) -> set[UUID]:
        """All groups below this one."""
        found: set[UUID] = set()
        waiting = [group_id]
        while waiting:
            for child in self._children[waiting.pop()] - found:
                found.add(child)
                waiting.append(child)
        return found

    def levels_above(self, group_id: UUID) -> int:
        """How many groups the longest chain of groups over this one has."""
        return _levels(self._parents, group_id)

    def levels_below(self, group_id: UUID) -> int:
        """How many groups the longest chain of groups under this one has."""
        return _levels(self._children, group_id)

    def put_group(self, group: Group) -> None:
        self._forget_group(group.id)
        self._groups[group.id] = group
        self._groups_by_name[group.connection_id, group.display_name_key] = group.id
        if group.external_id is not None:
            self._groups_by_external_id[group.connection_id, group.external_id] = group.id
        self._member_types[group.connection_id, group.id] = "Group"

    def remove_group(self, group_id: UUID) -> None:
        self._forget_group(group_id)
        for member_id in self._members.pop(group_id, set()):
            self._groups_of[member_id].discard(group_id)
        for child in self._children.pop(group_id, set()):
            self._parents[child].discard(group_id)

    def add_member(self, group_id: UUID, member_id: UUID, member_type: str) -> None:
        self._join(group_id, member_id)
        if member_type == "Group":
            self._nest(group_id, member_id)

    def remove_member(self, group_id: UUID, member_id: UUID) -> None:
        self._members[group_id].discard(member_id)
        self._groups_of[member_id].discard(group_id)
        self._children[group_id].discard(member_id)
        self._parents[member_id].discard(group_id)

    def _join(self, group_id: UUID, member_id: UUID) -> None:
        self._members[group_id].add(member_id)
        self._groups_of[member_id].add(group_id)

    def _nest(self, group_id: UUID, member_id: UUID) -> None:
        self._children[group_id].add(member_id)
        self._parents[member_id].add(group_id)

    def _user_at(self, user_id: UUID | None) -> User | None:
        return self._users.get(user_id) if user_id else None

    def _group_at(self, group_id: UUID | None) -> Group | None:
        return self._groups.get(group_id) if group_id else None

    def _forget_user(self, user_id: UUID) -> None:
        user = self._users.pop(user_id, None)
        if user is None:
            return
        self._users_by_name.pop((user.connection_id, user.user_name_key), None)
        if user.external_id is not None:
            self._users_by_external_id.pop((user.connection_id, user.external_id), None)
        self._users_by_account.pop(user.account_id, None)
        self._member_types.pop((user.connection_id, user_id), None)

    def _forget_group(self, group_id: UUID) -> None:
        group = self._groups.pop(group_id, None)
        if group is None:
            return
        self._groups_by_name.pop((group.connection_id, group.display_name_key), None)
        if group.external_id is not None:
            self._groups_by_external_id.pop((group.connection_id, group.external_id), None)
        self._member_types.pop((group.connection_id, group_id), None)


def _levels(neighbours: dict[UUID, set[UUID]], start: UUID) -> int:
    """The longest way from `start`, level by level; there are no cycles, and depth is bounded."""
    levels = 0
    level = neighbours[start]
    while level:
        levels += 1
        level = set().union(*(neighbours[group_id] for group_id in level))
    return levels
