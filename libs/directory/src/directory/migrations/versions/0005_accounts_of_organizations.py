"""The accounts of an organization are listed without reading those of all others.

Revision ID: 0005
"""

from directory.scripts import run_script

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

# Partial, so that only lists, which say `epoch >= 0`, use it: the provisioner plans once, on tables without statistics.
INDEX = """
    CREATE INDEX accounts_organization_id_created_at_id_idx ON accounts (organization_id, created_at, id)
    WHERE epoch >= 0;
"""


def upgrade() -> None:
    """An index: reads go on, changes wait some seconds for each million of accounts."""
    run_script(INDEX)


def downgrade() -> None:
    """Releases before this one do without."""
    run_script("DROP INDEX accounts_organization_id_created_at_id_idx;")
