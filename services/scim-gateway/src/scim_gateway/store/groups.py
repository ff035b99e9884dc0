"""The table of groups, and their members."""

from scim_gateway.store.filter_sql import COLUMNS, Column, Layout, Relation
from scim_gateway.store.resources import Table

MEMBERS_OF_GROUP = """
    SELECT m.member_id AS value, '/' || m.member_type || 's/' || m.member_id AS path, m.member_type AS type
    FROM memberships m WHERE m.group_id = {row}.id
"""

LAYOUT = Layout(
    "groups",
    {**COLUMNS, ("displayName", None): Column("display_name_key", is_key=True)},
    relation=Relation("members", MEMBERS_OF_GROUP, has_display=False, is_large=True),
)
GROUPS = Table("groups", LAYOUT)
