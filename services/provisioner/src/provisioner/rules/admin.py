"""What an admin asks of accounts, group mappings and holds; admin-api has checked that they may."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from uuid import UUID

from contracts import AccountRequest, Change, EventType, MappingRequest, Operation, ResourceType, SubjectType
from provisioner.rules.accounts import with_status
from provisioner.rules.decision import Decision, Fact, Refused, succeeded
from provisioner.state import Account, Directory, GrantKey, Link, Touched
from scim.errors import InvalidValue, NotFound, ScimError, Uniqueness
from scim.keys import email_key


def create_account(directory: Directory, change: Change) -> Decision:
    """An account that no connection manages."""
    request = change.account or AccountRequest()
    account = Account(
        id=change.resource_id,
        organization_id=change.organization_id,
        email=None,
        email_key=None,
        display_name=request.display_name or request.email or "",
        is_active=request.active is not False,
        epoch=0,
        break_glass=bool(request.break_glass),
        created_at=change.received_at,
        updated_at=change.received_at,
    )
    if account.id in directory.accounts:
        raise Uniqueness("An account with this id exists already")
    account = with_email(directory, account, request.email, change.received_at)
    granted = [(account.id, find_role(directory, change, role_id)) for role_id in request.grant]
    return Decision(succeeded(change, 201), account=account, granted=granted)


def patch_account(directory: Directory, change: Change) -> Decision:
    """Everything that the request names, or nothing."""
    request, at = change.account or AccountRequest(), change.received_at
    before = account = find_account(directory, change)
    if request.active is not None:
        account = with_status(account, is_active=request.active, at=at)
    if request.break_glass is not None and request.break_glass != account.break_glass:
        account = replace(account, break_glass=request.break_glass, updated_at=at)
    if request.email is not None or request.display_name is not None:
        require_unmanaged(directory, account)
        account = with_email(directory, account, request.email or account.email, at)
        account = replace(account, display_name=request.display_name or account.display_name, updated_at=at)
    granted, revoked = list(granted_by(directory, change)), list(revoked_by(directory, change))
    if before.is_active and not (account.is_active and keeps_admin(directory, account, revoked)):
        require_other_admin(directory, before)
    return Decision(
        succeeded(change, 200),
        account=account if account != before else None,
        granted=granted,
        revoked=revoked,
        link=link_to(directory, change, account, request.link) if request.link else None,
        unlinked=unlinked(directory, account, request.unlink) if request.unlink else None,
        rejected_link=(request.reject_link, account.id) if request.reject_link else None,
    )


def granted_by(directory: Directory, change: Change) -> Iterator[GrantKey]:
    for role_id in (change.account or AccountRequest()).grant:
        grant = (change.resource_id, find_role(directory, change, role_id))
        if grant not in directory.grants:
            yield grant


def revoked_by(directory: Directory, change: Change) -> Iterator[GrantKey]:
    for role_id in (change.account or AccountRequest()).revoke:
        grant = (change.resource_id, find_role(directory, change, role_id))
        if grant in directory.grants:
            yield grant


def keeps_admin(directory: Directory, account: Account, revoked: list[GrantKey]) -> bool:
    """Whether no protected role is taken away; one that a group gives as well counts as taken away, to be safe."""
    return not any(directory.roles[role_id].is_protected for _, role_id in revoked)


def find_account(directory: Directory, change: Change) -> Account:
    """The organization's account; raises NotFound, also for another organization's."""
    account = directory.accounts.get(change.resource_id)
    if account is None or account.organization_id != change.organization_id:
        raise NotFound("Account not found")
    return account


def find_role(directory: Directory, change: Change, role_id: UUID) -> UUID:
    """The id of a role of the organization."""
    role = directory.roles.get(role_id)
    if role is None or role.organization_id != change.organization_id:
        raise NotFound("Role not found")
    return role.id


def with_email(directory: Directory, account: Account, email: str | None, at: datetime) -> Account:
    """The account with this email, which nobody else in the organization has."""
    if email is None or email == account.email:
        return account
    key = email_key(email)
    if key is None:
        raise InvalidValue("The email must be an address: one @ and no blanks")
    holder = directory.account_with_email(account.organization_id, key)
    if holder and holder.id != account.id:
        raise Uniqueness("An account with this email address exists already")
    return replace(account, email=email, email_key=key, updated_at=at)


def require_unmanaged(directory: Directory, account: Account) -> None:
    """Raise a conflict when a connection says what the account is called."""
    if directory.user_of(account.id):
        raise Refused(409, "The account's email and name come from its identity provider; change them there")


def require_other_admin(directory: Directory, account: Account) -> None:
    """Raise a conflict when the organization would have no active admin left."""
    if directory.is_last_admin(account):
        raise Refused(409, "This is the organization's last active admin; make somebody else an admin first")


def link_to(directory: Directory, change: Change, account: Account, connection_id: UUID) -> Link:
    """The right of the connection to change the account."""
    connection = directory.connections.get(connection_id)
    if connection is None or not connection.is_open or connection.organization_id != change.organization_id:
        raise NotFound("Connection not found")
    return Link(connection_id, account.id, "admin", change.received_at)


def unlinked(directory: Directory, account: Account, connection_id: UUID) -> tuple[UUID, UUID]:
    """The link that goes; a live user keeps it."""
    if (connection_id, account.id) not in directory.links:
        raise NotFound("The connection is not linked to this account")
    user = directory.user_of(account.id)
    if user and user.connection_id == connection_id:
        raise Refused(409, "The connection has a user for this account; it must be deleted or unassigned there first")
    return connection_id, account.id


def apply_mappings(change: Change) -> Decision:
    """Grants by groups become what the live mappings say for the members that there are."""
    request = change.mapping or MappingRequest()
    data = {"scimGroupName": request.scim_group_name}
    fact = Fact(EventType.MAPPINGS_APPLIED, SubjectType.ORGANIZATION, change.organization_id, data)
    return Decision(succeeded(change, 200), applied_mappings=request, facts=[fact])


def discard_hold(change: Change) -> Decision:
    """The held deactivation is forgotten; one that is no longer open stays as it was resolved."""
    return Decision(succeeded(change, 204), resolved_hold=(change.resource_id, "discarded"))


def decide(directory: Directory, change: Change) -> Decision:
    """The decision about an admin's change."""
    match change.resource_type, change.operation:
        case ResourceType.ACCOUNT, Operation.CREATE:
            return create_account(directory, change)
        case ResourceType.ACCOUNT, Operation.PATCH:
            return patch_account(directory, change)
        case ResourceType.GROUP_MAPPING, Operation.APPLY:
            return apply_mappings(change)
        case ResourceType.HOLD, Operation.DELETE:
            return discard_hold(change)
    raise ValueError(f"no rule for {change.operation} of {change.resource_type}")


def touch(touched: Touched, change: Change) -> None:
    """Name the account, its new email, its roles and the connections that it shall be linked to."""
    request = change.account
    if request is None:
        return
    touched.accounts.add(change.resource_id)
    touched.roles.update((*request.grant, *request.revoke))
    touched.connections.update(filter(None, (request.link, request.unlink)))
    if request.email and (key := _email_key(request.email)):
        touched.emails.add((change.organization_id, key))
    if request.active is False or request.revoke:
        touched.suspending.add(change.organization_id)


def _email_key(email: str) -> str | None:
    try:
        return email_key(email)
    except ScimError:
        return None  # the rule refuses it in its turn
