"""`make run` as a person meets it: one process in the foreground, its output, `stack.json`, and signals."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from devstack.ports import free_port, is_free
from devstack.run_folder import RunFolder

DEADLINE = 60.0
RUN = Path(__file__).parent / "stand_ins" / "run.py"
PORTS = ("GATEWAY_PORT", "ADMIN_PORT", "KAFKA_PORT", "POSTGRES_PORT")


class Run:
    """One `make run` with stand-ins for our services, in a process group of its own as a shell would start it."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self.folder = folder / "run"
        self.ports = {name: environment.pop(name, None) or str(free_port()) for name in PORTS}
        self.environment = environment
        self.output = folder / "output"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> "Run":
        variables = {**os.environ, **self.ports, "RUN_DIR": str(self.folder), **self.environment}
        with self.output.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, str(RUN)], env=variables, stdout=output, stderr=output, start_new_session=True
            )
        return self

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process
        return self._process

    @property
    def stack(self) -> dict[str, Any]:
        return json.loads((self.folder / "stack.json").read_text())

    @property
    def lines(self) -> list[str]:
        return self.output.read_text().splitlines()

    def serving(self) -> "Run":
        until((self.folder / "stack.json").exists, self)
        return self

    def signal_group(self, number: signal.Signals) -> int:
        """As Ctrl-C does: to every process of the terminal's foreground group. Returns the exit status."""
        os.killpg(self.process.pid, number)
        return self.process.wait(DEADLINE)

    def close(self) -> None:
        if self._process and self._process.poll() is None:
            self.signal_group(signal.SIGINT)


def until(true: Callable[[], object], run: Run) -> None:
    deadline = time.monotonic() + DEADLINE
    while not true():
        assert time.monotonic() < deadline, run.output.read_text()
        assert run.process.poll() is None, run.output.read_text()
        time.sleep(0.05)


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture
def runs(folder: Path) -> Iterator[Callable[..., Run]]:
    """Makes runs; all of them share one folder unless they are named."""
    made: list[Run] = []

    def make(name: str = "one", **environment: str) -> Run:
        (folder / name).mkdir(mode=0o711, exist_ok=True)
        made.append(Run(folder / name, **environment))
        return made[-1]

    yield make
    for run in made:
        run.close()
        RunFolder(run.folder).remove()


async def query(dsn: str, statement: str) -> object:
    db = await asyncpg.connect(dsn)
    try:
        return await db.fetchval(statement)
    finally:
        await db.close()


def test_ctrl_c_leaves_nothing_behind_and_a_second_start_reuses_everything(runs: Callable[..., Run]):
    run = runs().start().serving()
    first = run.stack
    asyncio.run(query(first["databaseUrl"], "CREATE TABLE kept AS SELECT 42 AS answer"))
    assert all(is_alive(pid) for pid in first["processes"].values())

    assert run.signal_group(signal.SIGINT) == 0

    assert not [name for name, pid in first["processes"].items() if is_alive(pid)]
    assert all(is_free(int(port)) for port in run.ports.values())

    second = run.start().serving().stack

    assert asyncio.run(query(second["databaseUrl"], "SELECT answer FROM kept")) == 42
    changed = {key for key in first if first[key] != second[key]}
    assert changed == {"processes", "healthUrls"}  # the provisioner's health port is chosen free at each start


def test_a_lost_token_is_replaced(runs: Callable[..., Run]):
    run = runs().start().serving()
    run.signal_group(signal.SIGINT)
    (run.folder / "secrets" / "scim_token").unlink()

    assert run.start().serving().stack["scimToken"] == "another-token"


def test_killed_parts_are_started_again_and_the_stack_file_follows(runs: Callable[..., Run]):
    run = runs().start().serving()
    before = run.stack["processes"]

    for pid in before.values():
        os.kill(pid, signal.SIGKILL)

    until(lambda: not set(before.values()) & set(run.stack["processes"].values()), run)
    after = run.stack
    assert after["processes"].keys() == {"gateway", "provisioner", "admin-api", "kafka", "postgres"}
    assert all(is_alive(pid) for pid in after["processes"].values())
    assert [line for line in run.lines if "gateway was ended by SIGKILL: starting it again" in line]
    until(lambda: not is_free(int(run.ports["POSTGRES_PORT"])), run)


def test_everything_dies_with_a_killed_supervisor(runs: Callable[..., Run]):
    run = runs().start().serving()
    processes = run.stack["processes"]

    run.process.kill()
    run.process.wait()

    deadline = time.monotonic() + 10
    while left := [name for name, pid in processes.items() if is_alive(pid)]:
        assert time.monotonic() < deadline, left
        time.sleep(0.05)


def test_a_signal_during_the_start_stops_it(runs: Callable[..., Run]):
    run = runs().start()
    until(lambda: run.output.read_text(), run)

    assert run.signal_group(signal.SIGTERM) == 0

    assert run.lines[-1].endswith("stopped")
    assert all(is_free(int(port)) for port in run.ports.values())


def test_two_stacks_run_side_by_side(runs: Callable[..., Run]):
    one, other = runs("one").start(), runs("other").start()

    pids = [*one.serving().stack["processes"].values(), *other.serving().stack["processes"].values()]

    assert len({pid for pid in pids if is_alive(pid)}) == 10


def test_the_stack_file_is_for_its_owner_only(runs: Callable[..., Run]):
    run = runs().start().serving()

    secret_files = [run.folder / "stack.json", *(run.folder / "secrets").glob("*_*")]

    assert {file.stat().st_mode & 0o777 for file in secret_files} == {0o600}
    assert len(secret_files) > 5


def last_line_of(run: Run) -> str:
    assert run.start().process.wait(DEADLINE) == 1
    assert "Traceback" not in run.output.read_text()
    return run.lines[-1]


def test_a_port_in_use_is_one_line_that_names_its_variable(runs: Callable[..., Run], postgres_server: str):
    taken = postgres_server.rpartition(":")[2].partition("/")[0]

    line = last_line_of(runs(ADMIN_PORT=taken))

    assert line.startswith(f"devstack: in use: ADMIN_PORT {taken}; stop what listens there, or choose another: ")


def test_a_second_run_in_the_same_folder_is_one_line(runs: Callable[..., Run]):
    first = runs().start()
    until(lambda: first.output.read_text(), first)

    second = runs()
    second.output = second.output.with_name("second")

    assert f"a stack is running in {first.folder} (process {first.process.pid})" in last_line_of(second)


def test_a_running_stack_is_not_deleted(runs: Callable[..., Run]):
    run = runs().start()
    until(lambda: run.output.read_text(), run)

    cleaning = subprocess.run(
        [sys.executable, "-m", "devstack", "clean"],
        env={**os.environ, "RUN_DIR": str(run.folder)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert cleaning.returncode == 1
    assert "a stack is running" in cleaning.stderr


def test_a_damaged_data_folder_is_one_line_that_says_what_to_do(runs: Callable[..., Run]):
    run = runs().start().serving()
    run.signal_group(signal.SIGINT)
    (run.folder / "postgres" / "data" / "global" / "pg_control").write_bytes(b"damaged")

    line = last_line_of(run)

    assert line.startswith("devstack: postgres ended while starting: ")
    assert line.endswith("if the data are damaged, `make clean-run` deletes them")


def test_a_failing_migration_is_one_line_with_the_reason(runs: Callable[..., Run]):
    line = last_line_of(runs(STAND_IN_FAILS="migrate"))

    assert line.startswith("devstack: `directory-sync migrate` failed: the stand-in was told to fail (see ")
