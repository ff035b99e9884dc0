"""Whether directory sync may suspend an account: never the last admin or a break-glass account, and no burst unseen."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from contracts import Change, EventType, SubjectType
from provisioner.rules.decision import Fact, Refused
from provisioner.state import Account, Connection, Directory, Hold, User
from scim.errors import Forbidden

WINDOW = timedelta(hours=1)  # in which deactivations are counted, by their `received_at`

HELD = (
    "This deactivation is held back: the connection deactivates unusually many users at once, and an admin of the"
    " organization must confirm it first; nothing was changed"
)


@dataclass(frozen=True, slots=True)
class Permission:
    """What a deactivation may do; without `suspends` the user changes and the account stays active."""

    suspends: bool
    facts: Sequence[Fact] = ()
    trips_guard: bool = False


def permit(directory: Directory, connection: Connection, change: Change, user: User, account: Account) -> Permission:
    """The permission to suspend the user's account; raises Forbidden, and Refused with a hold for the admin."""
    if not account.is_active:
        return Permission(suspends=True)
    require_spare(directory, account)
    if connection.append_only:
        skipped = Fact(EventType.DEACTIVATION_SKIPPED, SubjectType.ACCOUNT, account.id, {"userId": str(user.id)})
        return Permission(suspends=False, facts=[skipped])
    if change.hold_id or not is_burst(directory, connection, change.received_at, user):
        return Permission(suspends=True)
    facts = alarm(directory, connection, change)
    if holds_back(connection, change.received_at):
        hold = Hold(
            id=directory.open_holds.get(user.id, change.id),
            organization_id=connection.organization_id,
            connection_id=connection.id,
            user_id=user.id,
            account_id=account.id,
            change=change.model_dump(mode="json", exclude_none=True),
            held_at=change.received_at,
        )
        held = Fact(EventType.DEACTIVATION_HELD, SubjectType.ACCOUNT, account.id, {"userId": str(user.id)})
        raise Refused(503, HELD, hold=hold, facts=[*facts, held], guard_tripped=bool(facts))
    return Permission(suspends=True, facts=facts, trips_guard=bool(facts))


def require_spare(directory: Directory, account: Account) -> None:
    """Raise Forbidden for an account without which nobody may get in any more (threat T15)."""
    if account.break_glass:
        raise Forbidden("This is a break-glass account, which directory sync never suspends; nothing was changed")
    if directory.is_last_admin(account):
        raise Forbidden("This is the organization's last active admin; nothing was changed")


def is_burst(directory: Directory, connection: Connection, at: datetime, user: User) -> bool:
    """Whether this deactivation makes more than the connection's guard lets pass within an hour."""
    is_counted = counts(user, at)
    before = directory.deactivated_since(connection.id, at - WINDOW)
    count = before + is_counted
    active_at_start = directory.active_users[connection.id] + before
    return count > connection.guard.users and count * 100 > connection.guard.percent * active_at_start


def counts(user: User, at: datetime) -> bool:
    """Whether the user was not deactivated within the last hour already: the guard counts distinct users."""
    return user.deactivated_at is None or user.deactivated_at <= at - WINDOW


def alarm(directory: Directory, connection: Connection, change: Change) -> list[Fact]:
    """The alarm, once an hour."""
    tripped_at = directory.guard_tripped.get(connection.id, connection.guard.tripped_at)
    if tripped_at and change.received_at - tripped_at < WINDOW:
        return []
    count = directory.deactivated_since(connection.id, change.received_at - WINDOW) + 1
    data = {"deactivated": count, "active": directory.active_users[connection.id], "holds": connection.guard.holds}
    return [Fact(EventType.GUARD_TRIPPED, SubjectType.CONNECTION, connection.id, data)]


def holds_back(connection: Connection, at: datetime) -> bool:
    guard = connection.guard
    return guard.holds and not (guard.released_until and at < guard.released_until)
