"""The tables as SQLModel classes, for code that speaks SQLAlchemy; the migrations are what makes them.

A test compares both. Defaults of the database are not repeated: whoever inserts says every value.
"""

# pyright: reportAssignmentType=false
# SQLModel declares __tablename__ as a function, and takes a string.

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Computed,
    Index,
    LargeBinary,
    SmallInteger,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, CIDR, JSONB
from sqlmodel import Field, SQLModel

ORGANIZATION_PROVIDER_KEY = "connections_organization_id_provider_id_key"
ACCOUNT_EMAIL_KEY = "accounts_email_key_organization_id_key"

GROUP_MAPPING_KEY = "group_mappings_live_key"

KEY = Text(collation="C")  # compared byte by byte: already normalised

metadata = SQLModel.metadata


class Organization(SQLModel, table=True):
    """A customer; `plan` is `free` or `enterprise`."""

    __tablename__ = "organizations"
    __table_args__ = (CheckConstraint("plan IN ('free', 'enterprise')", name="organizations_plan_check"),)

    id: UUID = Field(primary_key=True)
    name: str = Field(sa_type=Text)
    plan: str = Field(sa_type=Text)
    created_at: datetime
    mappings_version: int = Field(default=0, sa_type=BigInteger)


class Connection(SQLModel, table=True):
    """One application of an identity provider; it lives until `deleted_at`, its `provider_id` is free again then."""

    __tablename__ = "connections"
    __table_args__ = (
        Index(
            ORGANIZATION_PROVIDER_KEY,
            "organization_id",
            "provider_id",
            unique=True,
            postgresql_where=text("deleted_at IS NULL"),
        ),
        CheckConstraint("group_patch_answer IN ('resource', 'none')", name="connections_group_patch_answer_check"),
    )

    id: UUID = Field(primary_key=True)
    organization_id: UUID = Field(foreign_key="organizations.id")
    provider_id: str = Field(sa_type=Text)
    link_existing_accounts: bool = False
    created_at: datetime
    deleted_at: datetime | None = None
    group_patch_answer: str = Field(default="resource", sa_type=Text)
    allowed_networks: list[Any] = Field(default_factory=list, sa_column=Column(ARRAY(CIDR), nullable=False))
    append_only: bool = False
    guard_users: int = 25
    guard_percent: int = 10
    guard_holds: bool = False
    guard_released_until: datetime | None = None


class Token(SQLModel, table=True):
    """A connection's bearer token, as a digest."""

    __tablename__ = "tokens"
    __table_args__ = (
        UniqueConstraint("digest", name="tokens_digest_key"),
        CheckConstraint("scopes <@ '{read,write,preview}'", name="tokens_scopes_check"),
        Index("tokens_connection_id_idx", "connection_id"),
    )

    id: UUID = Field(primary_key=True)
    connection_id: UUID = Field(foreign_key="connections.id")
    digest: bytes = Field(sa_type=LargeBinary)
    hint: str = Field(sa_type=Text)
    created_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    last_used_at: datetime | None = None
    label: str = Field(default="", sa_type=Text)
    scopes: list[str] = Field(default_factory=lambda: ["read", "write"], sa_column=Column(ARRAY(Text), nullable=False))


class Account(SQLModel, table=True):
    """A person in the application; `status` is `active` or `suspended`, `epoch` rises with each suspension."""

    __tablename__ = "accounts"
    __table_args__ = (
        CheckConstraint("status IN ('active', 'suspended')", name="accounts_status_check"),
        UniqueConstraint("email_key", "organization_id", name=ACCOUNT_EMAIL_KEY, deferrable=True, initially="DEFERRED"),
        Index(
            "accounts_organization_id_created_at_id_idx",
            "organization_id",
            "created_at",
            "id",
            postgresql_where=text("epoch >= 0"),
        ),
    )

    id: UUID = Field(primary_key=True)
    organization_id: UUID = Field(foreign_key="organizations.id")
    email: str | None = Field(default=None, sa_type=Text)
    email_key: str | None = Field(default=None, sa_type=KEY)
    display_name: str = Field(sa_type=Text)
    status: str = Field(sa_type=Text)
    epoch: int = 0
    break_glass: bool = False
    created_at: datetime
    updated_at: datetime


