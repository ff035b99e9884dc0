"""The part of the directory that a batch touches, held in memory while its changes are decided one after another."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from uuid import UUID

from contracts import FIRST_HASH, Json
from scim.schema import GROUP, USER, ResourceType


@dataclass(frozen=True, slots=True)
class Guard:
    """When a burst of deactivations from a connection is an alarm, and whether it is held back.

    More than `users` distinct users and more than `percent` of the active ones within an hour.
    """

    users: int
    percent: int
    holds: bool
    released_until: datetime | None
    tripped_at: datetime | None
    active_users: int


GUARD = Guard(users=25, percent=10, holds=False, released_until=None, tripped_at=None, active_users=0)


@dataclass(frozen=True, slots=True)
class Connection:
    """One IdP application of an organization, as far as a change depends on it."""

    id: UUID
    organization_id: UUID
    is_open: bool
    has_plan: bool
    link_existing_accounts: bool
    append_only: bool = False
    guard: Guard = GUARD
    mappings_version: int = 0
    """The organization's: 0 while it never had a group mapping."""
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
    deactivated_at: datetime | None = None


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
    owns_name: bool = True
    """Made under its name, which nobody bore before: only such a group reaches protected roles by its name."""
    name_version: int = 0
    """The organization's mappings_version when it got its name."""

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


@dataclass(frozen=True, slots=True)
class Role:
    """A role of an organization; a protected one is the built-in admin."""

    id: UUID
    organization_id: UUID
    is_protected: bool


@dataclass(frozen=True, slots=True)
class Hold:
    """A deactivation that the guard holds back until an admin decides; `change` is the change as it came."""

    id: UUID
    organization_id: UUID
    connection_id: UUID
    user_id: UUID
    account_id: UUID
    change: Json
    held_at: datetime


@dataclass(frozen=True, slots=True)
class LinkRequest:
    """A connection's wish for an account that it may not touch."""

    id: UUID
    organization_id: UUID
    connection_id: UUID
    account_id: UUID
    user_name: str
    requested_at: datetime


