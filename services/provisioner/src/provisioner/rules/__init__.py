"""The rules of the directory (design section 5): what each change does, decided from values alone.

No clock, no ids, no I/O: ids and times come with the change, so a replay of the log gives the same directory. `decide`
reads the directory, `apply` moves it on; whoever loads it asks `touched_by` what a rule may want to know.
"""

from collections.abc import Iterable
from datetime import datetime

from contracts import Change, Operation, ResourceType
from provisioner.rules import admin, groups, users
from provisioner.rules.decision import Decision, Fact, Refused, failed, succeeded
from provisioner.rules.facts import facts_of
from provisioner.state import Connection, Directory, Touched
from scim.errors import Forbidden, ScimError, Unauthorized, error_of

__all__ = ["Decision", "Fact", "apply", "decide", "failed", "refused", "succeeded", "touched_by"]

ADMINS = (ResourceType.ACCOUNT, ResourceType.GROUP_MAPPING, ResourceType.HOLD)
RULES = {
    (ResourceType.USER, Operation.CREATE): users.create,
    (ResourceType.USER, Operation.REPLACE): users.replace_,
    (ResourceType.USER, Operation.PATCH): users.patch,
    (ResourceType.USER, Operation.DELETE): users.delete,
    (ResourceType.GROUP, Operation.CREATE): groups.create,
    (ResourceType.GROUP, Operation.REPLACE): groups.replace_,
    (ResourceType.GROUP, Operation.PATCH): groups.patch,
    (ResourceType.GROUP, Operation.DELETE): groups.delete,
}


def decide(directory: Directory, change: Change, applied_at: datetime) -> Decision:
    """The change's decision; a refusal is an outcome like any other."""
    try:
        decision = _decide(directory, change, applied_at)
    except ScimError as error:
        decision = Decision(failed(change, error.status, error.scim_type, error.detail))
    except Refused as refused:
        decision = refused.decision(change)
    decision.resolved_hold = decision.resolved_hold or ((change.hold_id, "confirmed") if change.hold_id else None)
    decision.account_before = directory.accounts.get(decision.account.id) if decision.account else None
    decision.active_users = _active_users(directory, decision)
    decision.facts = facts_of(directory, change, decision)
    return decision


def _decide(directory: Directory, change: Change, applied_at: datetime) -> Decision:
    if change.resource_type in ADMINS:
        return admin.decide(directory, change)
    connection = admit(directory, change)
    if change.resource_type is ResourceType.CONNECTION:
        return Decision(succeeded(change, 204), closed_connection=change.connection_id)
    if change.refusal:
        raise error_of(change.refusal.status, change.refusal.scim_type, change.refusal.detail)
    return RULES[change.resource_type, change.operation](directory, connection, change, applied_at)


def _active_users(directory: Directory, decision: Decision) -> int:
    """How many active users the decision adds."""
    removed, user = decision.removed_user, decision.user
    before = removed or user
    was = directory.user(before.connection_id, before.id) if before else None
    return (user is not None and user.active) - (was is not None and was.active)


def refused(directory: Directory, change: Change) -> Decision | None:
    """The refusal of a change whose connection, token or plan is gone, whatever it asks for."""
    try:
        admit(directory, change)
    except ScimError as error:
        return Decision(failed(change, error.status, error.scim_type, error.detail))
    return None


def apply(directory: Directory, change: Change, decision: Decision) -> None:
    """Move the directory on to the state after the decision about the change."""
    for group_id, member_id, _ in decision.left:
        directory.remove_member(group_id, member_id)
    if decision.removed_user:
        directory.remove_user(decision.removed_user)
    if decision.removed_group:
        directory.remove_group(decision.removed_group)
    if decision.user:
        directory.put_user(decision.user)
    for group in decision.groups:
        directory.put_group(group)
        directory.borne_names.add((group.connection_id, group.display_name))
    for group_id, member_id, member_type in decision.joined:
        directory.add_member(group_id, member_id, member_type)
    if decision.account:
        directory.put_account(decision.account)
    if decision.link:
        directory.links.add((decision.link.connection_id, decision.link.account_id))
    if decision.unlinked:
        directory.links.discard(decision.unlinked)
    _apply_roles(directory, decision)
    _apply_guard(directory, change, decision)


def _apply_roles(directory: Directory, decision: Decision) -> None:
    directory.grants.update(decision.granted)
    directory.grants.difference_update(decision.revoked)
    for account_id, role_id in (*decision.granted, *decision.revoked):
        if directory.roles[role_id].is_protected:
            move = directory.put_admin if (account_id, role_id) in directory.grants else directory.remove_admin
            move(directory.accounts[account_id])


def _apply_guard(directory: Directory, change: Change, decision: Decision) -> None:
    directory.active_users[change.connection_id] += decision.active_users
    if decision.deactivated_at:
        directory.count_deactivation(change.connection_id, decision.deactivated_at)
    if decision.trips_guard:
        directory.guard_tripped[change.connection_id] = change.received_at
    if decision.hold:
        directory.open_holds[decision.hold.user_id] = decision.hold.id
    if decision.resolved_hold:
        hold_id, _ = decision.resolved_hold
        directory.open_holds = {user: hold for user, hold in directory.open_holds.items() if hold != hold_id}


def touched_by(changes: Iterable[Change]) -> Touched:
    """Every key that deciding these changes can ask for, from what the changes say."""
    touched = Touched()
    for change in changes:
        touched.changes.add(change.id)
        touched.connections.add(change.connection_id)
        if change.token_id:
            touched.tokens.add(change.token_id)
        for part in change.changes or [change]:
            touched.changes.add(part.id)
            if part.resource_type is ResourceType.USER:
                users.touch(touched, part)
            elif part.resource_type is ResourceType.GROUP:
                groups.touch(touched, part)
            else:
                admin.touch(touched, part)
    return touched


def admit(directory: Directory, change: Change) -> Connection:
    """The change's connection as it is in this transaction, whatever the gateway believed (threat T20)."""
    connection = directory.connections.get(change.connection_id)
    if connection is None or connection.organization_id != change.organization_id:
        raise Unauthorized("The connection does not exist")
    if change.resource_type is ResourceType.CONNECTION:
        return connection
    if not connection.is_open or (change.token_id and change.token_id not in directory.live_tokens):
        raise Unauthorized("The token was revoked before this change was applied; nothing was changed")
    if not connection.has_plan:
        raise Forbidden("The organization's enterprise plan is not active; nothing was changed")
    return connection
