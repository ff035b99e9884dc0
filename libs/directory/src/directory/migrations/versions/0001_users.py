"""Organizations, connections, tokens, accounts, users and what the provisioner keeps beside them.

Revision ID: 0001
"""

from directory.scripts import run_script

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# Whole statements, as Postgres will run them: the schema is the provisioner's and the gateway's interface too, and both
# speak SQL. `directory.tables` mirrors it for SQLModel; a test compares the two.
TABLES = """
CREATE TABLE organizations (
    id uuid PRIMARY KEY,
    name text NOT NULL,
    plan text NOT NULL CHECK (plan IN ('free', 'enterprise')),
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE connections (
    id uuid PRIMARY KEY,
    organization_id uuid NOT NULL REFERENCES organizations,
    provider_id text NOT NULL,
    link_existing_accounts boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT now(),
    deleted_at timestamptz
);
CREATE UNIQUE INDEX connections_organization_id_provider_id_key
    ON connections (organization_id, provider_id) WHERE deleted_at IS NULL;

CREATE TABLE tokens (
    id uuid PRIMARY KEY,
    connection_id uuid NOT NULL REFERENCES connections,
    digest bytea NOT NULL CONSTRAINT tokens_digest_key UNIQUE,
    hint text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz,
    revoked_at timestamptz,
    last_used_at timestamptz
);
CREATE INDEX tokens_connection_id_idx ON tokens (connection_id);

CREATE TABLE accounts (
    id uuid PRIMARY KEY,
    organization_id uuid NOT NULL REFERENCES organizations,
    email text,
    email_key text COLLATE "C",
    display_name text NOT NULL,
    status text NOT NULL CHECK (status IN ('active', 'suspended')),
    epoch integer NOT NULL DEFAULT 0,
    break_glass boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    CONSTRAINT accounts_email_key_organization_id_key UNIQUE (email_key, organization_id) DEFERRABLE INITIALLY DEFERRED
);

CREATE TABLE credentials (
    account_id uuid PRIMARY KEY REFERENCES accounts,
    password_hash text NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE sessions (
    id uuid PRIMARY KEY,
    account_id uuid NOT NULL REFERENCES accounts,
    digest bytea NOT NULL CONSTRAINT sessions_digest_key UNIQUE,
    epoch integer NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    last_seen_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    revoked_at timestamptz
);
CREATE INDEX sessions_account_id_idx ON sessions (account_id);

CREATE TABLE roles (
    id uuid PRIMARY KEY,
    organization_id uuid NOT NULL REFERENCES organizations,
    name text NOT NULL,
    permissions text[] NOT NULL DEFAULT '{}',
    built_in boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT roles_organization_id_name_key UNIQUE (organization_id, name)
);

-- group_id is the source: the group whose mapping gave the role, null for a manual grant.
CREATE TABLE grants (
    account_id uuid NOT NULL REFERENCES accounts,
    role_id uuid NOT NULL REFERENCES roles,
    group_id uuid,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT grants_account_id_role_id_group_id_key UNIQUE NULLS NOT DISTINCT (account_id, role_id, group_id)
);
CREATE INDEX grants_role_id_idx ON grants (role_id);

CREATE TABLE users (
    id uuid PRIMARY KEY,
    connection_id uuid NOT NULL REFERENCES connections,
    account_id uuid NOT NULL REFERENCES accounts,
    user_name text NOT NULL,
    user_name_key text COLLATE "C" NOT NULL,
    external_id text COLLATE "C",
    active boolean NOT NULL,
    resource jsonb NOT NULL,
    version integer NOT NULL,
    created_at timestamptz NOT NULL,
    last_modified timestamptz NOT NULL,
    -- Set when the create was applied after its client had stopped waiting: a repeat of it is answered, not refused.
    late_fingerprint text,
    -- Of all email addresses in the resource: any of them may become the account's, and clients look users up by them.
    email_keys text[] COLLATE "C" NOT NULL,
    -- The names lead: a plan that is made while the table is small, and kept, must find no other index that would do.
    CONSTRAINT users_user_name_key_connection_id_key
        UNIQUE (user_name_key, connection_id) DEFERRABLE INITIALLY DEFERRED,
    CONSTRAINT users_external_id_connection_id_key UNIQUE (external_id, connection_id) DEFERRABLE INITIALLY DEFERRED,
    CONSTRAINT users_account_id_key UNIQUE (account_id) DEFERRABLE INITIALLY DEFERRED
);
-- For lists, which say `version > 0`, and for nothing else (see above).
CREATE INDEX users_connection_id_created_at_id_idx ON users (connection_id, created_at, id) WHERE version > 0;
CREATE INDEX users_email_keys_idx ON users USING gin (email_keys);

CREATE TABLE user_tombstones (
    id uuid PRIMARY KEY,
    connection_id uuid NOT NULL,
    account_id uuid NOT NULL REFERENCES accounts,
    user_name_key text COLLATE "C" NOT NULL,
    external_id text COLLATE "C",
    deleted_at timestamptz NOT NULL
);
CREATE INDEX user_tombstones_user_name_key_idx ON user_tombstones (user_name_key, connection_id);
CREATE INDEX user_tombstones_external_id_idx ON user_tombstones (external_id, connection_id);

-- A connection may change the accounts it is linked to; the link outlives the SCIM user, so a rehire finds the account.
CREATE TABLE links (
    connection_id uuid NOT NULL REFERENCES connections,
    account_id uuid NOT NULL REFERENCES accounts,
    origin text NOT NULL CHECK (origin IN ('created', 'email', 'admin')),
    created_at timestamptz NOT NULL,
    PRIMARY KEY (account_id, connection_id)
);

CREATE TABLE connection_stats (
    connection_id uuid PRIMARY KEY REFERENCES connections,
    users bigint NOT NULL DEFAULT 0,
    last_success_at timestamptz,
    last_error_at timestamptz
);

-- Partitioned by the time in the change's UUIDv7; `reply` is the outcome record's value, so that it can be given again.
CREATE TABLE outcomes (
    change_id uuid NOT NULL,
    organization_id uuid NOT NULL,
    connection_id uuid NOT NULL,
    token_id uuid,
    actor text NOT NULL,
    resource_type text NOT NULL,
    operation text NOT NULL,
    resource_id uuid NOT NULL,
    status smallint NOT NULL,
    reply bytea NOT NULL,
    request jsonb,
    received_at timestamptz NOT NULL,
    applied_at timestamptz NOT NULL,
    PRIMARY KEY (change_id)
) PARTITION BY RANGE (change_id);
CREATE TABLE outcomes_default PARTITION OF outcomes DEFAULT;

CREATE TABLE quarantine (
    id uuid PRIMARY KEY,
    topic text NOT NULL,
    partition integer NOT NULL,
    record_offset bigint NOT NULL,
    key bytea,
    value bytea,
    change_id uuid,
    organization_id uuid,
    error text NOT NULL,
    created_at timestamptz NOT NULL,
    resolved_at timestamptz,
    resolution text CHECK (resolution IN ('retried', 'discarded')),
    CONSTRAINT quarantine_topic_partition_record_offset_key UNIQUE (topic, partition, record_offset)
);

CREATE TABLE partition_offsets (
    topic text NOT NULL,
    partition integer NOT NULL,
    next_offset bigint NOT NULL,
    epoch bigint NOT NULL,
    owner text NOT NULL,
    PRIMARY KEY (topic, partition)
);
"""