class Credential(SQLModel, table=True):
    """The password of an account, as an argon2 hash."""

    __tablename__ = "credentials"

    account_id: UUID = Field(primary_key=True, foreign_key="accounts.id")
    password_hash: str = Field(sa_type=Text)
    updated_at: datetime


class Identity(SQLModel, table=True):
    """Whom an OpenID provider means by a subject; a person may have accounts in several organizations."""

    __tablename__ = "identities"

    issuer: str = Field(primary_key=True, sa_type=KEY)
    subject: str = Field(primary_key=True, sa_type=KEY)
    account_id: UUID = Field(primary_key=True, foreign_key="accounts.id")
    created_at: datetime


class Session(SQLModel, table=True):
    """A sign-in; valid while its epoch is the account's."""

    __tablename__ = "sessions"
    __table_args__ = (
        UniqueConstraint("digest", name="sessions_digest_key"),
        Index("sessions_account_id_idx", "account_id"),
    )

    id: UUID = Field(primary_key=True)
    account_id: UUID = Field(foreign_key="accounts.id")
    digest: bytes = Field(sa_type=LargeBinary)
    epoch: int
    created_at: datetime
    last_seen_at: datetime
    expires_at: datetime
    revoked_at: datetime | None = None


class Role(SQLModel, table=True):
    """A role of an organization; `permissions` are opaque."""

    __tablename__ = "roles"
    __table_args__ = (UniqueConstraint("organization_id", "name", name="roles_organization_id_name_key"),)

    id: UUID = Field(primary_key=True)
    organization_id: UUID = Field(foreign_key="organizations.id")
    name: str = Field(sa_type=Text)
    permissions: list[str] = Field(sa_column=Column(ARRAY(Text), nullable=False))
    built_in: bool = False
    created_at: datetime
    is_protected: bool = Field(
        default=None, sa_column=Column(Boolean, Computed("built_in AND name = 'admin'", persisted=True))
    )


class Grant(SQLModel, table=True):
    """A role that an account holds; `group_id` is its source, None for a manual grant."""

    __tablename__ = "grants"
    __table_args__ = (
        UniqueConstraint(
            "account_id",
            "role_id",
            "group_id",
            name="grants_account_id_role_id_group_id_key",
            postgresql_nulls_not_distinct=True,
        ),
        Index("grants_role_id_idx", "role_id"),
        Index("grants_group_id_idx", "group_id", postgresql_where=text("group_id IS NOT NULL")),
        # The table has no primary key; the mapper needs one and takes the unique constraint's columns.
    )
    __mapper_args__ = {"primary_key": ["account_id", "role_id", "group_id"], "allow_partial_pks": True}

    account_id: UUID = Field(foreign_key="accounts.id")
    role_id: UUID = Field(foreign_key="roles.id")
    group_id: UUID | None = None
    created_at: datetime
    change_id: UUID | None = None
    label: str | None = Field(default=None, sa_type=Text)


class User(SQLModel, table=True):
    """A SCIM user of a connection; `resource` holds its canonical attributes without id and meta."""

    __tablename__ = "users"
    __table_args__ = (
        UniqueConstraint(
            "user_name_key",
            "connection_id",
            name="users_user_name_key_connection_id_key",
            deferrable=True,
            initially="DEFERRED",
        ),
        UniqueConstraint(
            "external_id",
            "connection_id",
            name="users_external_id_connection_id_key",
            deferrable=True,
            initially="DEFERRED",
        ),
        UniqueConstraint("account_id", name="users_account_id_key", deferrable=True, initially="DEFERRED"),
        Index(
            "users_connection_id_created_at_id_idx",
            "connection_id",
            "created_at",
            "id",
            postgresql_where=text("version > 0"),
        ),
        Index("users_email_keys_idx", "email_keys", postgresql_using="gin"),
    )

    id: UUID = Field(primary_key=True)
    connection_id: UUID = Field(foreign_key="connections.id")
    account_id: UUID = Field(foreign_key="accounts.id")
    user_name: str = Field(sa_type=Text)
    user_name_key: str = Field(sa_type=KEY)
    external_id: str | None = Field(default=None, sa_type=KEY)
    active: bool
    resource: dict[str, Any] = Field(sa_column=Column(JSONB, nullable=False))
    version: int
    created_at: datetime
    last_modified: datetime
    late_fingerprint: str | None = Field(default=None, sa_type=Text)
    email_keys: list[str] = Field(sa_column=Column(ARRAY(KEY), nullable=False))
    deactivated_at: datetime | None = None


