"""Whom an OpenID provider means by a subject.

Revision ID: 0006
"""

from directory.scripts import run_script

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

# One person may have an account in several organizations, hence the account in the key.
TABLES = """
CREATE TABLE identities (
    issuer text COLLATE "C" NOT NULL,
    subject text COLLATE "C" NOT NULL,
    account_id uuid NOT NULL REFERENCES accounts,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (issuer, subject, account_id)
);

GRANT SELECT, INSERT, DELETE ON identities TO scim_admin;
"""


def upgrade() -> None:
    """A new table: the release before this one does not know it."""
    run_script(TABLES)


def downgrade() -> None:
    """The links between people and their accounts would be lost."""
    raise NotImplementedError("restore a backup instead of going back")