# Who may what (design section 6, "Tables"). The roles belong to the cluster, so they may exist already.
ROLES = """
DO $$
BEGIN
    FOR i IN 1..3 LOOP
        BEGIN
            EXECUTE format('CREATE ROLE %I LOGIN', (ARRAY['scim_gateway', 'scim_provisioner', 'scim_admin'])[i]);
        EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
        END;
    END LOOP;
END
$$;

GRANT SELECT ON alembic_version TO scim_gateway, scim_provisioner, scim_admin;

GRANT SELECT ON organizations, connections, tokens, users, connection_stats, outcomes TO scim_gateway;

GRANT SELECT ON organizations, connections, tokens, roles TO scim_provisioner;
GRANT UPDATE (last_used_at) ON tokens TO scim_provisioner;
GRANT SELECT, UPDATE (revoked_at) ON sessions TO scim_provisioner;
GRANT SELECT, INSERT, UPDATE ON accounts, links, connection_stats, partition_offsets, quarantine TO scim_provisioner;
GRANT SELECT, INSERT, DELETE ON grants TO scim_provisioner;
GRANT SELECT, INSERT, UPDATE, DELETE ON users TO scim_provisioner;
GRANT SELECT, INSERT ON user_tombstones, outcomes TO scim_provisioner;

GRANT SELECT ON accounts, grants, users, links, connection_stats, outcomes, quarantine, partition_offsets TO scim_admin;
GRANT SELECT, INSERT, UPDATE ON organizations, connections, tokens, credentials, sessions, roles TO scim_admin;
GRANT DELETE ON sessions, roles TO scim_admin;
"""


def upgrade() -> None:
    """Create everything; the database is empty, so no lock can wait."""
    run_script(TABLES)
    run_script(ROLES)


def downgrade() -> None:
    """The first migration has nothing to go back to."""
    raise NotImplementedError("restore a backup instead of going back before the first migration")
