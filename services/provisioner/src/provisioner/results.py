"""What a batch decided: the rows to write, each in its last state, and the replies to send afterwards."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from contracts import (
    MAX_EFFECTS,
    AccountEffect,
    Change,
    Effects,
    GrantEffect,
    MappingRequest,
    Operation,
    Outcome,
    ResourceType,
)
from provisioner import rules
from provisioner.chain import ChainedEvent
from provisioner.records import Poison
from provisioner.rules import Fact
from provisioner.rules.facts import account_json, differing
from provisioner.state import Account, Directory, GrantKey, Group, Hold, Link, LinkRequest, Tombstone, User


@dataclass(frozen=True, slots=True)
class Reply:
    """An outcome on its way to the gateway that waits for it."""

    change_id: UUID
    partition: int
    value: bytes
    traceparent: str | None = None


@dataclass(slots=True)
class RoleMoves:
    """The changes of a run that move roles by groups: those are computed once, when all rows are written.

    The result is that of one by one as long as the changes all give or all take, and nobody asks for it in between.
    Only organizations that ever had a group mapping are concerned.
    """

    versions: dict[UUID, int] = field(default_factory=dict)
    """The mappings_version at which each organization's changes are decided."""
    gains: bool = False
    losses: bool = False
    is_bulk: bool = False
    """One change in many operations, never taken apart."""
    causes: dict[UUID, Change] = field(default_factory=dict)
    """The change that moved a member or a group."""
    whole_groups: list[UUID] = field(default_factory=list)
    """Groups of which everybody's roles are given anew: the renamed ones."""
    deleted_groups: list[UUID] = field(default_factory=list)
    deleted_accounts: list[UUID] = field(default_factory=list)
    """Accounts whose SCIM user was deleted."""
    applied: tuple[UUID, MappingRequest] | None = None
    """Organization whose mappings are applied to the members that there are."""

    def __bool__(self) -> bool:
        return bool(self.versions)

    def admit(self, directory: Directory, change: Change, decision: rules.Decision) -> bool:
        """Take the decision's moves in; False, and nothing is taken, when it must be decided after them."""
        if decision.applied_mappings:
            self.applied = change.organization_id, decision.applied_mappings
            self.versions[change.organization_id] = NOW
            return True
        connection = directory.connections.get(change.connection_id)
        moves = decision.gains_roles, decision.loses_roles
        if self and not self.is_bulk and not self._is_independent(directory, decision, moves):
            return False
        if connection and connection.mappings_version and any(moves):
            self.versions[connection.organization_id] = connection.mappings_version
            self.gains |= moves[0]
            self.losses |= moves[1]
            self._take(change, decision)
        return True

    def _is_independent(self, directory: Directory, decision: rules.Decision, moves: tuple[bool, bool]) -> bool:
        if decision.outcome.status in (403, 409) or (decision.account and directory.is_admin(decision.account)):
            return False
        return not any(moves) or (moves == (self.gains, self.losses) != (True, True))

    def _take(self, change: Change, decision: rules.Decision) -> None:
        for group_id, member_id, _ in (*decision.joined, *decision.left):
            self.causes[member_id] = self.causes[group_id] = change
        if decision.renamed_group:
            self.whole_groups.append(decision.renamed_group)
            self.causes[decision.renamed_group] = change
        if decision.removed_group:
            self.deleted_groups.append(decision.removed_group)
            self.causes[decision.removed_group] = change
        if decision.removed_user:
            self.deleted_accounts.append(decision.removed_user.account_id)
            self.causes[decision.removed_user.account_id] = change


NOW = 2**62  # as a mappings_version: the mappings that stand when they are read


