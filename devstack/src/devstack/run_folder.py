"""RUN_DIR: data, logs, secrets and `stack.json` of one stack, used by one supervisor at a time."""

import fcntl
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from devstack.errors import StartError
from devstack.users import remove_linked


class RunFolder:
    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.kafka = self.path / "kafka"
        self.postgres = self.path / "postgres"
        self.logs = self.path / "logs"
        self.secrets = self.path / "secrets"
        self.stack_file = self.path / "stack.json"
        self.lock_file = self.path / "lock"

    def make(self) -> None:
        # Others may pass through, to Postgres's data when we are root, and read nothing.
        self.path.mkdir(mode=0o711, parents=True, exist_ok=True)
        owner = self.path.stat().st_uid
        if owner != os.geteuid():
            raise StartError(f"{self.path} belongs to another user (id {owner}): delete it, or set RUN_DIR")
        self.logs.mkdir(mode=0o700, exist_ok=True)
        self.secrets.mkdir(mode=0o700, exist_ok=True)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder alone; `StartError` when another supervisor has it."""
        with self.lock_file.open("a+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                file.seek(0)
                raise StartError(
                    f"a stack is running in {self.path} (process {file.read().strip()}): "
                    "stop it, or set RUN_DIR and the ports to run a second one"
                ) from error
            file.truncate(0)
            file.write(f"{os.getpid()}\n")
            file.flush()
            yield

    def log(self, name: str) -> Path:
        """An empty log for `name`; the previous run's is kept beside it."""
        log = self.logs / f"{name}.log"
        if log.exists():
            log.replace(log.with_suffix(".log.1"))
        log.touch()
        return log

    def secret(self, name: str) -> Path:
        """The file of a secret, made at random when it is not there yet."""
        file = self.secrets / name
        if not file.exists():
            write_private(file, secrets.token_urlsafe(24))
        return file

    def write_stack(self, stack: dict[str, Any]) -> None:
        write_private(self.stack_file, json.dumps(stack, indent=2) + "\n")

    def remove(self) -> None:
        """Delete everything that runs have left; nothing is a fine thing to delete."""
        if not self.path.exists():
            return
        if not self.lock_file.exists():
            raise StartError(f"{self.path} was not made by `make run`: not deleted")
        with self.locked():
            remove_linked(self.postgres)
            shutil.rmtree(self.path)


def write_private(path: Path, text: str) -> None:
    """Replace `path` whole, readable by its owner only."""
    half_written = path.with_name(f".{path.name}.new")
    half_written.unlink(missing_ok=True)
    with os.fdopen(os.open(half_written, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    half_written.replace(path)
