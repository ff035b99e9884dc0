"""Backup and restore, really done: `make drill`.

A stack of its own on free ports; clients write; a base backup meanwhile, and WAL archiving; more writes; everything is
killed and Postgres's folder deleted, WAL and all; base backup and archive are restored, and the log replays the rest.
Exit code 0 when the directory is the same, and nothing that a client was told is lost.
"""

import asyncio
import json
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg

from devstack.ports import free_port
from devstack.postgres import SUPERUSER, Postgres, binaries, dsn
from devstack.run_folder import RunFolder
from devstack.users import unprivileged_user
from e2e import load as loads
from e2e.load import Load
from e2e.scim import client
from e2e.stack import PORTS, Stack, until

BIN = Path(sys.executable).parent
WRITES = int(os.environ.get("WRITES") or 400)  # before the backup, while it runs and after it
START_DEADLINE = 600.0  # seconds; the first start downloads Kafka
GONE_DEADLINE = 30.0
REPLAY_DEADLINE = 120.0
APPLIED = "SELECT sum(next_offset) FROM partition_offsets WHERE topic = 'scim.changes'"
# What the log makes, and what admins make: all of the directory.
TABLES = (
    *("organizations", "connections", "tokens", "accounts", "users", "user_tombstones", "links", "connection_stats"),
    *("groups", "memberships", "grants", "roles", "group_mappings", "outcomes", "events", "quarantine"),
)
# What says when a change was applied, and whether that was too late for its client: a replay is later. And what the
# requests leave behind by which we notice that all is well.
CLOCKS = ["applied_at", "late_fingerprint", "last_used_at", "last_success_at", "last_error_at"]
GROWING = ("outcomes",)
# The members of an outcome's JSON come in any order.
ROWS = """
    SELECT (to_jsonb(t) - $1::text[] || CASE WHEN to_jsonb(t) ? 'reply' THEN
        jsonb_build_object('reply', convert_from((to_jsonb(t)->>'reply')::bytea, 'UTF8')::jsonb) ELSE '{{}}' END)::text
    FROM {} t
"""


class DrillFailed(Exception):
    """The restored directory is another one."""


class Site:
    """A stack, its archive of WAL and its base backup, in one folder."""

    def __init__(self, folder: Path) -> None:
        self.run_dir, self.archive, self.backup = folder / "run", folder / "archive", folder / "base"
        self.ports = {name: free_port() for name in PORTS}
        self._output = folder / "run.log"
        self._user = unprivileged_user()
        self._bin = binaries(self._user)
        self._process: asyncio.subprocess.Process | None = None
        for each in (self.archive, self.backup):
            each.mkdir(mode=0o700)
            if self._user:
                self._user.own(each)

    @property
    def _data(self) -> Path:
        return (self.run_dir / "postgres").resolve() / "data"

    @property
    def superuser(self) -> str:
        password = (self.run_dir / "postgres" / "password").read_text()
        return dsn(SUPERUSER, password, self.ports["POSTGRES_PORT"], "postgres")

    async def start(self) -> Stack:
        """`make run` in our folder; returns when it serves."""
        environment = {name: str(port) for name, port in self.ports.items()} | {"RUN_DIR": str(self.run_dir)}
        file = self.run_dir / "stack.json"
        with self._output.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "devstack", "run"),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=os.environ | environment,
                start_new_session=True,
            )
        process = self._process
        await until(lambda: file.exists() or process.returncode is not None, "the stack", START_DEADLINE)
        if process.returncode is not None:
            raise DrillFailed(f"the stack does not start:\n{self._output.read_text()[-3000:]}")
        stack = Stack(file, is_ours=True)
        await stack.is_whole()
        return stack

    async def archive_wal(self, stack: Stack) -> None:
        """Switch archiving on, which takes a restart."""
        to = f"{self.archive}/%f"
        command = f"test ! -f {to} && cp %p {to}.new && mv {to}.new {to}"
        await execute(
            self.superuser,
            "ALTER SYSTEM SET archive_mode = on",
            f"ALTER SYSTEM SET archive_command = '{command}'",
        )
        await stack.killed_and_back("postgres")

    async def back_up(self) -> None:
        """A base backup without any WAL: what it needs comes from the archive."""
        await self._run(
            "pg_basebackup",
            f"--dbname={self.superuser}",
            f"--pgdata={self.backup}",
            "--wal-method=none",
            "--checkpoint=fast",
        )
        await self._run("pg_verifybackup", "--no-parse-wal", str(self.backup))

    async def destroy(self) -> None:
        """Kill everything, and delete what Postgres had, its WAL too. Kafka keeps its log."""
        processes = json.loads((self.run_dir / "stack.json").read_text())["processes"].values()
        assert self._process
        self._process.kill()
        await self._process.wait()
        await until(
            lambda: not any(Path(f"/proc/{pid}").exists() for pid in processes), "all to be gone", GONE_DEADLINE
        )
        shutil.rmtree(self._data)
        (self.run_dir / "stack.json").unlink()

    async def restore(self, database_url: str) -> int:
        """The base backup in Postgres's place, and the archive's WAL to its end; the number of records applied by then.

        The services are started afterwards only.
        """
        await asyncio.to_thread(shutil.copytree, self.backup, self._data)
        self._data.chmod(0o700)
        if self._user:
            for path in (self._data, *self._data.rglob("*")):
                self._user.own(path)
        (self._data / "recovery.signal").touch()
        with (self._data / "postgresql.auto.conf").open("a") as settings:
            settings.write(f"restore_command = 'cp {self.archive}/%f %p'\n")
        async with Postgres(self.run_dir / "postgres", port=self.ports["POSTGRES_PORT"]):
            await until(self._is_primary, "the end of the recovery", REPLAY_DEADLINE)
            return await applied(database_url)

    async def _is_primary(self) -> bool:
        return not await fetch_value(self.superuser, "SELECT pg_is_in_recovery()")

    async def stop(self) -> None:
        if self._process and self._process.returncode is None:
            self._process.terminate()
            await self._process.wait()

    async def _run(self, program: str, *arguments: str) -> None:
        identity = self._user.as_subprocess_arguments() if self._user else {}
        process = await asyncio.create_subprocess_exec(
            str(self._bin / program), *arguments, cwd=self.backup, stdout=asyncio.subprocess.DEVNULL, **identity
        )
        if code := await process.wait():
            raise DrillFailed(f"{program} ends with {code}")


