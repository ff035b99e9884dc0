"""What a change does to a SCIM user and the account that it stands for."""

from dataclasses import replace
from datetime import datetime, timedelta
from uuid import UUID

from contracts import Change, Json, Operation
from provisioner.rules.accounts import account_for, person_of, with_person, with_status
from provisioner.rules.decision import Decision, is_repeat, require_version, succeeded
from provisioner.rules.guard import Permission, counts, permit
from provisioner.state import Connection, Directory, Tombstone, Touched, User
from scim.errors import NotFound, ScimError, Uniqueness
from scim.keys import email_key, identity_key
from scim.patch import apply_patch, operations_from_json

# A create that was applied this long past its deadline was certainly never answered by the gateway's own wait.
LATE = timedelta(seconds=1)
SUSPENDS = Permission(suspends=True)


def create(directory: Directory, connection: Connection, change: Change, applied_at: datetime) -> Decision:
    """A new user, linked to a new account or to the one that the same person had before."""
    resource = {**(change.resource or {})}
    resource.setdefault("active", True)
    key = identity_key(resource["userName"])
    namesake = directory.user_named(connection.id, key)
    if namesake and is_repeat(namesake, change):
        return Decision(succeeded(change, 201, namesake))
    user = User(
        id=change.resource_id,
        connection_id=connection.id,
        account_id=change.resource_id,  # until the account is found
        user_name=resource["userName"],
        user_name_key=key,
        external_id=resource.get("externalId"),
        active=resource["active"],
        resource=resource,
        version=1,
        created_at=change.received_at,
        last_modified=change.received_at,
        late_fingerprint=change.fingerprint if applied_at > change.deadline + LATE else None,
    )
    require_unique(directory, user)
    person = person_of(resource)
    account, link = account_for(directory, connection, change, person, key, user.external_id)
    user = replace(user, account_id=account.id)
    permission = SUSPENDS
    if account.id in directory.accounts and not user.active:
        permission = permit(directory, connection, change, user, account)
    is_active = user.active or (account.is_active and not permission.suspends)
    account = with_person(directory, account, person, is_active, change.received_at)
    return Decision(
        succeeded(change, 201, user),
        user=user,
        account=account,
        link=link,
        facts=permission.facts,
        trips_guard=permission.trips_guard,
    )


def replace_(directory: Directory, connection: Connection, change: Change, _: datetime) -> Decision:
    """PUT: what is omitted is cleared, except `active`."""
    user = find(directory, connection, change)
    return changed(directory, connection, user, change, {"active": user.active, **(change.resource or {})})


def patch(directory: Directory, connection: Connection, change: Change, _: datetime) -> Decision:
    """PATCH: all operations or none."""
    user = find(directory, connection, change)
    operations = operations_from_json(connection.user_type, change.patch or [])
    return changed(directory, connection, user, change, apply_patch(connection.user_type, user.resource, operations))


def changed(directory: Directory, connection: Connection, user: User, change: Change, resource: Json) -> Decision:
    """The user with this resource; version and lastModified stay when nothing differs (RFC 7644 section 3.5.2).

    The account follows `active` when that changes: an admin's suspension stands until the identity provider says
    something new. Removing `active` unassigns it in the resource, and neither suspends nor reactivates.
    """
    before = directory.accounts[user.account_id]
    was_active, active = user.active, resource.get("active", user.active)
    resolved_hold = cancelled_hold(directory, user, change, active=active)
    if resource == user.resource:
        return Decision(succeeded(change, 200, user), resolved_hold=resolved_hold)
    permission = permit(directory, connection, change, user, before) if was_active and not active else SUSPENDS
    deactivated_at = counted_deactivation(user, change.received_at) if was_active and not active else None
    user = replace(
        user,
        user_name=resource["userName"],
        user_name_key=identity_key(resource["userName"]),
        external_id=resource.get("externalId"),
        active=active,
        resource=resource,
        version=user.version + 1,
        last_modified=max(change.received_at, user.last_modified),
        deactivated_at=deactivated_at or user.deactivated_at,
    )
    require_unique(directory, user)
    is_active = (active or not permission.suspends) if active != was_active else before.is_active
    account = with_person(directory, before, person_of(resource), is_active, change.received_at)
    return Decision(
        succeeded(change, 200, user),
        user=user,
        account=account if account != before else None,
        deactivated_at=deactivated_at,
        resolved_hold=resolved_hold,
        facts=permission.facts,
        trips_guard=permission.trips_guard,
    )


