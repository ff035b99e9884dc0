"""The table of users, and the groups that they belong to."""

from scim.schema import ENTERPRISE_USER
from scim_gateway.store.filter_sql import COLUMNS, Column, Layout, Relation
from scim_gateway.store.resources import Table

# Through other groups as well. Each group appears at most twice, so that a cycle, which the provisioner refuses, would
# end too.
GROUPS_OF_USER = """
    WITH RECURSIVE found(group_id, is_direct) AS (
        SELECT m.group_id, TRUE FROM memberships m WHERE m.member_id = {row}.id
        UNION
        SELECT m.group_id, FALSE FROM found f JOIN memberships m ON m.member_id = f.group_id
    )
    SELECT g.id AS value, '/Groups/' || g.id AS path, g.display_name AS display,
           CASE WHEN f.is_direct THEN 'direct' ELSE 'indirect' END AS type
    FROM (SELECT group_id, bool_or(is_direct) AS is_direct FROM found GROUP BY group_id) AS f
    JOIN groups g ON g.id = f.group_id
"""

# The other way round: one walk down from the groups in question, instead of one up from each user.
USERS_IN_GROUPS = """
    {row}.id IN (
        WITH RECURSIVE below(id) AS (
            SELECT {alias}.value
            FROM (SELECT g.id AS value, '/Groups/' || g.id AS path, g.display_name AS display
                  FROM groups g WHERE g.connection_id = $1 AND g.version > 0) AS {alias}
            WHERE {condition}
            UNION
            SELECT m.member_id FROM below b JOIN memberships m ON m.group_id = b.id
        )
        SELECT id FROM below)
"""

# As the index has it (directory, migration 0003).
EMPLOYEE_NUMBER = f"(resource -> '{ENTERPRISE_USER}' ->> 'employeeNumber')"
FOLDED_EMPLOYEE_NUMBER = (
    f"(CASE WHEN octet_length({EMPLOYEE_NUMBER}) > char_length({EMPLOYEE_NUMBER}) THEN ''"
    f' ELSE lower({EMPLOYEE_NUMBER} COLLATE "C") END)'
)

LAYOUT = Layout(
    "users",
    {**COLUMNS, ("userName", None): Column("user_name_key", is_key=True)},
    email_keys={"emails": "email_keys"},
    folded={(ENTERPRISE_USER, "employeeNumber"): FOLDED_EMPLOYEE_NUMBER},
    relation=Relation("groups", GROUPS_OF_USER, USERS_IN_GROUPS, per_row=frozenset({"type"})),
)
USERS = Table("users", LAYOUT)
