"""Rows as the provisioner leaves them, for tests that begin with a directory; written as the owner."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import orjson

from scim.keys import email_key, name_key
from servicekit.ids import uuid7


@dataclass(frozen=True)
class Seeded:
    """A SCIM user and its account."""

    id: UUID
    account_id: UUID
    email: str


@dataclass(frozen=True)
class Seed:
    """Makes the rows of one connection."""

    db: asyncpg.Connection
    organization_id: UUID
    connection_id: UUID

    async def user(self, name: str | None = None, *, active: bool = True, **columns: Any) -> Seeded:
        """An account, its user, and the link between them; the counters move along."""
        user = Seeded(uuid7(), uuid7(), name or f"{uuid4().hex[:12]}@example.test")
        key, at = email_key(user.email), columns.pop("at", datetime.now(UTC))
        await self.db.execute(
            "INSERT INTO accounts (id, organization_id, email, email_key, display_name, status, created_at, updated_at)"
            " VALUES ($1, $2, $3, $4, $5, $6, $7, $7)",
            *(user.account_id, self.organization_id, user.email, key, columns.pop("display_name", "Grace Hopper")),
            *("active" if active else "suspended", at),
        )
        resource = {"userName": user.email, "active": active, **columns.pop("resource", {})}
        row = {
            "id": user.id,
            "connection_id": self.connection_id,
            "account_id": user.account_id,
            "user_name": user.email,
            "user_name_key": key,
            "external_id": resource.get("externalId"),
            "active": active,
            "resource": orjson.dumps(resource).decode(),
            "version": 1,
            "created_at": at,
            "last_modified": at,
            "email_keys": [key],
            **columns,
        }
        await self._insert("users", row)
        await self.db.execute(
            "INSERT INTO links (connection_id, account_id, origin, created_at) VALUES ($1, $2, 'created', $3)",
            *(self.connection_id, user.account_id, at),
        )
        await self.count()
        return user

    async def group(self, name: str, *members: UUID, version: int = 0, owns_name: bool = True) -> UUID:
        """A group with users or groups as its members, all at this `mappings_version`."""
        group_id, now = uuid7(), datetime.now(UTC)
        row = {
            "id": group_id,
            "connection_id": self.connection_id,
            "display_name": name,
            "display_name_key": name_key(name),
            "resource": orjson.dumps({"displayName": name}).decode(),
            "version": 1,
            "created_at": now,
            "last_modified": now,
            "owns_name": owns_name,
            "name_version": version,
        }
        await self._insert("groups", row)
        await self._insert("group_names", {"connection_id": self.connection_id, "display_name": name})
        for member in members:
            await self.member(group_id, member, version)
        await self.count()
        return group_id

    async def member(self, group_id: UUID, member_id: UUID, version: int = 0) -> None:
        is_group = await self.db.fetchval("SELECT count(*) FROM groups WHERE id = $1", member_id)
        row = {
            "group_id": group_id,
            "member_id": member_id,
            "member_type": "Group" if is_group else "User",
            "mappings_version": version,
        }
        await self._insert("memberships", row)

    async def role(self, name: str | None = None) -> UUID:
        """A custom role; a built-in one by its name."""
        built_in = "SELECT id FROM roles WHERE organization_id = $1 AND name = $2"
        if name and (found := await self.db.fetchval(built_in, self.organization_id, name)):
            return found
        role_id = uuid7()
        await self._insert(
            "roles", {"id": role_id, "organization_id": self.organization_id, "name": name or f"role {role_id}"}
        )
        return role_id

    async def mapping(
        self, name: str, role_id: UUID, *, created: int = 0, deleted: int | None = None, group_ids: Sequence[UUID] = ()
    ) -> UUID:
        """A mapping of the whole organization, live from one version of the mappings on, to another."""
        mapping_id, now = uuid7(), datetime.now(UTC)
        row = {
            "id": mapping_id,
            "organization_id": self.organization_id,
            "scim_group_name": name,
            "role_id": role_id,
            "group_ids": list(group_ids),
            "created_version": created,
            "deleted_version": deleted,
            "created_by": "test",
            "created_at": now,
            "deleted_at": None if deleted is None else now,
        }
        await self._insert("group_mappings", row)
        return mapping_id

    async def grant(self, account_id: UUID, role_id: UUID, group_id: UUID | None = None) -> None:
        await self._insert("grants", {"account_id": account_id, "role_id": role_id, "group_id": group_id})

    async def outcome(self, resource_id: UUID, status: int = 200, **columns: Any) -> UUID:
        """An entry of the provisioning log."""
        change_id, at = columns.pop("change_id", uuid7()), columns.pop("at", datetime.now(UTC))
        reply = {"change_id": str(change_id), "resource_type": "User", "resource_id": str(resource_id)}
        row = {
            "change_id": change_id,
            "organization_id": self.organization_id,
            "connection_id": self.connection_id,
            "actor": "scim:okta",
            "resource_type": "User",
            "operation": "patch",
            "resource_id": resource_id,
            "status": status,
            "reply": orjson.dumps({**reply, "status": status, **columns.pop("reply", {})}),
            "request": orjson.dumps(
                columns.pop("request", {"method": "PATCH", "path": "/Users", "body": None})
            ).decode(),
            "received_at": at,
            "applied_at": at + timedelta(milliseconds=3),
            **columns,
        }
        await self._insert("outcomes", row)
        return change_id

    async def count(self) -> None:
        """The connection's counters, as they should be."""
        await self.db.execute(
            """
            INSERT INTO connection_stats (connection_id, users, active_users, groups)
            SELECT $1, (SELECT count(*) FROM users WHERE connection_id = $1),
                   (SELECT count(*) FROM users WHERE connection_id = $1 AND active),
                   (SELECT count(*) FROM groups WHERE connection_id = $1)
            ON CONFLICT (connection_id) DO UPDATE
            SET users = excluded.users, active_users = excluded.active_users, groups = excluded.groups
            """,
            self.connection_id,
        )

    async def _insert(self, table: str, row: dict[str, Any]) -> None:
        places = ", ".join(f"${number}" for number in range(1, len(row) + 1))
        await self.db.execute(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({places})", *row.values())


async def seed(db: asyncpg.Connection, organization_id: UUID, provider_id: str | None = None) -> Seed:
    """A new connection of the organization."""
    connection_id = uuid7()
    await db.execute(
        "INSERT INTO connections (id, organization_id, provider_id) VALUES ($1, $2, $3)",
        *(connection_id, organization_id, provider_id or f"idp-{connection_id.hex[-8:]}"),
    )
    return Seed(db, organization_id, connection_id)
