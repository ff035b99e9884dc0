"""Groups, memberships, and the schemas by which an organization extends its resources.

Revision ID: 0002
"""

from directory.scripts import run_script

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

TABLES = """
-- `resource` is canonical and without members: those are rows, so that one more costs the same in a group of any size.
CREATE TABLE groups (
    id uuid PRIMARY KEY,
    connection_id uuid NOT NULL REFERENCES connections,
    display_name text NOT NULL,
    display_name_key text COLLATE "C" NOT NULL,
    external_id text COLLATE "C",
    resource jsonb NOT NULL,
    version integer NOT NULL,
    created_at timestamptz NOT NULL,
    last_modified timestamptz NOT NULL,
    late_fingerprint text,
    CONSTRAINT groups_display_name_key_connection_id_key
        UNIQUE (display_name_key, connection_id) DEFERRABLE INITIALLY DEFERRED,
    CONSTRAINT groups_external_id_connection_id_key
        UNIQUE (external_id, connection_id) DEFERRABLE INITIALLY DEFERRED
);
CREATE INDEX groups_connection_id_created_at_id_idx ON groups (connection_id, created_at, id) WHERE version > 0;

-- A member is a user or a group of the same connection; the provisioner, the only writer, keeps it so.
CREATE TABLE memberships (
    group_id uuid NOT NULL REFERENCES groups ON DELETE CASCADE,
    member_id uuid NOT NULL,
    member_type text NOT NULL CHECK (member_type IN ('User', 'Group')),
    PRIMARY KEY (group_id, member_id)
);
CREATE INDEX memberships_member_id_idx ON memberships (member_id);
-- The edges between groups, few among many rows: what a check for cycles reads.
CREATE INDEX memberships_nested_idx ON memberships (group_id, member_id) WHERE member_type = 'Group';

-- `document` is a Schema resource (RFC 7643 section 7); its attributes live in users.resource and groups.resource.
CREATE TABLE extension_schemas (
    organization_id uuid NOT NULL REFERENCES organizations,
    urn text NOT NULL,
    resource_type text NOT NULL CHECK (resource_type IN ('User', 'Group')),
    document jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (organization_id, urn)
);

ALTER TABLE connection_stats ADD COLUMN groups bigint NOT NULL DEFAULT 0;

GRANT SELECT ON groups, memberships TO scim_gateway, scim_admin;
GRANT SELECT, INSERT, UPDATE, DELETE ON groups, memberships TO scim_provisioner;
GRANT SELECT ON extension_schemas TO scim_gateway, scim_provisioner, scim_admin;
GRANT INSERT, UPDATE, DELETE ON extension_schemas TO scim_admin;
"""


def upgrade() -> None:
    """New tables and a column with a constant default: no lock is held for long."""
    run_script(TABLES)


def downgrade() -> None:
    """Groups would be lost."""
    raise NotImplementedError("restore a backup instead of going back")