class UserTombstone(SQLModel, table=True):
    """What is left of a deleted SCIM user, so that a rehire finds its account."""

    __tablename__ = "user_tombstones"
    __table_args__ = (
        Index("user_tombstones_user_name_key_idx", "user_name_key", "connection_id"),
        Index("user_tombstones_external_id_idx", "external_id", "connection_id"),
    )

    id: UUID = Field(primary_key=True)
    connection_id: UUID
    account_id: UUID = Field(foreign_key="accounts.id")
    user_name_key: str = Field(sa_type=KEY)
    external_id: str | None = Field(default=None, sa_type=KEY)
    deleted_at: datetime


class Link(SQLModel, table=True):
    """Permission of a connection to change an account; `origin` is `created`, `email` or `admin`."""

    __tablename__ = "links"
    __table_args__ = (CheckConstraint("origin IN ('created', 'email', 'admin')", name="links_origin_check"),)

    connection_id: UUID = Field(primary_key=True, foreign_key="connections.id")
    account_id: UUID = Field(primary_key=True, foreign_key="accounts.id")
    origin: str = Field(sa_type=Text)
    created_at: datetime


class Group(SQLModel, table=True):
    """A SCIM group of a connection; `resource` holds its canonical attributes without id, meta and members."""

    __tablename__ = "groups"
    __table_args__ = (
        UniqueConstraint(
            "display_name_key",
            "connection_id",
            name="groups_display_name_key_connection_id_key",
            deferrable=True,
            initially="DEFERRED",
        ),
        UniqueConstraint(
            "external_id",
            "connection_id",
            name="groups_external_id_connection_id_key",
            deferrable=True,
            initially="DEFERRED",
        ),
        Index(
            "groups_connection_id_created_at_id_idx",
            "connection_id",
            "created_at",
            "id",
            postgresql_where=text("version > 0"),
        ),
    )

    id: UUID = Field(primary_key=True)
    connection_id: UUID = Field(foreign_key="connections.id")
    display_name: str = Field(sa_type=Text)
    display_name_key: str = Field(sa_type=KEY)
    external_id: str | None = Field(default=None, sa_type=KEY)
    resource: dict[str, Any] = Field(sa_column=Column(JSONB, nullable=False))
    version: int
    created_at: datetime
    last_modified: datetime
    late_fingerprint: str | None = Field(default=None, sa_type=Text)
    owns_name: bool = True
    name_version: int = Field(default=0, sa_type=BigInteger)


class Membership(SQLModel, table=True):
    """A member of a group: a user, or another group of the same connection."""

    __tablename__ = "memberships"
    __table_args__ = (
        CheckConstraint("member_type IN ('User', 'Group')", name="memberships_member_type_check"),
        Index("memberships_member_id_idx", "member_id"),
        Index("memberships_nested_idx", "group_id", "member_id", postgresql_where=text("member_type = 'Group'")),
    )

    group_id: UUID = Field(primary_key=True, foreign_key="groups.id", ondelete="CASCADE")
    member_id: UUID = Field(primary_key=True)
    member_type: str = Field(sa_type=Text)
    mappings_version: int = Field(default=0, sa_type=BigInteger)


class ExtensionSchema(SQLModel, table=True):
    """A schema by which an organization extends its users or groups; `document` is a Schema resource (RFC 7643)."""

    __tablename__ = "extension_schemas"
    __table_args__ = (
        CheckConstraint("resource_type IN ('User', 'Group')", name="extension_schemas_resource_type_check"),
    )

    organization_id: UUID = Field(primary_key=True, foreign_key="organizations.id")
    urn: str = Field(primary_key=True, sa_type=Text)
    resource_type: str = Field(sa_type=Text)
    document: dict[str, Any] = Field(sa_column=Column(JSONB, nullable=False))
    created_at: datetime


class ConnectionStats(SQLModel, table=True):
    """Counters of a connection, kept by the provisioner."""

    __tablename__ = "connection_stats"

    connection_id: UUID = Field(primary_key=True, foreign_key="connections.id")
    users: int = Field(default=0, sa_type=BigInteger)
    groups: int = Field(default=0, sa_type=BigInteger)
    last_success_at: datetime | None = None
    last_error_at: datetime | None = None
    active_users: int = Field(default=0, sa_type=BigInteger)
    guard_tripped_at: datetime | None = None


