"""Group mappings and what grants by them need, events with their chain, holds, link requests, and settings.

Revision ID: 0004
"""

from directory.scripts import run_script

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

# Constant defaults throughout: no table is rewritten but `roles`, which is small.
COLUMNS = """
-- Rises with each edit of a mapping, so that it can be told which mappings stood when a membership began.
ALTER TABLE organizations ADD COLUMN mappings_version bigint NOT NULL DEFAULT 0;

ALTER TABLE connections
    ADD COLUMN group_patch_answer text NOT NULL DEFAULT 'resource'
        CONSTRAINT connections_group_patch_answer_check CHECK (group_patch_answer IN ('resource', 'none')),
    ADD COLUMN allowed_networks cidr[] NOT NULL DEFAULT '{}',
    ADD COLUMN append_only boolean NOT NULL DEFAULT false,
    ADD COLUMN guard_users integer NOT NULL DEFAULT 25,
    ADD COLUMN guard_percent integer NOT NULL DEFAULT 10,
    ADD COLUMN guard_holds boolean NOT NULL DEFAULT false,
    -- While it lies in the future, the guard lets everything pass: an admin has released the brake.
    ADD COLUMN guard_released_until timestamptz;

ALTER TABLE tokens
    ADD COLUMN label text NOT NULL DEFAULT '',
    ADD COLUMN scopes text[] NOT NULL DEFAULT '{read,write}'
        CONSTRAINT tokens_scopes_check CHECK (scopes <@ '{read,write,preview}'::text[]);

-- What only an admin's explicit word may give: never a group that took over another's name.
ALTER TABLE roles ADD COLUMN is_protected boolean GENERATED ALWAYS AS (built_in AND name = 'admin') STORED;

ALTER TABLE grants
    ADD COLUMN change_id uuid,
    -- Where a manual grant came from, in words: a group that went with its connection, an admin's lock-out averted.
    ADD COLUMN label text;
CREATE INDEX grants_group_id_idx ON grants (group_id) WHERE group_id IS NOT NULL;

ALTER TABLE users ADD COLUMN deactivated_at timestamptz;

-- owns_name: the group was made under its name and nobody bore it before; only such groups reach protected roles.
-- name_version: the organization's mappings_version when it got its name.
ALTER TABLE groups
    ADD COLUMN owns_name boolean NOT NULL DEFAULT true,
    ADD COLUMN name_version bigint NOT NULL DEFAULT 0;

ALTER TABLE memberships ADD COLUMN mappings_version bigint NOT NULL DEFAULT 0;

ALTER TABLE connection_stats
    ADD COLUMN active_users bigint NOT NULL DEFAULT 0,
    ADD COLUMN guard_tripped_at timestamptz;
UPDATE connection_stats SET active_users =
    (SELECT count(*) FROM users u WHERE u.connection_id = connection_stats.connection_id AND u.active);

ALTER TABLE outcomes ALTER COLUMN connection_id DROP NOT NULL;
CREATE INDEX outcomes_resource_id_change_id_idx ON outcomes (resource_id, change_id);
CREATE INDEX outcomes_organization_id_change_id_idx ON outcomes (organization_id, change_id);

ALTER TABLE quarantine ADD COLUMN resolved_by text;

-- Of which cluster and topic the offsets are; how often the partition was claimed at the offset where it stands; the
-- record that was about to be applied alone.
ALTER TABLE partition_offsets
    ADD COLUMN cluster_id text,
    ADD COLUMN topic_id text,
    ADD COLUMN claims integer NOT NULL DEFAULT 0,
    ADD COLUMN claimed_offset bigint,
    ADD COLUMN marked_offset bigint,
    ADD COLUMN marks integer NOT NULL DEFAULT 0,
    ADD COLUMN published_event bigint NOT NULL DEFAULT 0;
"""

