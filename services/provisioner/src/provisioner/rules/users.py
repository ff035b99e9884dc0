"""The rules of the directory (design section 5): what each change does, decided from values alone.

No clock, no ids, no I/O: ids and times come with the change, so a replay of the log gives the same directory.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from contracts import Change, Json, Operation, Outcome, ResourceType
from provisioner.state import Account, Connection, Directory, Link, Tombstone, Touched, User
from scim.errors import Forbidden, NotFound, PreconditionFailed, ScimError, Unauthorized, Uniqueness
from scim.keys import email_key, identity_key
from scim.patch import apply_patch, operations_from_json
from scim.schema import USER

# A create that was applied this long past its deadline was certainly never answered by the gateway's own wait.
LATE = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Decision:
    """What a change does. `user` and `account` are the rows as they are afterwards; none for a refusal or a no-op."""

    outcome: Outcome
    user: User | None = None
    removed: Tombstone | None = None
    account: Account | None = None
    link: Link | None = None
    closed_connection: UUID | None = None


@dataclass(frozen=True, slots=True)
class Person:
    """What an account takes from a SCIM user."""

    email: str | None
    email_key: str | None
    display_name: str


def decide(directory: Directory, change: Change, applied_at: datetime) -> Decision:
    """The change's decision; a refusal is an outcome like any other."""
    try:
        connection = admit(directory, change)
        if change.resource_type is ResourceType.CONNECTION:
            return close_connection(change)
        return USER_RULES[change.operation](directory, connection, change, applied_at)
    except ScimError as error:
        return Decision(refusal(change, error))


def apply(directory: Directory, decision: Decision) -> None:
    """Move the directory on to the state after the decision."""
    if decision.removed:
        directory.remove_user(decision.removed)
    if decision.user:
        directory.put_user(decision.user)
    if decision.account:
        directory.put_account(decision.account)
    if decision.link:
        directory.links.add((decision.link.connection_id, decision.link.account_id))


def refusal(change: Change, error: ScimError) -> Outcome:
    """The outcome that carries a SCIM error."""
    return Outcome(
        change_id=change.id,
        resource_type=change.resource_type,
        resource_id=change.resource_id,
        status=error.status,
        scim_type=error.scim_type,
        detail=error.detail,
    )


def failure(change: Change, detail: str) -> Outcome:
    """The outcome of a change that could not be decided."""
    return Outcome(
        change_id=change.id,
        resource_type=change.resource_type,
        resource_id=change.resource_id,
        status=500,
        detail=detail,
    )


def touched_by(changes: Iterable[Change]) -> Touched:
    """Every key that deciding these changes can ask for, from what the changes say."""
    touched = Touched()
    for change in changes:
        touched.changes.add(change.id)
        touched.connections.add(change.connection_id)
        if change.token_id:
            touched.tokens.add(change.token_id)
        if change.resource_type is ResourceType.USER:
            touched.users.add(change.resource_id)
            _touch_names(touched, change)
    return touched


def emails_of(resource: Json) -> set[str]:
    """The keys of all email addresses in a canonical user: each may become the account's."""
    values = [resource.get("userName"), *(email.get("value") for email in resource.get("emails", ()))]
    return {key for value in values if isinstance(value, str) and (key := email_key(value))}


# --- admission -----------------------------------------------------------------------------------------------------


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


def close_connection(change: Change) -> Decision:
    """All users of a deleted connection go; their accounts stay as they are."""
    return Decision(succeeded(change, 204), closed_connection=change.connection_id)


# --- users ---------------------------------------------------------------------------------------------------------


def create_user(directory: Directory, connection: Connection, change: Change, applied_at: datetime) -> Decision:
    """A new user, linked to a new account or to the one that the same person had before."""
    resource = {**(change.resource or {})}
    resource.setdefault("active", True)
    key = identity_key(resource["userName"])
    namesake = directory.user_named(connection.id, key)
    if namesake and is_repeat(namesake, change):
        return Decision(succeeded(change, 201, namesake))
    person = person_of(resource)
    account, link = account_for(directory, connection, change, person, key, resource.get("externalId"))
    late = applied_at > change.deadline + LATE
    user = User(
        id=change.resource_id,
        connection_id=connection.id,
        account_id=account.id,
        user_name=resource["userName"],
        user_name_key=key,
        external_id=resource.get("externalId"),
        active=resource["active"],
        resource=resource,
        version=1,
        created_at=change.received_at,
        last_modified=change.received_at,
        late_fingerprint=change.fingerprint if late else None,
    )
    require_unique(directory, user)
    account = with_person(directory, account, person, user.active, change.received_at)
    return Decision(succeeded(change, 201, user), user=user, account=account, link=link)