class Outcome(SQLModel, table=True):
    """The final answer to a change; `reply` is the outcome record's value."""

    __tablename__ = "outcomes"
    __table_args__ = (
        Index("outcomes_resource_id_change_id_idx", "resource_id", "change_id"),
        Index("outcomes_organization_id_change_id_idx", "organization_id", "change_id"),
        {"postgresql_partition_by": "RANGE (change_id)"},
    )

    change_id: UUID = Field(primary_key=True)
    organization_id: UUID
    connection_id: UUID | None = None
    token_id: UUID | None = None
    actor: str = Field(sa_type=Text)
    resource_type: str = Field(sa_type=Text)
    operation: str = Field(sa_type=Text)
    resource_id: UUID
    status: int = Field(sa_type=SmallInteger)
    reply: bytes = Field(sa_type=LargeBinary)
    request: dict[str, Any] | None = Field(default=None, sa_column=Column(JSONB))
    received_at: datetime
    applied_at: datetime


class Quarantined(SQLModel, table=True):
    """A record that could not be applied; `resolution` is `retried` or `discarded`."""

    __tablename__ = "quarantine"
    __table_args__ = (
        CheckConstraint("resolution IN ('retried', 'discarded')", name="quarantine_resolution_check"),
        UniqueConstraint("topic", "partition", "record_offset", name="quarantine_topic_partition_record_offset_key"),
    )

    id: UUID = Field(primary_key=True)
    topic: str = Field(sa_type=Text)
    partition: int
    record_offset: int = Field(sa_type=BigInteger)
    key: bytes | None = Field(default=None, sa_type=LargeBinary)
    value: bytes | None = Field(default=None, sa_type=LargeBinary)
    change_id: UUID | None = None
    organization_id: UUID | None = None
    error: str = Field(sa_type=Text)
    created_at: datetime
    resolved_at: datetime | None = None
    resolution: str | None = Field(default=None, sa_type=Text)
    resolved_by: str | None = Field(default=None, sa_type=Text)


class PartitionOffset(SQLModel, table=True):
    """How far the provisioner has come in a partition, and who owns it."""

    __tablename__ = "partition_offsets"

    topic: str = Field(primary_key=True, sa_type=Text)
    partition: int = Field(primary_key=True)
    next_offset: int = Field(sa_type=BigInteger)
    epoch: int = Field(sa_type=BigInteger)
    owner: str = Field(sa_type=Text)
    cluster_id: str | None = Field(default=None, sa_type=Text)
    topic_id: str | None = Field(default=None, sa_type=Text)
    claims: int = 0
    claimed_offset: int | None = Field(default=None, sa_type=BigInteger)
    marked_offset: int | None = Field(default=None, sa_type=BigInteger)
    marks: int = 0
    published_event: int = Field(default=0, sa_type=BigInteger)


class GroupMapping(SQLModel, table=True):
    """`scimGroupName -> role`; in force from `created_version` up to, not including, `deleted_version`."""

    __tablename__ = "group_mappings"
    __table_args__ = (
        Index(
            GROUP_MAPPING_KEY,
            "organization_id",
            "scim_group_name",
            "role_id",
            "connection_id",
            unique=True,
            postgresql_nulls_not_distinct=True,
            postgresql_where=text("deleted_at IS NULL"),
        ),
    )

    id: UUID = Field(primary_key=True)
    organization_id: UUID = Field(foreign_key="organizations.id")
    connection_id: UUID | None = Field(default=None, foreign_key="connections.id")
    scim_group_name: str = Field(sa_type=KEY)
    role_id: UUID = Field(foreign_key="roles.id", ondelete="CASCADE")
    group_ids: list[UUID] = Field(default_factory=list, sa_column=Column(ARRAY(Uuid), nullable=False))
    created_version: int = Field(sa_type=BigInteger)
    deleted_version: int | None = Field(default=None, sa_type=BigInteger)
    created_by: str = Field(sa_type=Text)
    created_at: datetime
    deleted_at: datetime | None = None