async def execute(dsn: str, *statements: str) -> None:
    db = await asyncpg.connect(dsn)
    try:
        for statement in statements:
            await db.execute(statement)
    finally:
        await db.close()


async def fetch_value(dsn: str, query: str) -> Any:
    db = await asyncpg.connect(dsn)
    try:
        return await db.fetchval(query)
    finally:
        await db.close()


async def applied(dsn: str) -> int:
    """How many records of the log are applied, over all partitions."""
    return int(await fetch_value(dsn, APPLIED))


async def rows(dsn: str) -> dict[str, set[str]]:
    """Every row of the directory, by table."""
    db = await asyncpg.connect(dsn)
    try:
        return {table: {row[0] for row in await db.fetch(ROWS.format(table), CLOCKS)} for table in TABLES}
    finally:
        await db.close()


def assert_same(before: Mapping[str, set[str]], after: Mapping[str, set[str]]) -> None:
    for table in TABLES:
        missing = before[table] - after[table]
        new = set() if table in GROWING else after[table] - before[table]
        if missing or new:
            shown = [f"- {row[:1500]}" for row in sorted(missing)[:3]] + [f"+ {row[:1500]}" for row in sorted(new)[:3]]
            raise DrillFailed("\n".join([f"{table}: {len(missing)} rows are missing, {len(new)} are others", *shown]))


async def verify(dsn: str) -> None:
    """The directory's own check: counters, links, keys, roles, and the audit trail's chains."""
    process = await asyncio.create_subprocess_exec(
        str(BIN / "directory-sync"), "verify", env=os.environ | {"DATABASE_URL": dsn}, stdout=asyncio.subprocess.PIPE
    )
    said, _ = await process.communicate()
    if process.returncode:
        raise DrillFailed(f"verify ends with {process.returncode}:\n{said.decode()}")


@asynccontextmanager
async def loaded(stack: Stack) -> AsyncIterator[Load]:
    """Clients that write within the block; afterwards each acknowledged write was found."""
    seed = random.randrange(10**6)
    async with (
        client(stack.scim_url, stack.token) as scim,
        loads.running(scim, seed, f"{seed}.example.com") as load,
    ):
        yield load


async def check_again(stack: Stack, load: Load) -> None:
    async with client(stack.scim_url, stack.token) as scim:
        load.scim = scim
        for one in load.registers:
            await load.check(one)


async def drill(site: Site) -> None:
    stack = await site.start()
    await site.archive_wal(stack)
    async with loaded(stack) as load:
        await load.progress(WRITES)
        backing_up = asyncio.create_task(site.back_up())
        await load.progress(WRITES)
        await backing_up
        await load.progress(WRITES)
    written, before = await applied(stack.database_url), await rows(stack.database_url)
    say(f"{load.acknowledged} writes acknowledged, {written} records applied; killing everything, deleting Postgres")

    await site.destroy()
    began = time.monotonic()
    restored = await site.restore(stack.database_url)
    say(f"base backup and WAL restored: {restored} records applied, {written - restored} are the log's to replay")
    if restored >= written:
        raise DrillFailed("the archive had everything: nothing was left to replay, and nothing is proved")
    stack = await site.start()
    await until(lambda: has_applied(stack, written), "the log to be replayed", REPLAY_DEADLINE)
    say(f"serving and replayed after {time.monotonic() - began:.0f} s")

    assert_same(before, await rows(stack.database_url))
    await check_again(stack, load)
    await verify(stack.database_url)
    async with loaded(stack) as more:
        await more.progress(WRITES // 10)
    say("the directory is the same, nothing acknowledged is lost, and it goes on")


async def has_applied(stack: Stack, records: int) -> bool:
    return await applied(stack.database_url) >= records


def say(text: str) -> None:
    print(f"drill: {text}", flush=True)


async def main() -> None:
    folder = Path(tempfile.mkdtemp(prefix="drill-"))
    folder.chmod(0o711)  # Postgres runs as another user when we are root
    site = Site(folder)
    try:
        await drill(site)
    except DrillFailed as failure:
        sys.exit(f"drill: FAILED: {failure}")
    finally:
        await site.stop()
        if not os.environ.get("KEEP"):
            RunFolder(site.run_dir).remove()
            shutil.rmtree(folder)


if __name__ == "__main__":
    asyncio.run(main())
