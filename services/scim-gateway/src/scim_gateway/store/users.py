"""The table of users."""

from scim_gateway.store.filter_sql import COLUMNS, Column, Layout
from scim_gateway.store.resources import Table

LAYOUT = Layout(
    {**COLUMNS, ("userName", None): Column("user_name_key", is_key=True)},
    email_keys={"emails": "email_keys"},
)
USERS = Table("users", "users", LAYOUT)
