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
    CheckConstraint,
    Column,
    Index,
    LargeBinary,
    SmallInteger,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlmodel import Field, SQLModel

ORGANIZATION_PROVIDER_KEY = "connections_organization_id_provider_id_key"
ACCOUNT_EMAIL_KEY = "accounts_email_key_organization_id_key"

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
    )

    id: UUID = Field(primary_key=True)
    organization_id: UUID = Field(foreign_key="organizations.id")
    provider_id: str = Field(sa_type=Text)
    link_existing_accounts: bool = False
    created_at: datetime
    deleted_at: datetime | None = None


class Token(SQLModel, table=True):
    """A connection's bearer token, as a digest."""

    __tablename__ = "tokens"
    __table_args__ = (
        UniqueConstraint("digest", name="tokens_digest_key"),
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


class Account(SQLModel, table=True):
    """A person in the application; `status` is `active` or `suspended`, `epoch` rises with each suspension."""

    __tablename__ = "accounts"
    __table_args__ = (
        CheckConstraint("status IN ('active', 'suspended')", name="accounts_status_check"),
        UniqueConstraint("email_key", "organization_id", name=ACCOUNT_EMAIL_KEY, deferrable=True, initially="DEFERRED"),
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
        # The table has no primary key; the mapper needs one and takes the unique constraint's columns.
    )
    __mapper_args__ = {"primary_key": ["account_id", "role_id", "group_id"], "allow_partial_pks": True}

    account_id: UUID = Field(foreign_key="accounts.id")
    role_id: UUID = Field(foreign_key="roles.id")
    group_id: UUID | None = None
    created_at: datetime


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


class Outcome(SQLModel, table=True):
    """The final answer to a change; `reply` is the outcome record's value."""

    __tablename__ = "outcomes"
    __table_args__ = {"postgresql_partition_by": "RANGE (change_id)"}

    change_id: UUID = Field(primary_key=True)
    organization_id: UUID
    connection_id: UUID
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


class PartitionOffset(SQLModel, table=True):
    """How far the provisioner has come in a partition, and who owns it."""

    __tablename__ = "partition_offsets"

    topic: str = Field(primary_key=True, sa_type=Text)
    partition: int = Field(primary_key=True)
    next_offset: int = Field(sa_type=BigInteger)
    epoch: int = Field(sa_type=BigInteger)
    owner: str = Field(sa_type=Text)