def is_repeat(user: User, change: Change) -> bool:
    """Whether this create repeats one whose answer was never delivered (design section 4, "Repeated creates")."""
    return user.version == 1 and change.fingerprint is not None and user.late_fingerprint == change.fingerprint


def replace_user(directory: Directory, connection: Connection, change: Change, _: datetime) -> Decision:
    """PUT: what is omitted is cleared, except `active`, which stays as it is."""
    user = find_user(directory, connection, change)
    return changed_user(directory, user, change, {"active": user.active, **(change.resource or {})})


def patch_user(directory: Directory, connection: Connection, change: Change, _: datetime) -> Decision:
    """PATCH: all operations or none."""
    user = find_user(directory, connection, change)
    resource = apply_patch(USER, user.resource, operations_from_json(USER, change.patch or []))
    return changed_user(directory, user, change, resource)


def changed_user(directory: Directory, user: User, change: Change, resource: Json) -> Decision:
    """The user with this resource; version and lastModified stay when nothing differs (RFC 7644 section 3.5.2)."""
    resource = {"active": True, **resource}
    if resource == user.resource:
        return Decision(succeeded(change, 200, user))
    changed = replace(
        user,
        user_name=resource["userName"],
        user_name_key=identity_key(resource["userName"]),
        external_id=resource.get("externalId"),
        active=resource["active"],
        resource=resource,
        version=user.version + 1,
        last_modified=max(change.received_at, user.last_modified),
    )
    require_unique(directory, changed)
    account = with_person(
        directory, directory.accounts[user.account_id], person_of(resource), changed.active, change.received_at
    )
    return Decision(succeeded(change, 200, changed), user=changed, account=account)


def delete_user(directory: Directory, connection: Connection, change: Change, _: datetime) -> Decision:
    """The resource goes; the account is suspended and keeps its history."""
    user = find_user(directory, connection, change)
    tombstone = Tombstone(
        id=user.id,
        connection_id=user.connection_id,
        account_id=user.account_id,
        user_name_key=user.user_name_key,
        external_id=user.external_id,
        deleted_at=change.received_at,
    )
    account = with_status(directory.accounts[user.account_id], is_active=False, at=change.received_at)
    return Decision(succeeded(change, 204), removed=tombstone, account=account)


USER_RULES = {
    Operation.CREATE: create_user,
    Operation.REPLACE: replace_user,
    Operation.PATCH: patch_user,
    Operation.DELETE: delete_user,
}


def find_user(directory: Directory, connection: Connection, change: Change) -> User:
    """The change's target, at the version that `If-Match` asks for."""
    user = directory.user(connection.id, change.resource_id)
    if user is None:
        raise NotFound(f"User {change.resource_id} not found")
    if change.if_match and not matches_version(change.if_match, user.version):
        raise PreconditionFailed(f'The user is at version W/"{user.version}" by now; read it again')
    return user


def matches_version(if_match: str, version: int) -> bool:
    """Whether an If-Match header names this version; weak tags compare by their value (RFC 7644 section 3.14)."""
    tags = (tag.strip().removeprefix("W/") for tag in if_match.split(","))
    return any(tag in ("*", f'"{version}"') for tag in tags)


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


# --- accounts ------------------------------------------------------------------------------------------------------


def person_of(resource: Json) -> Person:
    """What the account takes: as email userName when it is one, else the primary, else the first of the emails."""
    emails: Sequence[Json] = resource.get("emails", ())
    by_preference = [
        resource["userName"],
        *(email.get("value") for email in emails if email.get("primary")),
        *(email.get("value") for email in emails),
    ]
    email = next((value for value in by_preference if isinstance(value, str) and email_key(value)), None)
    return Person(email, email_key(email) if email else None, display_name_of(resource))


def display_name_of(resource: Json) -> str:
    """Given and family name, else what comes nearest."""
    name: dict[str, Any] = resource.get("name", {})
    full = " ".join(part for part in (name.get("givenName"), name.get("familyName")) if part)
    return full or name.get("formatted") or resource.get("displayName") or resource["userName"]


