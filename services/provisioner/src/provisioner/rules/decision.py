"""What a rule answers, and what every rule needs to say it."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from contracts import Change, Outcome
from provisioner.state import Account, Group, Link, Tombstone, User
from scim.errors import PreconditionFailed

type Membership = tuple[UUID, UUID, str]  # group, member, type of the member


@dataclass(frozen=True, slots=True)
class Decision:
    """What a change does: the rows as they are afterwards, those that go, the memberships gained and lost.

    A refusal or a no-op has an outcome only.
    """

    outcome: Outcome
    user: User | None = None
    removed_user: Tombstone | None = None
    account: Account | None = None
    link: Link | None = None
    groups: Sequence[Group] = ()
    removed_group: UUID | None = None
    joined: Sequence[Membership] = ()
    left: Sequence[tuple[UUID, UUID]] = ()
    closed_connection: UUID | None = None


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
