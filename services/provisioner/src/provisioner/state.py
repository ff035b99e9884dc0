"""The part of the directory that a batch touches, held in memory while its changes are decided one after another."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from contracts import Json


@dataclass(frozen=True, slots=True)
class Connection:
    """One IdP application of an organization, as far as a change depends on it."""

    id: UUID
    organization_id: UUID
    is_open: bool
    has_plan: bool
    link_existing_accounts: bool


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


type UserKey = tuple[UUID, str]  # connection id and userName key or externalId
type EmailKey = tuple[UUID, str]  # organization id and email key


@dataclass(slots=True)
class Touched:
    """What a batch of changes can touch: the keys that must be loaded before deciding."""

    changes: set[UUID] = field(default_factory=set)
    connections: set[UUID] = field(default_factory=set)
    tokens: set[UUID] = field(default_factory=set)
    users: set[UUID] = field(default_factory=set)
    user_names: set[UserKey] = field(default_factory=set)
    external_ids: set[UserKey] = field(default_factory=set)
    emails: set[EmailKey] = field(default_factory=set)


class Directory:
    """The loaded rows and their indexes. `put_*` and `remove_user` move it on from change to change.

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
    ) -> None:
        self.connections = {connection.id: connection for connection in connections}
        self.live_tokens = set(live_tokens)
        self.replies = replies or {}
        self.users: dict[UUID, User] = {}
        self._users_by_name: dict[UserKey, UUID] = {}
        self._users_by_external_id: dict[UserKey, UUID] = {}
        self._users_by_account: dict[UUID, UUID] = {}
        self.accounts: dict[UUID, Account] = {}
        self._accounts_by_email: dict[EmailKey, UUID] = {}
        self.links = set(links)
        self._tombstones: list[Tombstone] = sorted(tombstones, key=lambda tombstone: tombstone.deleted_at)
        for user in users:
            self.put_user(user)
        for account in accounts:
            self.put_account(account)

    def user(self, connection_id: UUID, user_id: UUID) -> User | None:
        """The live user of this connection; another connection's is as unknown as none (threat T3)."""
        user = self.users.get(user_id)
        return user if user and user.connection_id == connection_id else None

    def user_named(self, connection_id: UUID, user_name_key: str) -> User | None:
        return self._at(self._users_by_name.get((connection_id, user_name_key)))

    def user_with_external_id(self, connection_id: UUID, external_id: str) -> User | None:
        return self._at(self._users_by_external_id.get((connection_id, external_id)))

    def user_of(self, account_id: UUID) -> User | None:
        """The account's one live user, of whichever connection."""
        return self._at(self._users_by_account.get(account_id))

    def account_with_email(self, organization_id: UUID, email_key: str) -> Account | None:
        account_id = self._accounts_by_email.get((organization_id, email_key))
        return self.accounts.get(account_id) if account_id else None

    def tombstones(self, connection_id: UUID) -> list[Tombstone]:
        """This connection's loaded tombstones, the latest first."""
        return [stone for stone in reversed(self._tombstones) if stone.connection_id == connection_id]

    def put_user(self, user: User) -> None:
        self._forget(user.id)
        self.users[user.id] = user
        self._users_by_name[user.connection_id, user.user_name_key] = user.id
        if user.external_id is not None:
            self._users_by_external_id[user.connection_id, user.external_id] = user.id
        self._users_by_account[user.account_id] = user.id

    def remove_user(self, tombstone: Tombstone) -> None:
        self._forget(tombstone.id)
        self._tombstones.append(tombstone)

    def put_account(self, account: Account) -> None:
        before = self.accounts.get(account.id)
        if before and before.email_key is not None:
            self._accounts_by_email.pop((before.organization_id, before.email_key), None)
        self.accounts[account.id] = account
        if account.email_key is not None:
            self._accounts_by_email[account.organization_id, account.email_key] = account.id

    def _at(self, user_id: UUID | None) -> User | None:
        return self.users.get(user_id) if user_id else None

    def _forget(self, user_id: UUID) -> None:
        user = self.users.pop(user_id, None)
        if user is None:
            return
        self._users_by_name.pop((user.connection_id, user.user_name_key), None)
        if user.external_id is not None:
            self._users_by_external_id.pop((user.connection_id, user.external_id), None)
        self._users_by_account.pop(user.account_id, None)