TABLES = """
-- Kept after deletion: what a grant is founded on. `group_ids`: for a protected role, groups of that name that an admin
-- has confirmed. Valid for changes decided at versions from created_version up to, not including, deleted_version.
CREATE TABLE group_mappings (
    id uuid PRIMARY KEY,
    organization_id uuid NOT NULL REFERENCES organizations,
    connection_id uuid REFERENCES connections,
    scim_group_name text COLLATE "C" NOT NULL,
    role_id uuid NOT NULL REFERENCES roles ON DELETE CASCADE,
    group_ids uuid[] NOT NULL DEFAULT '{}',
    created_version bigint NOT NULL,
    deleted_version bigint,
    created_by text NOT NULL,
    created_at timestamptz NOT NULL,
    deleted_at timestamptz
);
CREATE UNIQUE INDEX group_mappings_live_key
    ON group_mappings (organization_id, scim_group_name, role_id, connection_id) NULLS NOT DISTINCT
    WHERE deleted_at IS NULL;

-- Every name that a group of the connection ever bore.
CREATE TABLE group_names (
    connection_id uuid NOT NULL REFERENCES connections,
    display_name text COLLATE "C" NOT NULL,
    PRIMARY KEY (connection_id, display_name)
);
INSERT INTO group_names SELECT connection_id, display_name FROM groups ON CONFLICT DO NOTHING;

-- What happened: the audit trail, and the source of directory.events. A chain is a partition of scim.changes, or -1 for
-- admin-api's own; hash = sha256 of the hash before it and this row's digest; digest = sha256 of the row and `data`,
-- which an erasure, by the schema's owner alone, may blank.
CREATE TABLE events (
    chain smallint NOT NULL,
    seq bigint NOT NULL,
    id uuid NOT NULL,
    organization_id uuid NOT NULL,
    connection_id uuid,
    token_id uuid,
    actor text NOT NULL,
    change_id uuid,
    type text NOT NULL,
    subject_type text NOT NULL,
    subject_id uuid NOT NULL,
    at timestamptz NOT NULL,
    data jsonb,
    digest bytea NOT NULL,
    hash bytea NOT NULL,
    PRIMARY KEY (chain, seq)
);
CREATE INDEX events_subject_id_idx ON events (subject_id);
CREATE INDEX events_organization_id_at_idx ON events (organization_id, at);

-- How many users a connection deactivated, by the minute of `received_at`: the guard's window.
CREATE TABLE deactivations (
    connection_id uuid NOT NULL REFERENCES connections,
    minute timestamptz NOT NULL,
    users integer NOT NULL,
    PRIMARY KEY (connection_id, minute)
);

-- Deactivations that the guard held back; `change` is published again, as a new change, when an admin confirms.
CREATE TABLE holds (
    id uuid PRIMARY KEY,
    organization_id uuid NOT NULL REFERENCES organizations,
    connection_id uuid NOT NULL REFERENCES connections,
    user_id uuid NOT NULL,
    account_id uuid NOT NULL REFERENCES accounts,
    change jsonb NOT NULL,
    held_at timestamptz NOT NULL,
    resolved_at timestamptz,
    resolution text CONSTRAINT holds_resolution_check CHECK (resolution IN ('confirmed', 'discarded', 'cancelled')),
    resolved_by text
);
CREATE UNIQUE INDEX holds_open_key ON holds (user_id) WHERE resolved_at IS NULL;
CREATE INDEX holds_connection_id_idx ON holds (connection_id) WHERE resolved_at IS NULL;

-- A connection asked for an account that it may not touch; an admin may link the two.
CREATE TABLE link_requests (
    id uuid PRIMARY KEY,
    organization_id uuid NOT NULL REFERENCES organizations,
    connection_id uuid NOT NULL REFERENCES connections,
    account_id uuid NOT NULL REFERENCES accounts,
    user_name text NOT NULL,
    change_id uuid NOT NULL,
    requested_at timestamptz NOT NULL,
    resolved_at timestamptz,
    resolution text CONSTRAINT link_requests_resolution_check CHECK (resolution IN ('approved', 'rejected')),
    resolved_by text
);
CREATE UNIQUE INDEX link_requests_open_key ON link_requests (account_id, connection_id) WHERE resolved_at IS NULL;
CREATE INDEX link_requests_organization_id_idx ON link_requests (organization_id) WHERE resolved_at IS NULL;

-- For automation; organization_id null: an operator's.
CREATE TABLE api_keys (
    id uuid PRIMARY KEY,
    organization_id uuid REFERENCES organizations,
    name text NOT NULL,
    digest bytea NOT NULL CONSTRAINT api_keys_digest_key UNIQUE,
    hint text NOT NULL,
    created_by text NOT NULL,
    created_at timestamptz NOT NULL,
    expires_at timestamptz,
    revoked_at timestamptz,
    last_used_at timestamptz
);
CREATE INDEX api_keys_organization_id_idx ON api_keys (organization_id);
"""

ROLES = """
GRANT SELECT ON group_mappings, group_names, holds, link_requests, deactivations, events, organizations
    TO scim_provisioner;
GRANT INSERT ON group_names, events TO scim_provisioner;
GRANT INSERT, UPDATE ON holds, link_requests, deactivations TO scim_provisioner;
GRANT DELETE ON links, deactivations TO scim_provisioner;
GRANT UPDATE (label) ON grants TO scim_provisioner;

GRANT SELECT ON group_names, holds, link_requests, events, user_tombstones, deactivations TO scim_admin;
GRANT INSERT ON events TO scim_admin;
GRANT SELECT, INSERT, UPDATE ON group_mappings, api_keys TO scim_admin;
GRANT DELETE ON group_mappings TO scim_admin;
GRANT UPDATE (resolved_at, resolution, resolved_by) ON quarantine TO scim_admin;
"""


def upgrade() -> None:
    """New tables and columns only: the release before this one goes on beside it."""
    run_script(COLUMNS)
    run_script(TABLES)
    run_script(ROLES)


def downgrade() -> None:
    """Mappings and the audit trail would be lost."""
    raise NotImplementedError("restore a backup instead of going back")
