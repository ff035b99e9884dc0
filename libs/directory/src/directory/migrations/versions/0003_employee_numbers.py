"""Users are found by employee number.

Revision ID: 0003
"""

from directory.scripts import run_script

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

NUMBER = "(resource -> 'urn:ietf:params:scim:schemas:extension:enterprise:2.0:User' ->> 'employeeNumber')"

# Compared without case. ASCII is folded here; any other text, which Postgres folds unlike the gateway, shares one
# entry, among which the gateway looks on its own.
INDEX = f"""
CREATE INDEX users_employee_number_idx ON users (
    (CASE WHEN octet_length({NUMBER}) > char_length({NUMBER}) THEN '' ELSE lower({NUMBER} COLLATE "C") END),
    connection_id
);
"""


def upgrade() -> None:
    """An index: reads go on, changes wait some seconds for each million of users."""
    run_script(INDEX)


def downgrade() -> None:
    """Releases before this one do without."""
    run_script("DROP INDEX users_employee_number_idx;")