def delete(directory: Directory, connection: Connection, change: Change, _: datetime) -> Decision:
    """The resource goes, also from its groups; the account is suspended and keeps its history."""
    user = find(directory, connection, change)
    before = directory.accounts[user.account_id]
    permission = permit(directory, connection, change, user, before)
    tombstone = Tombstone(
        id=user.id,
        connection_id=user.connection_id,
        account_id=user.account_id,
        user_name_key=user.user_name_key,
        external_id=user.external_id,
        deleted_at=change.received_at,
    )
    is_active = before.is_active and not permission.suspends
    account = with_status(before, is_active=is_active, at=change.received_at)
    groups = directory.groups_of(user.id)
    return Decision(
        succeeded(change, 204),
        removed_user=tombstone,
        account=account,
        groups=[group.touched(change.received_at) for group in groups],
        left=[(group.id, user.id, "User") for group in groups],
        deactivated_at=counted_deactivation(user, change.received_at) if user.active else None,
        resolved_hold=resolution(directory, user, "cancelled"),
        facts=permission.facts,
        trips_guard=permission.trips_guard,
    )


def counted_deactivation(user: User, at: datetime) -> datetime | None:
    """The minute in which the guard counts this deactivation; None when it counted the user within the hour."""
    return at.replace(second=0, microsecond=0) if counts(user, at) else None


def cancelled_hold(directory: Directory, user: User, change: Change, *, active: bool) -> tuple[UUID, str] | None:
    """The hold that ends because the change says that the user is active."""
    parts = [change.resource or {}, *({part["path"]: part.get("value")} for part in change.patch or ())]
    says_active = active and any(part.get("active") is True for part in parts)
    return resolution(directory, user, "cancelled") if says_active else None


def resolution(directory: Directory, user: User, how: str) -> tuple[UUID, str] | None:
    """The user's open hold, ended this way."""
    hold_id = directory.open_holds.get(user.id)
    return (hold_id, how) if hold_id else None


def find(directory: Directory, connection: Connection, change: Change) -> User:
    """The change's target, at the version that `If-Match` asks for."""
    user = directory.user(connection.id, change.resource_id)
    if user is None:
        raise NotFound("User not found")
    require_version(change.if_match, user.version)
    return user


def require_unique(directory: Directory, user: User) -> None:
    """userName and externalId are each taken once in a connection."""
    namesake = directory.user_named(user.connection_id, user.user_name_key)
    if namesake and namesake.id != user.id:
        raise Uniqueness("userName is already in use")
    if user.external_id is None:
        return
    other = directory.user_with_external_id(user.connection_id, user.external_id)
    if other and other.id != user.id:
        raise Uniqueness("externalId is already in use")


def touch(touched: Touched, change: Change) -> None:
    """Name the user, and every userName, externalId and email that the change can bring."""
    touched.users.add(change.resource_id)
    if change.operation is Operation.DELETE:
        touched.leaving.add(change.resource_id)
    if may_suspend(change):
        touched.suspending.add(change.organization_id)
        seen = touched.guarded.get(change.connection_id, change.received_at)
        touched.guarded[change.connection_id] = min(seen, change.received_at)
    for resource in (change.resource, *map(_as_resource, change.patch or ())):
        if not resource:
            continue
        if isinstance(user_name := resource.get("userName"), str):
            _touch_user_name(touched, change.connection_id, user_name)
        if isinstance(external_id := resource.get("externalId"), str):
            touched.external_ids.add((change.connection_id, external_id))
        touched.emails.update((change.organization_id, key) for key in emails_of(resource))


def may_suspend(change: Change) -> bool:
    """Whether somebody may lose access by it: it deletes, or says `active: false` somewhere."""
    said = [(change.resource or {}).get("active"), *(_as_active(operation) for operation in change.patch or ())]
    return change.operation is Operation.DELETE or False in said


def _as_active(operation: Json) -> object:
    return operation.get("value") if operation["path"] == "active" else None


def emails_of(resource: Json) -> set[str]:
    """The keys of all email addresses in a canonical user: each may become the account's."""
    values = [resource.get("userName"), *(email.get("value") for email in resource.get("emails", ()))]
    return {key for value in values if isinstance(value, str) and (key := _email_key(value))}


def _email_key(value: str) -> str | None:
    try:
        return email_key(value)
    except ScimError:
        return None  # the rule refuses it in its turn


def _touch_user_name(touched: Touched, connection_id: UUID, user_name: str) -> None:
    try:
        touched.user_names.add((connection_id, identity_key(user_name)))
    except ScimError:
        return  # the rule refuses it in its turn


def _as_resource(operation: Json) -> Json:
    """A patch operation's value as far as it can bring a new userName, externalId or email."""
    attribute, value = operation["path"].partition("[")[0].partition(".")[0], operation.get("value")
    if attribute != "emails":
        return {attribute: value}
    elements = value if isinstance(value, list) else [value]
    return {"emails": [element if isinstance(element, dict) else {"value": element} for element in elements]}
