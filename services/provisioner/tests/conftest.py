"""A directory in a real database, and an engine that applies changes to it."""

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import orjson
import pytest_asyncio

from contracts import (
    CHANGES,
    NO_CONNECTION,
    AccountRequest,
    Change,
    MappingRequest,
    Operation,
    Outcome,
    ResourceType,
)
from provisioner.engine import Engine
from provisioner.records import Record
from provisioner.results import Results
from provisioner.service import PLANNED_ONCE
from provisioner.store.claims import Claim
from scim.patch import operations_to_json, parse_patch
from scim.schema import USER
from servicekit.postgres import open_pool

PATCH_OP = "urn:ietf:params:scim:api:messages:2.0:PatchOp"


def new_id() -> UUID:
    """A UUIDv7, as the gateway mints them."""
    milliseconds = int(datetime.now(UTC).timestamp() * 1000)
    random = int.from_bytes(os.urandom(10)) & ~(0xF << 76) & ~(0x3 << 62)
    return UUID(int=(milliseconds << 80) | (0x7 << 76) | (0x2 << 62) | random)


@dataclass
class World:
    """One organization with a connection, and the engine that is the only writer of its users."""

    pool: asyncpg.Pool
    owner: asyncpg.Pool
    engine: Engine
    claim: Claim
    role_dsn: str
    organization_id: UUID = field(default_factory=new_id)
    connection_id: UUID = field(default_factory=new_id)
    token_id: UUID = field(default_factory=new_id)
    published: list[Results] = field(default_factory=list)

    async def seed(self) -> None:
        await self.owner.execute(
            "INSERT INTO organizations (id, name, plan) VALUES ($1, 'Example', 'enterprise')", self.organization_id
        )
        await self.add_connection(self.connection_id, "okta")
        await self.owner.execute(
            "INSERT INTO tokens (id, connection_id, digest, hint) VALUES ($1, $2, $3, 'abcd')",
            self.token_id,
            self.connection_id,
            self.token_id.bytes,
        )

    async def add_connection(self, connection_id: UUID, provider_id: str) -> None:
        await self.owner.execute(
            "INSERT INTO connections (id, organization_id, provider_id) VALUES ($1, $2, $3)",
            connection_id,
            self.organization_id,
            provider_id,
        )

    async def add_account(self, email: str, *, epoch: int = 0) -> UUID:
        account_id = new_id()
        await self.owner.execute(
            "INSERT INTO accounts (id, organization_id, email, email_key, display_name, status, epoch, created_at,"
            " updated_at) VALUES ($1, $2, $3, $3, 'Local', 'active', $4, now(), now())",
            account_id,
            self.organization_id,
            email,
            epoch,
        )
        return account_id

    def change(self, operation: Operation, resource_id: UUID | None = None, **fields: Any) -> Change:
        now = datetime.now(UTC)
        values = {
            "id": new_id(),
            "organization_id": self.organization_id,
            "connection_id": self.connection_id,
            "token_id": self.token_id,
            "actor": "token:test",
            "resource_type": ResourceType.USER,
            "resource_id": resource_id or new_id(),
            "received_at": now,
            "deadline": now + timedelta(seconds=10),
            "reply_partition": 0,
        }
        return Change(operation=operation, **(values | fields))

    def create(self, user_name: str, *, resource: dict[str, Any] | None = None, **fields: Any) -> Change:
        return self.change(Operation.CREATE, resource={"userName": user_name, **(resource or {})}, **fields)

    def create_group(self, name: str, *members: object, **fields: Any) -> Change:
        return self.group_change(
            Operation.CREATE,
            resource={"displayName": name},
            members=[("replace", members)] if members else [],
            **fields,
        )

    def patch_group(self, group_id: UUID, *members: tuple[str, Sequence[object]], **fields: Any) -> Change:
        """A PATCH of the members: pairs of operation and ids."""
        return self.group_change(Operation.PATCH, group_id, members=members, **fields)

    def group_change(
        self, operation: Operation, group_id: UUID | None = None, members: Sequence[tuple[str, Any]] = (), **fields: Any
    ) -> Change:
        named = [{"op": op, "values": [str(value) for value in values]} for op, values in members]
        return self.change(operation, group_id, resource_type=ResourceType.GROUP, members=named, **fields)

    async def members(self, group_id: UUID) -> set[UUID]:
        rows = await self.owner.fetch("SELECT member_id FROM memberships WHERE group_id = $1", group_id)
        return {row["member_id"] for row in rows}

    def replace(self, user_id: UUID, resource: dict[str, Any], **fields: Any) -> Change:
        return self.change(Operation.REPLACE, user_id, resource=resource, **fields)

    def patch(self, user_id: UUID, *operations: dict[str, Any], **fields: Any) -> Change:
        parsed = parse_patch(USER, {"schemas": [PATCH_OP], "Operations": list(operations)})
        return self.change(Operation.PATCH, user_id, patch=operations_to_json(parsed), **fields)

    def delete(self, user_id: UUID, **fields: Any) -> Change:
        return self.change(Operation.DELETE, user_id, **fields)

    def account_change(self, account_id: UUID | None = None, **request: Any) -> Change:
        """What an admin asks of an account; without an id, a new one."""
        operation = Operation.PATCH if account_id else Operation.CREATE
        return self.admin_change(operation, ResourceType.ACCOUNT, account_id, account=AccountRequest(**request))

    def apply_mappings(self, name: str | None = None, *, dry_run: bool | None = None, **request: Any) -> Change:
        mapping = MappingRequest(scim_group_name=name, **request)
        return self.admin_change(Operation.APPLY, ResourceType.GROUP_MAPPING, mapping=mapping, dry_run=dry_run)

    def admin_change(
        self, operation: Operation, resource_type: ResourceType, resource_id: UUID | None = None, **fields: Any
    ) -> Change:
        named = {"connection_id": NO_CONNECTION, "token_id": None, "actor": "account:admin", "version": 2}
        return self.change(operation, resource_id, resource_type=resource_type, **(named | fields))

    async def add_role(self, name: str) -> UUID:
        role_id = new_id()
        await self.owner.execute(
            "INSERT INTO roles (id, organization_id, name, built_in) VALUES ($1, $2, $3, $3 = 'admin')",
            role_id,
            self.organization_id,
            name,
        )
        return role_id

    async def map_group(self, name: str, role_id: UUID, **columns: Any) -> UUID:
        """A group mapping, as admin-api makes it."""
        mapping_id = new_id()
        await self.owner.execute(
            "WITH raised AS (UPDATE organizations SET mappings_version = mappings_version + 1 WHERE id = $2"
            " RETURNING mappings_version)"
            " INSERT INTO group_mappings (id, organization_id, connection_id, scim_group_name, role_id, group_ids,"
            " created_version, created_by, created_at)"
            " SELECT $1, $2, $3, $4, $5, $6, mappings_version, 'test', now() FROM raised",
            mapping_id,
            self.organization_id,
            columns.get("connection_id"),
            name,
            role_id,
            columns.get("group_ids", []),
        )
        return mapping_id

    async def unmap(self, mapping_id: UUID) -> None:
        await self.owner.execute(
            "WITH raised AS (UPDATE organizations SET mappings_version = mappings_version + 1 WHERE id = $2"
            " RETURNING mappings_version)"
            " UPDATE group_mappings SET deleted_at = now(), deleted_version = mappings_version FROM raised"
            " WHERE group_mappings.id = $1",
            mapping_id,
            self.organization_id,
        )

    async def grants(self) -> set[tuple[UUID, UUID, UUID | None]]:
        """Account, role and group of all grants."""
        rows = await self.owner.fetch("SELECT account_id, role_id, group_id FROM grants")
        return {tuple(row) for row in rows}

    async def roles_of(self, *user_ids: UUID) -> list[list[str]]:
        """The names of the roles of each user's account, sorted, once for each source."""
        rows = await self.owner.fetch(
            "SELECT u.id, r.name FROM users u JOIN grants g USING (account_id) JOIN roles r ON r.id = g.role_id"
            " WHERE u.id = ANY($1::uuid[])",
            user_ids,
        )
        return [sorted(row["name"] for row in rows if row["id"] == user_id) for user_id in user_ids]

    def records(self, items: Sequence[Change | bytes]) -> list[Record]:
        return [
            Record(
                CHANGES.name,
                0,
                self.claim.next_offset + position,
                str(self.organization_id).encode(),
                item if isinstance(item, bytes) else item.model_dump_json().encode(),
            )
            for position, item in enumerate(items)
        ]

    async def apply(self, *items: Change | bytes) -> list[Outcome]:
        """Apply as one batch; the outcomes in order, as they are stored."""
        self.claim = await self.engine.apply(self.claim, self.records(items))
        return [outcome for item in items if isinstance(item, Change) and (outcome := await self.outcome(item.id))]

    async def apply_one(self, change: Change) -> Outcome:
        return (await self.apply(change))[0]

    async def outcome(self, change_id: UUID) -> Outcome | None:
        reply = await self.owner.fetchval("SELECT reply FROM outcomes WHERE change_id = $1", change_id)
        return Outcome.model_validate_json(reply) if reply else None

    async def account_of(self, user_id: UUID) -> asyncpg.Record:
        row = await self.owner.fetchrow(
            "SELECT a.* FROM accounts a JOIN users u ON u.account_id = a.id WHERE u.id = $1", user_id
        )
        assert row is not None
        return row

    async def rows(self, table: str) -> list[dict[str, Any]]:
        rows = await self.owner.fetch(f"SELECT * FROM {table}")
        return [dict(row) for row in rows]


async def _as_role(database: str) -> str:
    """The provisioner's own DSN: its rights are part of what is tested."""
    owner = await asyncpg.connect(database)
    await owner.execute("ALTER ROLE scim_provisioner PASSWORD 'provisioner'")
    await owner.close()
    _, _, rest = database.partition("@")
    return f"postgresql://scim_provisioner:provisioner@{rest}"


@pytest_asyncio.fixture(loop_scope="session")
async def world(postgres_database: str) -> AsyncIterator[World]:
    stopping = asyncio.Event()
    role = await _as_role(postgres_database)
    async with (
        open_pool(role, service="test", max_size=3, settings=PLANNED_ONCE) as pool,
        open_pool(postgres_database, service="test") as owner,
    ):
        published: list[Results] = []

        async def publish(results: Results) -> None:
            published.append(results)

        engine = Engine(pool, publish, stopping)
        claim = await engine.claim(CHANGES.name, 0, 0, "test")
        world = World(pool, owner, engine, claim, role, published=published)
        await world.seed()
        yield world


def replies(published: Sequence[Results]) -> list[dict[str, Any]]:
    """What was sent to the gateways, in order."""
    return [orjson.loads(reply.value) for results in published for reply in results.replies]
