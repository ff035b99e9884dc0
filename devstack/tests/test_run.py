"""`make run` as a person meets it: one process in the foreground, its output, `stack.json`, and signals."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from devstack import Postgres, StartError, stack
from devstack.ports import free_port, is_free
from devstack.run_folder import RunFolder
from devstack.settings import read_settings

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


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """A folder that every user may enter, for all runs of this module."""
    place = Path(tempfile.mkdtemp(prefix="devstack-run-"))
    place.chmod(0o711)
    yield place
    shutil.rmtree(place)


@contextmanager
def made(place: Path) -> Iterator[Callable[..., Run]]:
    """Makes runs in folders of their own; what they leave is deleted at the end."""
    runs: list[Run] = []

    def make(**environment: str) -> Run:
        folder = Path(tempfile.mkdtemp(dir=place))
        folder.chmod(0o711)
        runs.append(Run(folder, **environment))
        return runs[-1]

    yield make
    for run in runs:
        run.close()
        RunFolder(run.folder).remove()


@pytest.fixture
def runs(place: Path) -> Iterator[Callable[..., Run]]:
    with made(place) as make:
        yield make


@pytest.fixture(scope="module")
def serving(place: Path) -> Iterator[Run]:
    """One run for all tests that leave it as they found it: serving."""
    with made(place) as make:
        yield make().start().serving()


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
    # The ports of metrics, and the one of the provisioner's health, are chosen free at each start.
    assert changed == {"processes", "healthUrls", "metricsUrls"}


def test_killed_parts_are_started_again_and_the_stack_file_follows(serving: Run):
    before = serving.stack["processes"]

    for pid in before.values():
        os.kill(pid, signal.SIGKILL)

    until(lambda: not set(before.values()) & set(serving.stack["processes"].values()), serving)
    after = serving.stack["processes"]
    assert after.keys() == {"gateway", "provisioner", "admin-api", "kafka", "postgres"}
    assert all(is_alive(pid) for pid in after.values())
    assert [line for line in serving.lines if "gateway was ended by SIGKILL: starting it again" in line]
    until(lambda: not any(is_free(int(port)) for port in serving.ports.values()), serving)


def test_the_stack_file_and_the_secrets_are_for_their_owner_only(serving: Run):
    files = [serving.folder / "stack.json", *(serving.folder / "secrets").glob("*_*")]

    assert {file.stat().st_mode & 0o777 for file in files} == {0o600}
    assert len(files) > 5


def test_a_second_stack_runs_beside_the_first(serving: Run, runs: Callable[..., Run]):
    other = runs().start().serving()

    pids = [*serving.stack["processes"].values(), *other.stack["processes"].values()]

    assert len({pid for pid in pids if is_alive(pid)}) == 10


def test_a_second_run_in_the_same_folder_is_one_line(serving: Run, folder: Path):
    second = Run(folder)
    second.folder = serving.folder

    assert f"a stack is running in {serving.folder} (process {serving.process.pid})" in last_line_of(second)


def test_a_running_stack_is_not_deleted(serving: Run):
    cleaning = subprocess.run(
        [sys.executable, "-m", "devstack", "clean"],
        env={**os.environ, "RUN_DIR": str(serving.folder)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert cleaning.returncode == 1
    assert "a stack is running" in cleaning.stderr


def test_a_port_in_use_is_one_line_that_names_its_variable(serving: Run, runs: Callable[..., Run]):
    taken = serving.ports["KAFKA_PORT"]

    line = last_line_of(runs(ADMIN_PORT=taken))

    assert line.startswith(f"devstack: in use: ADMIN_PORT {taken}; stop what listens there, or choose another: ")


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


def test_a_lost_token_is_replaced(runs: Callable[..., Run]):
    run = runs()
    RunFolder(run.folder).make()
    (run.folder / "secrets" / "stand-in-bootstrapped").touch()

    assert run.start().serving().stack["scimToken"] == "another-token"


async def test_a_damaged_data_folder_is_one_line_that_says_what_to_do(runs: Callable[..., Run]):
    run = runs()
    RunFolder(run.folder).make()
    async with Postgres(run.folder / "postgres"):
        pass
    (run.folder / "postgres" / "data" / "global" / "pg_control").write_bytes(b"damaged")

    line = last_line_of(run)

    assert line.startswith("devstack: postgres ended while starting: ")
    assert line.endswith("if the data are damaged, `make clean-run` deletes them")


def test_a_failing_migration_is_one_line_with_the_reason(runs: Callable[..., Run]):
    line = last_line_of(runs(STAND_IN_FAILS="migrate"))

    assert line.startswith("devstack: `directory-sync migrate` failed: the stand-in was told to fail (see ")


async def test_a_full_disk_is_one_line(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(stack, "NEEDED_BYTES", 10**18)

    with pytest.raises(StartError, match="MB are free for .*: 1 GB is needed"):
        await stack.run(read_settings({"RUN_DIR": str(folder / "run")}))


@pytest.mark.parametrize("port", ["none", "0", "65536", "-1"])
def test_a_port_that_is_none_is_one_line(port: str):
    with pytest.raises(StartError, match=f"KAFKA_PORT is '{port}': it must be a port number"):
        read_settings({"KAFKA_PORT": port})


def test_a_folder_that_no_run_made_is_not_deleted(folder: Path):
    with pytest.raises(StartError, match="was not made by `make run`: not deleted"):
        RunFolder(folder).remove()

    assert folder.exists()


def last_line_of(run: Run) -> str:
    assert run.start().process.wait(DEADLINE) == 1
    assert "Traceback" not in run.output.read_text()
    return run.lines[-1]
