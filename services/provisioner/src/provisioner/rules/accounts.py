"""Which account a SCIM user stands for, and what the account takes from it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from contracts import Change, Json
from provisioner.rules.decision import Refused
from provisioner.state import Account, Connection, Directory, Link, LinkRequest
from scim.errors import Uniqueness
from scim.keys import email_key


@dataclass(frozen=True, slots=True)
class Person:
    """What an account takes from a SCIM user."""

    email: str | None
    email_key: str | None
    display_name: str


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
    raise Refused(
        409,
        "An account with this email address exists and is not managed by this connection; an admin of the organization"
        " can link it",
        scim_type="uniqueness",
        link_request=LinkRequest(
            id=change.id,
            organization_id=connection.organization_id,
            connection_id=connection.id,
            account_id=account.id,
            user_name=(change.resource or {}).get("userName", ""),
            requested_at=change.received_at,
        ),
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
