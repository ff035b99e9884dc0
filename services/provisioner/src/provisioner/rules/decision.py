"""What a rule answers, and what every rule needs to say it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from contracts import Change, EventType, Json, MappingRequest, Outcome, SubjectType
from provisioner.state import Account, GrantKey, Group, Hold, Link, LinkRequest, Tombstone, User
from scim.errors import PreconditionFailed

type Membership = tuple[UUID, UUID, str]  # group, member, type of the member
type Leaving = tuple[UUID, UUID, str]


@dataclass(frozen=True, slots=True)
class Fact:
    """What happened, before it is known to be committed; becomes a row of `events`."""

    type: EventType
    subject_type: SubjectType
    subject_id: UUID
    data: Json


@dataclass(slots=True)  # not frozen: with this many fields that costs 8 us for each change
class Decision:
    """What a change does: the rows as they are afterwards, those that go, the memberships gained and lost.

    A refusal or a no-op has an outcome, and what it leaves for an admin to decide. `rules.decide` completes what a rule
    has made; afterwards it does not change.
    """

    outcome: Outcome
    user: User | None = None
    removed_user: Tombstone | None = None
    account: Account | None = None
    account_before: Account | None = None
    link: Link | None = None
    unlinked: tuple[UUID, UUID] | None = None
    """Connection and account."""
    groups: Sequence[Group] = ()
    renamed_group: UUID | None = None
    removed_group: UUID | None = None
    joined: Sequence[Membership] = ()
    left: Sequence[Leaving] = ()
    closed_connection: UUID | None = None
    granted: Sequence[GrantKey] = ()
    revoked: Sequence[GrantKey] = ()
    applied_mappings: MappingRequest | None = None
    active_users: int = 0
    """How many active users the connection gained, or lost."""
    deactivated_at: datetime | None = None
    """The minute in which a deactivation counts for the guard."""
    trips_guard: bool = False
    hold: Hold | None = None
    resolved_hold: tuple[UUID, str] | None = None
    """Id and resolution."""
    link_request: LinkRequest | None = None
    rejected_link: tuple[UUID, UUID] | None = None
    """Connection and account of a link request that is turned down."""
    facts: Sequence[Fact] = ()

    @property
    def loses_roles(self) -> bool:
        """Whether group grants may go with it."""
        return bool(self.left or self.removed_user or self.removed_group or self.renamed_group)

    @property
    def gains_roles(self) -> bool:
        """Whether group grants may come with it."""
        return bool(self.joined or self.renamed_group)


class Refused(Exception):
    """A refusal that leaves something behind: a hold, a link request, an alarm."""

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        scim_type: str | None = None,
        hold: Hold | None = None,
        link_request: LinkRequest | None = None,
        facts: Sequence[Fact] = (),
        guard_tripped: bool = False,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.scim_type = scim_type
        self.detail = detail
        self.hold = hold
        self.link_request = link_request
        self.facts = facts
        self.guard_tripped = guard_tripped

    def decision(self, change: Change) -> Decision:
        """The outcome, and what is left behind."""
        return Decision(
            failed(change, self.status, self.scim_type, self.detail),
            hold=self.hold,
            link_request=self.link_request,
            facts=self.facts,
            trips_guard=self.guard_tripped,
        )


def succeeded(change: Change, status: int, resource: User | Group | None = None) -> Outcome:
    """The outcome of a change that was applied, or that had nothing to do."""
    return Outcome(
        change_id=change.id,
        resource_type=change.resource_type,
        resource_id=resource.id if resource else change.resource_id,
        status=status,
        resource=resource.resource if resource else None,
        resource_version=resource.version if resource else None,
        created=resource.created_at if resource else None,
        last_modified=resource.last_modified if resource else None,
    )


def failed(change: Change, status: int, scim_type: str | None, detail: str) -> Outcome:
    """The outcome that carries a SCIM error; nothing was changed."""
    return Outcome(
        change_id=change.id,
        resource_type=change.resource_type,
        resource_id=change.resource_id,
        status=status,
        scim_type=scim_type,
        detail=detail,
    )


def require_version(if_match: str | None, version: int) -> None:
    """Raise PreconditionFailed unless the If-Match header, if any, names this version."""
    if if_match and not matches_version(if_match, version):
        raise PreconditionFailed(f'The resource is at version W/"{version}" by now; read it again')


def matches_version(if_match: str, version: int) -> bool:
    """Whether an If-Match header names this version; weak tags compare by their value (RFC 7644 section 3.14)."""
    tags = (tag.strip().removeprefix("W/") for tag in if_match.split(","))
    return any(tag in ("*", f'"{version}"') for tag in tags)


def is_repeat(created: User | Group, change: Change) -> bool:
    """Whether a create repeats one whose answer was never delivered (design section 4, "Repeated creates")."""
    return created.version == 1 and change.fingerprint is not None and created.late_fingerprint == change.fingerprint