def account_for(
    directory: Directory,
    connection: Connection,
    change: Change,
    person: Person,
    user_name_key: str,
    external_id: str | None,
) -> tuple[Account, Link | None]:
    """The account of a new user: the one with the same email, else the one the same person had, else a new one.

    Never an account that this connection neither made nor was given (design section 5, "No takeover"; threat T1).
    """
    holder = directory.account_with_email(connection.organization_id, person.email_key) if person.email_key else None
    if holder:
        return holder, permission_to_take(directory, connection, change, holder)
    for account in former_accounts(directory, connection, user_name_key, external_id):
        return account, None
    account = Account(
        id=account_id_of(change.resource_id),
        organization_id=connection.organization_id,
        email=person.email,
        email_key=person.email_key,
        display_name=person.display_name,
        is_active=True,
        epoch=0,
        break_glass=False,
        created_at=change.received_at,
        updated_at=change.received_at,
    )
    return account, Link(connection.id, account.id, "created", change.received_at)


def permission_to_take(directory: Directory, connection: Connection, change: Change, account: Account) -> Link | None:
    """The link to make (None: it is there already), or a refusal."""
    if directory.user_of(account.id):
        raise Uniqueness("A user with this email address exists already")
    if (connection.id, account.id) in directory.links:
        return None
    if connection.link_existing_accounts and not account.break_glass:
        return Link(connection.id, account.id, "email", change.received_at)
    raise Uniqueness(
        "An account with this email address exists and is not managed by this connection; "
        "an admin of the organization can link it"
    )


def former_accounts(
    directory: Directory, connection: Connection, user_name_key: str, external_id: str | None
) -> Iterator[Account]:
    """Accounts of deleted users of this connection that were the same person, by externalId first, then by userName."""
    stones = directory.tombstones(connection.id)
    same_person = [
        *(stone for stone in stones if external_id is not None and stone.external_id == external_id),
        *(stone for stone in stones if stone.user_name_key == user_name_key),
    ]
    for stone in same_person:
        account = directory.accounts.get(stone.account_id)
        if account and not directory.user_of(account.id) and (connection.id, account.id) in directory.links:
            yield account


def account_id_of(user_id: UUID) -> UUID:
    """The id of the account that a user's creation makes: as unique as the user's, and never equal to it."""
    return UUID(int=user_id.int ^ 1)


def with_person(directory: Directory, account: Account, person: Person, is_active: bool, at: datetime) -> Account:
    """The account with the person's email and name, active or suspended."""
    if person.email_key is not None:
        holder = directory.account_with_email(account.organization_id, person.email_key)
        if holder and holder.id != account.id:
            raise Uniqueness("An account with this email address exists already")
    account = with_status(account, is_active=is_active, at=at)
    if (account.email, account.display_name) == (person.email, person.display_name):
        return account
    return replace(
        account, email=person.email, email_key=person.email_key, display_name=person.display_name, updated_at=at
    )


def with_status(account: Account, *, is_active: bool, at: datetime) -> Account:
    """Suspension raises the epoch: every session made before is dead."""
    if account.is_active == is_active:
        return account
    epoch = account.epoch if is_active else account.epoch + 1
    return replace(account, is_active=is_active, epoch=epoch, updated_at=at)


# --- helpers of the above ------------------------------------------------------------------------------------------


def succeeded(change: Change, status: int, user: User | None = None) -> Outcome:
    """The outcome of a change that was applied, or that had nothing to do."""
    return Outcome(
        change_id=change.id,
        resource_type=change.resource_type,
        resource_id=user.id if user else change.resource_id,
        status=status,
        resource=user.resource if user else None,
        resource_version=user.version if user else None,
        created=user.created_at if user else None,
        last_modified=user.last_modified if user else None,
    )


def _touch_names(touched: Touched, change: Change) -> None:
    for resource in (change.resource, *map(_as_resource, change.patch or ())):
        if not resource:
            continue
        if isinstance(user_name := resource.get("userName"), str):
            _touch_user_name(touched, change.connection_id, user_name)
        if isinstance(external_id := resource.get("externalId"), str):
            touched.external_ids.add((change.connection_id, external_id))
        touched.emails.update((change.organization_id, key) for key in emails_of(resource))


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
