"""What happened: facts about accounts and groups, told once they are committed (design section 4)."""

from enum import StrEnum

EVENTS_CHAIN_OF_ADMIN = -1
"""The chain of what admin-api writes itself; every other chain is a partition of `scim.changes`."""

_PROVISIONING = "urn:ietf:params:scim:event:prov"
_OURS = "urn:directory-sync:event"


class EventType(StrEnum):
    """Types of events: those of RFC 9967 section 2 where it has one, else our own."""

    CREATED = f"{_PROVISIONING}:create:full"
    REPLACED = f"{_PROVISIONING}:put:full"
    PATCHED = f"{_PROVISIONING}:patch:full"
    DELETED = f"{_PROVISIONING}:delete"
    ACTIVATED = f"{_PROVISIONING}:activate"
    DEACTIVATED = f"{_PROVISIONING}:deactivate"
    ROLES_CHANGED = f"{_OURS}:roles-changed"
    LAST_ADMIN_KEPT = f"{_OURS}:last-admin-kept"
    LINKED = f"{_OURS}:linked"
    UNLINKED = f"{_OURS}:unlinked"
    LINK_REQUESTED = f"{_OURS}:link-requested"
    CONNECTION_CLOSED = f"{_OURS}:connection-closed"
    MAPPINGS_APPLIED = f"{_OURS}:mappings-applied"
    GUARD_TRIPPED = f"{_OURS}:guard-tripped"
    DEACTIVATION_HELD = f"{_OURS}:deactivation-held"
    DEACTIVATION_SKIPPED = f"{_OURS}:deactivation-skipped"


class SubjectType(StrEnum):
    """What an event is about; events of one subject keep their order."""

    ACCOUNT = "Account"
    GROUP = "Group"
    CONNECTION = "Connection"
    ORGANIZATION = "Organization"