class GroupName(SQLModel, table=True):
    """A name that a group of the connection bears or bore."""

    __tablename__ = "group_names"

    connection_id: UUID = Field(primary_key=True, foreign_key="connections.id")
    display_name: str = Field(primary_key=True, sa_type=KEY)


class Event(SQLModel, table=True):
    """What happened; `hash` chains the rows of a chain, `data` may be blanked by an erasure."""

    __tablename__ = "events"
    __table_args__ = (
        Index("events_subject_id_idx", "subject_id"),
        Index("events_organization_id_at_idx", "organization_id", "at"),
    )

    chain: int = Field(primary_key=True, sa_type=SmallInteger)
    seq: int = Field(primary_key=True, sa_type=BigInteger)
    id: UUID
    organization_id: UUID
    connection_id: UUID | None = None
    token_id: UUID | None = None
    actor: str = Field(sa_type=Text)
    change_id: UUID | None = None
    type: str = Field(sa_type=Text)
    subject_type: str = Field(sa_type=Text)
    subject_id: UUID
    at: datetime
    data: dict[str, Any] | None = Field(default=None, sa_column=Column(JSONB))
    digest: bytes = Field(sa_type=LargeBinary)
    hash: bytes = Field(sa_type=LargeBinary)


class Deactivation(SQLModel, table=True):
    """How many users a connection deactivated in one minute."""

    __tablename__ = "deactivations"

    connection_id: UUID = Field(primary_key=True, foreign_key="connections.id")
    minute: datetime = Field(primary_key=True)
    users: int


class Hold(SQLModel, table=True):
    """A deactivation that the guard held back; `change` is the change as it came."""

    __tablename__ = "holds"
    __table_args__ = (
        CheckConstraint("resolution IN ('confirmed', 'discarded', 'cancelled')", name="holds_resolution_check"),
        Index("holds_open_key", "user_id", unique=True, postgresql_where=text("resolved_at IS NULL")),
        Index("holds_connection_id_idx", "connection_id", postgresql_where=text("resolved_at IS NULL")),
    )

    id: UUID = Field(primary_key=True)
    organization_id: UUID = Field(foreign_key="organizations.id")
    connection_id: UUID = Field(foreign_key="connections.id")
    user_id: UUID
    account_id: UUID = Field(foreign_key="accounts.id")
    change: dict[str, Any] = Field(sa_column=Column(JSONB, nullable=False))
    held_at: datetime
    resolved_at: datetime | None = None
    resolution: str | None = Field(default=None, sa_type=Text)
    resolved_by: str | None = Field(default=None, sa_type=Text)


class LinkRequest(SQLModel, table=True):
    """A connection's wish for an account that it may not touch."""

    __tablename__ = "link_requests"
    __table_args__ = (
        CheckConstraint("resolution IN ('approved', 'rejected')", name="link_requests_resolution_check"),
        Index(
            "link_requests_open_key",
            "account_id",
            "connection_id",
            unique=True,
            postgresql_where=text("resolved_at IS NULL"),
        ),
        Index("link_requests_organization_id_idx", "organization_id", postgresql_where=text("resolved_at IS NULL")),
    )

    id: UUID = Field(primary_key=True)
    organization_id: UUID = Field(foreign_key="organizations.id")
    connection_id: UUID = Field(foreign_key="connections.id")
    account_id: UUID = Field(foreign_key="accounts.id")
    user_name: str = Field(sa_type=Text)
    change_id: UUID
    requested_at: datetime
    resolved_at: datetime | None = None
    resolution: str | None = Field(default=None, sa_type=Text)
    resolved_by: str | None = Field(default=None, sa_type=Text)


class ApiKey(SQLModel, table=True):
    """A key for automation, as a digest; an operator's has no organization."""

    __tablename__ = "api_keys"
    __table_args__ = (
        UniqueConstraint("digest", name="api_keys_digest_key"),
        Index("api_keys_organization_id_idx", "organization_id"),
    )

    id: UUID = Field(primary_key=True)
    organization_id: UUID | None = Field(default=None, foreign_key="organizations.id")
    name: str = Field(sa_type=Text)
    digest: bytes = Field(sa_type=LargeBinary)
    hint: str = Field(sa_type=Text)
    created_by: str = Field(sa_type=Text)
    created_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    last_used_at: datetime | None = None