type GrantKey = tuple[UUID, UUID]  # account and role of a manual grant
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
    accounts: set[UUID] = field(default_factory=set)
    roles: set[UUID] = field(default_factory=set)
    display_names: set[ResourceKey] = field(default_factory=set)
    """Exact names that groups shall bear: whether one bore them before must be known."""
    suspending: set[UUID] = field(default_factory=set)
    """Organizations in which somebody may lose access: who their admins are must be known."""
    guarded: dict[UUID, datetime] = field(default_factory=dict)
    """Connections that may deactivate users, with the earliest time: how many they did before must be known."""
    leaving: set[UUID] = field(default_factory=set)
    """Users and groups to be deleted: the groups that they are in must be known."""
    chain: int = 0
    """The partition, whose last event must be known."""

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
        connections: Sequence[Connection] = (),
        live_tokens: Iterable[UUID] = (),
        rested_tokens: Iterable[UUID] = (),
        replies: dict[UUID, bytes] | None = None,
        users: Iterable[User] = (),
        accounts: Iterable[Account] = (),
        tombstones: Iterable[Tombstone] = (),
        links: Iterable[tuple[UUID, UUID]] = (),
        groups: Iterable[Group] = (),
        memberships: Iterable[tuple[UUID, UUID, str]] = (),
        member_types: dict[tuple[UUID, UUID], str] | None = None,
        nested: Iterable[tuple[UUID, UUID]] = (),
        roles: Iterable[Role] = (),
        grants: Iterable[GrantKey] = (),
        admins: Iterable[tuple[UUID, UUID, bool]] = (),
        deactivations: Iterable[tuple[UUID, datetime, int]] = (),
        holds: Iterable[tuple[UUID, UUID]] = (),
        borne_names: Iterable[ResourceKey] = (),
        last_event: tuple[int, bytes] = (0, FIRST_HASH),
    ) -> None:
        self.connections = {connection.id: connection for connection in connections}
        self.live_tokens = set(live_tokens)
        self.rested_tokens = set(rested_tokens)
        """Live tokens that were not used within the last minute."""
        self.replies = replies or {}
        self.links = set(links)
        self.roles = {role.id: role for role in roles}
        self.grants = set(grants)
        """Manual grants of the accounts that an admin changes."""
        self.open_holds = dict(holds)
        """Id of the open hold of a user."""
        self.borne_names = set(borne_names)
        self.last_event = last_event
        """Number and hash of the last row of the partition's chain of events."""
        self.accounts: dict[UUID, Account] = {}
        self.active_users = Counter({connection.id: connection.guard.active_users for connection in connections})
        self.guard_tripped: dict[UUID, datetime] = {}
        self._admins: defaultdict[UUID, dict[UUID, bool]] = defaultdict(dict)
        for organization_id, account_id, is_active in admins:
            self._admins[organization_id][account_id] = is_active
        self._deactivations: defaultdict[UUID, Counter[datetime]] = defaultdict(Counter)
        for connection_id, minute, count in deactivations:
            self._deactivations[connection_id][minute] += count
        self._accounts_by_email: dict[EmailKey, UUID] = {}
        self._tombstones: list[Tombstone] = sorted(tombstones, key=lambda tombstone: tombstone.deleted_at)
        self._users: dict[UUID, User] = {}
        self._users_by_name: dict[ResourceKey, UUID] = {}
        self._users_by_external_id: dict[ResourceKey, UUID] = {}
        self._users_by_account: dict[UUID, UUID] = {}
        self._groups: dict[UUID, Group] = {}
        self._groups_by_name: dict[ResourceKey, UUID] = {}
        self._groups_by_external_id: dict[ResourceKey, UUID] = {}
        self._members: defaultdict[UUID, dict[UUID, str]] = defaultdict(dict)
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
        for group_id, member_id, member_type in memberships:
            self._join(group_id, member_id, member_type)
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

    # --- admins, and the guard's window

    def is_last_admin(self, account: Account) -> bool:
        """Whether the account is its organization's only active admin; known where Touched.suspending asked for it."""
        admins = self._admins[account.organization_id]
        return account.id in admins and not any(
            self._is_active(other, admins) for other in admins.keys() - {account.id}
        )

    def is_admin(self, account: Account) -> bool:
        return account.id in self._admins[account.organization_id]

    def put_admin(self, account: Account) -> None:
        self._admins[account.organization_id][account.id] = account.is_active

    def remove_admin(self, account: Account) -> None:
        self._admins[account.organization_id].pop(account.id, None)

    def deactivated_since(self, connection_id: UUID, start: datetime) -> int:
        """How many users the connection deactivated in the minutes that began after `start`."""
        return sum(count for minute, count in self._deactivations[connection_id].items() if minute > start)

    def count_deactivation(self, connection_id: UUID, minute: datetime) -> None:
        self._deactivations[connection_id][minute] += 1

    def _is_active(self, account_id: UUID, admins: dict[UUID, bool]) -> bool:
        account = self.accounts.get(account_id)
        return account.is_active if account else admins[account_id]

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

    def members(self, group_id: UUID) -> dict[UUID, str]:
        """All members with their types, of a group that was loaded whole."""
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
        for member_id in self._members.pop(group_id, {}):
            self._groups_of[member_id].discard(group_id)
        for child in self._children.pop(group_id, set()):
            self._parents[child].discard(group_id)

    def add_member(self, group_id: UUID, member_id: UUID, member_type: str) -> None:
        self._join(group_id, member_id, member_type)
        if member_type == "Group":
            self._nest(group_id, member_id)

    def remove_member(self, group_id: UUID, member_id: UUID) -> None:
        self._members[group_id].pop(member_id, None)
        self._groups_of[member_id].discard(group_id)
        self._children[group_id].discard(member_id)
        self._parents[member_id].discard(group_id)

    def _join(self, group_id: UUID, member_id: UUID, member_type: str) -> None:
        self._members[group_id][member_id] = member_type
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