@dataclass(slots=True)
class Results:
    """What a batch decided: the rows to write, each in its last state, and the replies to send afterwards."""

    decided: list[tuple[Change, Outcome, bytes]] = field(default_factory=list)
    replies: list[Reply] = field(default_factory=list)
    poison: list[Poison] = field(default_factory=list)
    links: list[Link] = field(default_factory=list)
    removed_groups: list[UUID] = field(default_factory=list)
    closed_connections: list[UUID] = field(default_factory=list)
    _users: dict[UUID, User] = field(default_factory=dict)
    _accounts: dict[UUID, Account] = field(default_factory=dict)
    _tombstones: dict[UUID, Tombstone] = field(default_factory=dict)
    _groups: dict[UUID, Group] = field(default_factory=dict)
    _memberships: dict[tuple[UUID, UUID], tuple[str, bool]] = field(default_factory=dict)
    """Group and member: the member's type, and whether it is one at the end."""
    facts: list[tuple[Change, Fact]] = field(default_factory=list)
    events: list[ChainedEvent] = field(default_factory=list)
    """The rows that were written, in the order of their chain; empty until then."""
    roles: RoleMoves = field(default_factory=lambda: RoleMoves())
    unlinked: list[tuple[UUID, UUID]] = field(default_factory=list)
    granted: dict[GrantKey, Change] = field(default_factory=dict)
    revoked: list[GrantKey] = field(default_factory=list)
    holds: dict[UUID, Hold] = field(default_factory=dict)
    resolved_holds: list[tuple[UUID, str, str]] = field(default_factory=list)
    """Id, resolution, and by whom."""
    link_requests: list[LinkRequest] = field(default_factory=list)
    approved_links: list[tuple[UUID, UUID, str]] = field(default_factory=list)
    rejected_links: list[tuple[UUID, UUID, str]] = field(default_factory=list)
    """Connection, account, and by whom."""
    deactivations: Counter[tuple[UUID, datetime]] = field(default_factory=Counter)
    tripped: dict[UUID, datetime] = field(default_factory=dict)
    active_users: Counter[UUID] = field(default_factory=Counter)
    borne_names: set[tuple[UUID, str]] = field(default_factory=set)
    accounts_before: dict[UUID, Account | None] = field(default_factory=dict)
    rested: Set[UUID] = frozenset()
    """Live tokens that were not used within the last minute."""
    taken: int = 0
    """How many of the items were decided; the others need what these leave behind."""

    @property
    def users(self) -> list[User]:
        return list(self._users.values())

    @property
    def accounts(self) -> list[Account]:
        return list(self._accounts.values())

    @property
    def known_accounts(self) -> list[Account]:
        """Those of `accounts` that were there before the batch: only they can have sessions."""
        return [account for account in self._accounts.values() if self.accounts_before[account.id]]

    @property
    def tombstones(self) -> list[Tombstone]:
        return list(self._tombstones.values())

    @property
    def groups(self) -> list[Group]:
        return list(self._groups.values())

    @property
    def joined(self) -> list[tuple[UUID, UUID, str]]:
        """Group, member and its type, of every membership that stands at the end."""
        return [(*pair, member_type) for pair, (member_type, stands) in self._memberships.items() if stands]

    @property
    def left(self) -> list[tuple[UUID, UUID, str]]:
        """The same of every membership that does not."""
        return [(*pair, member_type) for pair, (member_type, stands) in self._memberships.items() if not stands]

    def versioned_joined(self) -> list[tuple[UUID, UUID, str, int]]:
        """`joined` with the mappings_version at which the membership began; 0 where no mapping ever was."""
        causes, versions = self.roles.causes, self.roles.versions
        return [
            (*joined, versions[causes[joined[1]].organization_id] if joined[1] in causes else 0)
            for joined in self.joined
        ]

    @property
    def live_tokens(self) -> list[UUID]:
        """The tokens by which something was changed: they must be live until that is committed."""
        used = {change.token_id for change, outcome, _ in self.decided if outcome.status < 300}
        return [token_id for token_id in used if token_id]

    @property
    def is_plain(self) -> bool:
        """Whether users, groups, memberships, links and events are all that there is to write."""
        return not (
            self.unlinked
            or self.granted
            or self.revoked
            or self.holds
            or self.resolved_holds
            or self.link_requests
            or self.rejected_links
            or self.closed_connections
            or self.roles
            or self.approved_links
        )

    @property
    def rested_tokens(self) -> list[UUID]:
        """Tokens of `rested` whose changes were applied or refused by a rule: they are in use again."""
        used = {change.token_id for change, outcome, _ in self.decided if outcome.status != 401}
        return [token_id for token_id in self.rested if token_id in used]

    def add(self, change: Change, decision: rules.Decision) -> None:
        """Take a decision in."""
        reply = decision.outcome.model_dump_json(exclude_none=True).encode()
        self.decided.append((change, decision.outcome, reply))
        self.answer(change, reply)
        if decision.user:
            self._users[decision.user.id] = decision.user
        if decision.removed_user:
            self._users.pop(decision.removed_user.id, None)
            self._tombstones[decision.removed_user.id] = decision.removed_user
        self._take_groups(decision)
        if decision.account:
            self._accounts[decision.account.id] = decision.account
            self.accounts_before.setdefault(decision.account.id, decision.account_before)
        if decision.link:
            self.links.append(decision.link)
        if decision.closed_connection:
            self.closed_connections.append(decision.closed_connection)
        self.active_users[change.connection_id] += decision.active_users
        self.facts.extend((change, fact) for fact in decision.facts)
        self._take_grants(change, decision)
        self._take_guard(change, decision)

    def _take_grants(self, change: Change, decision: rules.Decision) -> None:
        self.granted.update(dict.fromkeys(decision.granted, change))
        self.revoked.extend(decision.revoked)
        if decision.unlinked:
            self.unlinked.append(decision.unlinked)
        if decision.link_request:
            self.link_requests.append(decision.link_request)
        if decision.link and decision.link.origin == "admin":
            self.approved_links.append((decision.link.connection_id, decision.link.account_id, change.actor))
        if decision.rejected_link:
            self.rejected_links.append((*decision.rejected_link, change.actor))

    def _take_guard(self, change: Change, decision: rules.Decision) -> None:
        if decision.deactivated_at:
            self.deactivations[change.connection_id, decision.deactivated_at] += 1
        if decision.trips_guard:
            self.tripped[change.connection_id] = change.received_at
        if decision.hold:
            self.holds[decision.hold.user_id] = decision.hold
        if decision.resolved_hold:
            self.resolved_holds.append((*decision.resolved_hold, change.actor))

    def _take_groups(self, decision: rules.Decision) -> None:
        for group in decision.groups:
            self._groups[group.id] = group
            if group.version == 1 or group.id == decision.renamed_group:
                self.borne_names.add((group.connection_id, group.display_name))
        for group_id, member_id, member_type in decision.left:
            self._memberships[group_id, member_id] = member_type, False
        for group_id, member_id, member_type in decision.joined:
            self._memberships[group_id, member_id] = member_type, True
        if removed := decision.removed_group:
            self.removed_groups.append(removed)
            self._groups.pop(removed, None)
            self._memberships = {pair: kind for pair, kind in self._memberships.items() if pair[0] != removed}

    def effects(self, grants: Sequence[GrantEffect], *, gained: int, lost: int) -> Effects:
        """What these results do to accounts, and to roles: `grants` are those by groups."""
        manual = [
            *(GrantEffect(account_id=account, role_id=role, gained=False) for account, role in self.revoked),
            *(GrantEffect(account_id=account, role_id=role, gained=True) for account, role in self.granted),
        ]
        return Effects(
            accounts=tuple(self._account_effects())[:MAX_EFFECTS],
            grants=(*manual, *grants)[:MAX_EFFECTS],
            gained=gained + len(self.granted),
            lost=lost + len(self.revoked),
        )

    def _account_effects(self) -> Iterator[AccountEffect]:
        for account in self.accounts:
            was, now = differing(account_json(self.accounts_before.get(account.id)), account_json(account))
            if was or now:
                yield AccountEffect(account_id=account.id, before=was or None, after=now)

    def told(self, effects: Effects) -> "Results":
        """The answers alone, the last with the effects that the rest of these results has, or would have."""
        told = Results(rested=self.rested, taken=self.taken)
        last = len(self.decided) - 1
        for position, (change, outcome, _) in enumerate(self.decided):
            said = {"dry_run": change.dry_run, "effects": effects if position == last else None}
            told.add(change, rules.Decision(outcome.model_copy(update=said)))
        return told

    def tell(self, effects: Effects) -> None:
        """Put the effects into the answers."""
        told = self.told(effects)
        self.decided, self.replies = told.decided, told.replies

    def answer(self, change: Change, reply: bytes) -> None:
        """Send `reply` to the gateway that waits, if one does."""
        if change.reply_partition is not None:
            self.replies.append(Reply(change.id, change.reply_partition, reply, change.traceparent))

    def counts(
        self, at: datetime
    ) -> list[tuple[UUID, int, int, int, datetime | None, datetime | None, datetime | None]]:
        """Per connection: users, active users, groups gained; when one succeeded, one failed, the guard tripped."""
        counted: dict[UUID, Counted] = defaultdict(Counted)
        for change, outcome, _ in self.decided:
            if not change.dry_run:
                counted[change.connection_id].take(change, outcome)
        return [
            (
                connection,
                count.users,
                self.active_users[connection],
                count.groups,
                at if count.succeeded else None,
                at if count.failed else None,
                self.tripped.get(connection),
            )
            for connection, count in counted.items()
        ]


@dataclass(slots=True)
class Counted:
    """What a batch did to one connection."""

    users: int = 0
    groups: int = 0
    succeeded: bool = False
    failed: bool = False

    def take(self, change: Change, outcome: Outcome) -> None:
        if outcome.status >= 400:
            self.failed = True
            return
        self.succeeded = True
        if change.resource_type is ResourceType.USER:
            self.users += _gained(change, outcome)
        elif change.resource_type is ResourceType.GROUP:
            self.groups += _gained(change, outcome)


def _gained(change: Change, outcome: Outcome) -> int:
    if change.operation is Operation.DELETE:
        return -1
    # A repeated create is answered with the resource that the first one made.
    return 1 if outcome.status == 201 and outcome.resource_id == change.resource_id else 0
