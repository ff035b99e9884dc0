"""The audit trail of what admin-api writes itself; what goes through the provisioner is in the trail by its doing."""

from datetime import UTC, datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from admin_api.store import events
from contracts.events import EventRow
from servicekit.ids import uuid7

NO_ORGANIZATION = UUID(int=0)
"""The organization of what concerns the installation."""


class Act(StrEnum):
    """What people and keys do; the types of these events."""

    SIGNED_IN = "urn:directory-sync:event:signed-in"
    SIGNED_OUT = "urn:directory-sync:event:signed-out"
    TOKEN_ISSUED = "urn:directory-sync:event:token-issued"  # noqa: S105
    TOKEN_CHANGED = "urn:directory-sync:event:token-changed"  # noqa: S105
    TOKEN_REVOKED = "urn:directory-sync:event:token-revoked"  # noqa: S105
    TOKEN_EXPIRES = "urn:directory-sync:event:token-expires"  # noqa: S105
    CONNECTION_OPENED = "urn:directory-sync:event:connection-opened"
    CONNECTION_CHANGED = "urn:directory-sync:event:connection-changed"
    CONNECTION_DELETED = "urn:directory-sync:event:connection-deleted"
    ROLE_CREATED = "urn:directory-sync:event:role-created"
    ROLE_CHANGED = "urn:directory-sync:event:role-changed"
    ROLE_DELETED = "urn:directory-sync:event:role-deleted"
    MAPPING_CREATED = "urn:directory-sync:event:mapping-created"
    MAPPING_DELETED = "urn:directory-sync:event:mapping-deleted"
    KEY_CREATED = "urn:directory-sync:event:key-created"
    KEY_REVOKED = "urn:directory-sync:event:key-revoked"
    ORGANIZATION_CREATED = "urn:directory-sync:event:organization-created"
    ORGANIZATION_CHANGED = "urn:directory-sync:event:organization-changed"
    PERSON_ERASED = "urn:directory-sync:event:person-erased"
    PREVIEWED = "urn:directory-sync:event:previewed"
    QUARANTINE_RESOLVED = "urn:directory-sync:event:quarantine-resolved"
    IDENTITY_LINKED = "urn:directory-sync:event:identity-linked"
    PASSWORD_SET = "urn:directory-sync:event:password-set"  # noqa: S105


class Subject(StrEnum):
    """What an act is about."""

    ACCOUNT = "Account"
    API_KEY = "ApiKey"
    CONNECTION = "Connection"
    GROUP_MAPPING = "GroupMapping"
    ORGANIZATION = "Organization"
    QUARANTINE = "Quarantine"
    ROLE = "Role"
    TOKEN = "Token"  # noqa: S105


async def record(
    db: AsyncSession,
    organization_id: UUID,
    actor: str,
    act: Act,
    subject: tuple[Subject, UUID],
    data: dict[str, Any] | None = None,
    *,
    connection_id: UUID | None = None,
    token_id: UUID | None = None,
) -> None:
    """Write the act into the trail, in the transaction that does it, as its last statement: the chain stays locked.

    `data` says what was and what is (`{"before": ..., "after": ...}`); never a secret.
    """
    row = EventRow(
        id=uuid7(),
        organization_id=organization_id,
        connection_id=connection_id,
        token_id=token_id,
        actor=actor,
        change_id=None,
        type=act,
        subject_type=subject[0],
        subject_id=subject[1],
        at=datetime.now(UTC),
        data=data,
    )
    await events.append(db, row)
