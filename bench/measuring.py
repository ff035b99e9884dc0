"""What the HTTP benchmarks share: a stack by its stack.json, connections with users made by SQL, medians, a table.

Connections and their users stay behind, so a benchmark starts a stack of its own unless it is given one.
"""

import asyncio
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx

ROUNDS = 60  # of each measurement, taken in turns, so that a busy moment hits all of them
WARM_UP = 5
ROOT = Path(__file__).parent.parent
PORTS = {"GATEWAY_PORT": "21080", "ADMIN_PORT": "21081", "KAFKA_PORT": "21092", "POSTGRES_PORT": "21032"}

ADD_USERS = """
    WITH made AS (
        SELECT gen_random_uuid() AS id, gen_random_uuid() AS account_id, n, $2 || n || '@example.com' AS name
        FROM generate_series(1, $3::int) AS n
    ), accounts AS (
        INSERT INTO accounts (id, organization_id, email, email_key, display_name, status, created_at, updated_at)
        SELECT account_id, $4, name, name, 'User ' || n, 'active', now(), now() FROM made
    )
    INSERT INTO users (id, connection_id, account_id, user_name, user_name_key, external_id, active, resource, version,
                       created_at, last_modified, email_keys)
    SELECT id, $1, account_id, name, name, n::text, true,
           jsonb_build_object(
               'userName', name, 'externalId', n::text, 'active', true, 'displayName', 'User ' || n,
               'name', jsonb_build_object('givenName', 'User', 'familyName', n::text),
               'emails', jsonb_build_array(jsonb_build_object('value', name, 'type', 'work', 'primary', true))),
           1, now() + n * interval '1 ms', now(), ARRAY[name]
    FROM made
"""
COUNT_USERS = """
    INSERT INTO connection_stats (connection_id, users) VALUES ($1, $2)
    ON CONFLICT (connection_id) DO UPDATE SET users = connection_stats.users + excluded.users
"""


@dataclass
class Connection:
    """A connection of the stack's organization, with a client that uses its token."""

    id: UUID
    organization_id: UUID
    client: httpx.AsyncClient

    async def send(self, method: str, path: str, **options: Any) -> httpx.Response:
        answer = await self.client.request(method, path, **options)
        answer.raise_for_status()
        return answer


class Stack:
    """A running stack, by the description that it writes of itself."""

    def __init__(self, description: dict[str, Any], db: asyncpg.Connection) -> None:
        self._description = description
        self.db = db

    async def add_connection(self, users: int) -> Connection:
        """A new connection with so many users."""
        provider_id = f"bench-{secrets.token_hex(4)}"
        organization_id = UUID(self._description["organizationId"])
        async with httpx.AsyncClient(base_url=self._description["adminUrl"], trust_env=False) as admin:
            signing_in = {name: self._description["admin" + name.capitalize()] for name in ("email", "password")}
            session = (await admin.post("/api/auth/sign-in/email", json=signing_in)).raise_for_status().json()["token"]
            answer = await admin.post(
                "/api/auth/scim/generate-token",
                json={"providerId": provider_id, "organizationId": str(organization_id)},
                headers={"Authorization": f"Bearer {session}"},
            )
            token = answer.raise_for_status().json()["scimToken"]
        connection_id = await self.db.fetchval("SELECT id FROM connections WHERE provider_id = $1", provider_id)
        assert connection_id is not None
        await self.db.execute(ADD_USERS, connection_id, provider_id, users, organization_id)
        await self.db.execute(COUNT_USERS, connection_id, users)
        headers = {"Authorization": f"Bearer {token}"}
        client = httpx.AsyncClient(
            base_url=self._description["scimBaseUrl"], headers=headers, trust_env=False, timeout=60
        )
        return Connection(connection_id, organization_id, client)

    async def add_group(self, connection: Connection, members: int) -> UUID:
        """A group of the connection's first users."""
        group_id, name = uuid4(), f"bench-{secrets.token_hex(4)}"
        await self.db.execute(
            "INSERT INTO groups (id, connection_id, display_name, display_name_key, resource, version, created_at,"
            " last_modified) VALUES ($1, $2, $3, $3, $4, 1, now(), now())",
            group_id,
            connection.id,
            name,
            json.dumps({"displayName": name}),
        )
        await self.db.execute(
            "INSERT INTO memberships (group_id, member_id, member_type)"
            " SELECT $1, id, 'User' FROM users WHERE connection_id = $2 ORDER BY created_at LIMIT $3",
            group_id,
            connection.id,
            members,
        )
        return group_id

    async def settle(self) -> None:
        """What autovacuum would do in its time."""
        await self.db.execute("VACUUM ANALYZE users, groups, memberships, accounts")


async def medians(measures: Sequence[Callable[[], Awaitable[None]]]) -> list[float]:
    """The median time of each, in milliseconds."""
    times: list[list[float]] = [[] for _ in measures]
    for round_ in range(WARM_UP + ROUNDS):
        for measure, taken in zip(measures, times, strict=True):
            started = time.perf_counter()
            await measure()
            if round_ >= WARM_UP:
                taken.append((time.perf_counter() - started) * 1000)
    return [median(taken) for taken in times]


def compare(title: str, names: tuple[str, str], rows: Sequence[tuple[str, float, float]], limit: float) -> bool:
    """Print small beside large with their ratio; whether every ratio keeps to `limit`."""
    print(f"{title}, median of {ROUNDS} in ms")
    print(f"{'':34}{names[0]:>12}{names[1]:>12}{'ratio':>8}{'limit':>8}")
    for name, small, large in rows:
        missed = "  missed" if large / small > limit else ""
        print(f"{name:34}{small:12.2f}{large:12.2f}{large / small:8.2f}{limit:8.1f}{missed}")
    return all(large / small <= limit for _, small, large in rows)


@contextmanager
def own_stack(folder: Path) -> Iterator[dict[str, Any]]:
    """A stack from nothing, on ports of its own; yields its description."""
    shutil.rmtree(folder, ignore_errors=True)
    environment = os.environ | PORTS | {"RUN_DIR": str(folder)}
    stack = subprocess.Popen(
        [sys.executable, "-m", "devstack", "run"], env=environment, stdout=subprocess.DEVNULL, cwd=ROOT
    )
    try:
        yield wait_for(folder / "stack.json", stack)
    finally:
        stack.terminate()
        stack.wait()


def wait_for(path: Path, process: subprocess.Popen) -> dict[str, Any]:
    """What the process writes to `path` once it is ready, at most two minutes from now."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        try:
            return json.loads(path.read_text())
        except (FileNotFoundError, json.JSONDecodeError):
            time.sleep(0.2)
    raise SystemExit(f"{process.args} did not get ready: {path} is not there")


def main(run: Callable[[Stack], Awaitable[bool]]) -> None:
    """Run a benchmark on a stack of its own, or on the one whose stack.json is the argument; exit code 1 when a limit
    is missed."""

    async def measured(description: dict[str, Any]) -> bool:
        db = await asyncpg.connect(description["databaseUrl"])
        try:
            return await run(Stack(description, db))
        finally:
            await db.close()

    if len(sys.argv) > 1:
        sys.exit(0 if asyncio.run(measured(json.loads(Path(sys.argv[1]).read_text()))) else 1)
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        Path(folder).chmod(0o755)  # Postgres may run as another user
        with own_stack(Path(folder) / "run") as description:
            met = asyncio.run(measured(description))
    sys.exit(0 if met else 1)
