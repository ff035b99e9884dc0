import os
from pathlib import Path

import asyncpg
import pytest

from devstack import Postgres
from devstack.users import remove_linked


async def value(dsn: str, statement: str) -> object:
    db = await asyncpg.connect(dsn)
    try:
        return await db.fetchval(statement)
    finally:
        await db.close()


async def test_the_server_asks_for_the_password(postgres_server: str):
    assert await value(postgres_server, "SELECT 1") == 1

    with pytest.raises(asyncpg.InvalidPasswordError):
        await value(postgres_server.replace("@", "x@"), "SELECT 1")


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("fsync", "on"),
        ("data_checksums", "on"),
        ("password_encryption", "scram-sha-256"),
        ("listen_addresses", "127.0.0.1"),
        ("unix_socket_directories", ""),
    ],
)
async def test_the_server_is_as_careful_as_one_in_production(postgres_server: str, setting: str, expected: str):
    assert await value(postgres_server, f"SHOW {setting}") == expected


async def test_the_owner_counts_statements_and_is_no_superuser(postgres_server: str):
    await value(postgres_server, "SELECT pg_stat_statements_reset()")

    assert isinstance(await value(postgres_server, "SELECT sum(calls)::int FROM pg_stat_statements"), int)
    assert await value(postgres_server, "SHOW is_superuser") == "off"


async def test_a_killed_server_starts_again_with_its_port_password_and_rows(folder: Path):
    async with Postgres(folder / "postgres") as server:
        killed = server.pid
        await value(server.dsn, "CREATE TABLE kept AS SELECT 42 AS answer")

        await server.kill()
        await server.start()

        assert server.pid != killed
        assert await value(server.dsn, "SELECT answer FROM kept") == 42


async def test_a_second_start_reuses_data_and_password(folder: Path):
    async with Postgres(folder / "postgres") as first:
        await value(first.dsn, "CREATE TABLE kept AS SELECT 42 AS answer")

    async with Postgres(folder / "postgres") as second:
        assert second.password == first.password
        assert await value(second.dsn, "SELECT answer FROM kept") == 42


async def test_the_pid_is_the_postmaster(folder: Path):
    async with Postgres(folder / "postgres") as server:
        postmaster = await value(server.superuser_dsn, "SELECT split_part(pg_read_file('postmaster.pid'), E'\\n', 1)")

        assert int(str(postmaster)) == server.pid


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to give the server to somebody else")
async def test_root_runs_the_server_as_another_user_even_from_a_private_folder(tmp_path: Path):
    tmp_path.chmod(0o700)

    async with Postgres(tmp_path / "postgres") as server:
        assert Path(f"/proc/{server.pid}").stat().st_uid != 0
        assert (tmp_path / "postgres").is_symlink()

    remove_linked(tmp_path / "postgres")
