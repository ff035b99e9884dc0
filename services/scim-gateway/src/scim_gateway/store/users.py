"""The table of users."""

from scim_gateway.store.filter_sql import Column
from scim_gateway.store.resources import Table

USERS = Table("users", "users", {("userName", None): Column("user_name_key", is_key=True)})
