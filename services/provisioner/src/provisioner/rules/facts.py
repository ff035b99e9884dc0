"""What a decision makes known: rows of the audit trail, and events for other services."""

from collections.abc import Iterator
from typing import Any
from uuid import UUID

from contracts import MAX_EFFECTS, Change, EventType, Json, Operation, ResourceType, SubjectType
from provisioner.rules.decision import Decision, Fact
from provisioner.state import Account, Directory, Group, User

CHANGED = {
    Operation.CREATE: EventType.CREATED,
    Operation.REPLACE: EventType.REPLACED,
    Operation.PATCH: EventType.PATCHED,
}


def facts_of(directory: Directory, change: Change, decision: Decision) -> list[Fact]:
    """What `decision` does to the `directory` as it was before; `data` holds `before` and `after`, of what differs."""
    return [
        *_of_user(directory, change, decision),
        *_of_group(directory, change, decision),
        *_of_account(directory, change, decision),
        *_of_links(decision),
        *decision.facts,
    ]


def _of_user(directory: Directory, change: Change, decision: Decision) -> Iterator[Fact]:
    if stone := decision.removed_user:
        before = directory.user(stone.connection_id, stone.id)
        data = {"userId": str(stone.id), "before": before.resource if before else None}
        yield Fact(EventType.DELETED, SubjectType.ACCOUNT, stone.account_id, data)
    if user := decision.user:
        yield from _of_changed_user(directory.user(user.connection_id, user.id), user, change)


def _of_changed_user(before: User | None, user: User, change: Change) -> Iterator[Fact]:
    named: Json = {"userId": str(user.id)}
    if before is None:
        yield Fact(EventType.CREATED, SubjectType.ACCOUNT, user.account_id, named | {"after": user.resource})
        return
    was, now = differing(before.resource, user.resource)
    if before.active != user.active:
        kind = EventType.ACTIVATED if user.active else EventType.DEACTIVATED
        yield Fact(kind, SubjectType.ACCOUNT, user.account_id, named)
    if was.keys() - {"active"} or now.keys() - {"active"}:
        kind = CHANGED[change.operation]
        yield Fact(kind, SubjectType.ACCOUNT, user.account_id, named | {"before": was, "after": now})


def _of_group(directory: Directory, change: Change, decision: Decision) -> Iterator[Fact]:
    if decision.removed_group:
        before = directory.group(change.connection_id, decision.removed_group)
        data = {"before": before.resource if before else None}
        yield Fact(EventType.DELETED, SubjectType.GROUP, decision.removed_group, data)
    for group in decision.groups:
        if group.id == change.resource_id and change.resource_type is ResourceType.GROUP:
            yield _of_changed_group(directory.group(group.connection_id, group.id), group, change, decision)


def _of_changed_group(before: Group | None, group: Group, change: Change, decision: Decision) -> Fact:
    was, now = differing(before.resource if before else {}, group.resource)
    data: Json = {"after": now} if before is None else {"before": was, "after": now}
    for name, members in (("joined", decision.joined), ("left", decision.left)):
        if members:
            data[name] = [str(member_id) for _, member_id, _ in members[:MAX_EFFECTS]]
            data[f"{name}Count"] = len(members)
    return Fact(CHANGED[change.operation], SubjectType.GROUP, group.id, data)


def _of_account(directory: Directory, change: Change, decision: Decision) -> Iterator[Fact]:
    """What an admin did to an account; what SCIM does to one is told of its user."""
    if change.resource_type is not ResourceType.ACCOUNT:
        return
    if account := decision.account:
        was, now = differing(account_json(directory.accounts.get(account.id)), account_json(account))
        if set(was | now) == {"active"}:
            yield Fact(
                EventType.ACTIVATED if account.is_active else EventType.DEACTIVATED, SubjectType.ACCOUNT, account.id, {}
            )
        else:
            yield Fact(
                CHANGED[change.operation], SubjectType.ACCOUNT, account.id, {"before": was or None, "after": now}
            )
    if decision.granted or decision.revoked:
        yield roles_changed(
            change.resource_id,
            gained=[(role_id, None) for _, role_id in decision.granted],
            lost=[(role_id, None) for _, role_id in decision.revoked],
        )


def _of_links(decision: Decision) -> Iterator[Fact]:
    if (link := decision.link) and link.origin != "created":
        data = {"connectionId": str(link.connection_id), "origin": link.origin}
        yield Fact(EventType.LINKED, SubjectType.ACCOUNT, link.account_id, data)
    if decision.unlinked:
        connection_id, account_id = decision.unlinked
        yield Fact(EventType.UNLINKED, SubjectType.ACCOUNT, account_id, {"connectionId": str(connection_id)})
    if request := decision.link_request:
        data = {"connectionId": str(request.connection_id), "userName": request.user_name}
        yield Fact(EventType.LINK_REQUESTED, SubjectType.ACCOUNT, request.account_id, data)
    if decision.closed_connection:
        yield Fact(EventType.CONNECTION_CLOSED, SubjectType.CONNECTION, decision.closed_connection, {})


type Source = tuple[UUID, UUID | None]  # role, and the group that gave it


def roles_changed(account_id: UUID, gained: list[Source], lost: list[Source]) -> Fact:
    """The roles that an account gained and lost, each with its source."""
    data = {
        name: [{"roleId": str(role), **({"groupId": str(group)} if group else {})} for role, group in sources]
        for name, sources in (("gained", gained), ("lost", lost))
        if sources
    }
    return Fact(EventType.ROLES_CHANGED, SubjectType.ACCOUNT, account_id, data)


def account_json(account: Account | None) -> Json:
    """What people want to know of an account."""
    if account is None:
        return {}
    return {
        "email": account.email,
        "displayName": account.display_name,
        "active": account.is_active,
        "breakGlass": account.break_glass,
    }


def differing(before: Json, after: Json) -> tuple[Json, Json]:
    """The attributes that differ, as they were and as they are."""
    names = [name for name in {**before, **after} if before.get(name, _NOTHING) != after.get(name, _NOTHING)]
    return ({name: before[name] for name in names if name in before}, {n: after[n] for n in names if n in after})


_NOTHING: Any = object()
