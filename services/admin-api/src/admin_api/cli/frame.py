"""What all commands share: the database, the ways to print, and what a failure is told as.

The drivers are imported where they are used: every command imports this, and few of them need all.
"""

import asyncio
import json
import logging
import os
import socket
import sys
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import structlog
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from admin_api.errors import ApiError, Unavailable, Validation
from scim import strictjson
from scim.errors import ScimError

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

    from admin_api.store.database import Transaction

console = Console(highlight=False)
errors = Console(stderr=True, highlight=False)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
OrganizationId = Annotated[UUID, typer.Option("--organization", help="Id of the organization.")]


class Failure(Exception):
    """A problem that its text explains; `code` is the exit code."""

    def __init__(self, message: str, code: int = 1) -> None:
        super().__init__(message)
        self.code = code


def new_app(help: str) -> typer.Typer:
    """A group of commands."""
    return typer.Typer(help=help, no_args_is_help=True, pretty_exceptions_enable=False, suggest_commands=True)


def in_database[T](work: "Callable[[AsyncSession], Awaitable[T]]") -> T:
    """The result of `work` in one transaction, as the schema's owner (DATABASE_URL)."""
    from admin_api.settings import DatabaseSettings
    from admin_api.store.database import open_engine, transactions
    from servicekit.settings import load

    async def run() -> T:
        dsn = load(DatabaseSettings).database_url.get_secret_value()
        async with open_engine(dsn, pool_size=1) as engine, transactions(engine)() as db:
            return await work(db)

    return asyncio.run(run())


def in_transactions[T](work: "Callable[[Transaction], Awaitable[T]]", *, at_once: int = 10) -> T:
    """The result of `work`, which opens transactions of its own, as the schema's owner."""
    from admin_api.settings import DatabaseSettings
    from admin_api.store.database import open_engine, transactions
    from servicekit.settings import load

    async def run() -> T:
        dsn = load(DatabaseSettings).database_url.get_secret_value()
        async with open_engine(dsn, pool_size=at_once) as engine:
            return await work(transactions(engine))

    return asyncio.run(run())


def print_json(document: Any) -> None:
    """One line of JSON on standard output; ids and times as text."""
    print(json.dumps(document, default=_json))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[Any]], nothing: str = "There is nothing.") -> None:
    """A table; `nothing` when there are no rows. None is shown as a dash."""
    table = Table(*columns, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        table.add_row(*(escape(cell(value)) for value in row))
    if table.row_count:
        console.print(table, soft_wrap=True)
    else:
        console.print(nothing)


def cell(value: Any) -> str:
    """A value as tables show it: times in UTC to the second."""
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case datetime():
            return value.strftime("%Y-%m-%d %H:%M:%SZ")
        case list() | tuple():
            return ", ".join(map(str, value)) or "-"
        case _:
            return str(value)


@contextmanager
def progress(task: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
    """A bar on standard error while something long runs, on a terminal only; `advance(n)` moves it."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=errors, transient=True, disable=not errors.is_terminal) as bar:
        handle = bar.add_task(task, total=total)
        yield lambda count: bar.advance(handle, count)


def explain(error: Exception) -> Failure:
    """What to tell the operator; no text of a driver that could hold a password or a row."""
    import asyncpg
    from aiokafka.errors import KafkaError
    from sqlalchemy.exc import DBAPIError

    from admin_api.changes import KafkaAway, NotConfirmed
    from admin_api.store.database import root_of
    from admin_api.topics import TopicMismatch, TopicRefused

    match error:
        case Failure():
            return error
        case Validation():
            return Failure(error.message, 2)
        case Unavailable() if isinstance(error.__cause__, Exception):
            return explain(error.__cause__)
        case ApiError():
            return Failure(error.message)
        case TopicMismatch() | TopicRefused():
            return Failure(f"Kafka: {error}")
        case NotConfirmed():
            return Failure("Kafka: no broker has confirmed the record in time; it may be in the log")
        case KafkaError() | KafkaAway():
            return Failure(f"Kafka: cannot reach a broker at KAFKA_BOOTSTRAP ({type(error).__name__})")
        case DBAPIError() | OSError() | asyncpg.PostgresError() | asyncpg.InterfaceError():
            return _explain_postgres(root_of(error))
        case _:
            return Failure(f"unexpected {type(error).__name__}; run again with LOG_LEVEL=DEBUG to see where")


def keep_output_clean() -> None:
    """Logs go to standard error; a warning is no news here, for the problem itself is printed."""
    level = logging.getLevelNamesMapping().get(os.environ.get("LOG_LEVEL", "").upper(), logging.ERROR)
    logging.basicConfig(level=max(level, logging.CRITICAL) if level > logging.DEBUG else level)
    structlog.configure(
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        wrapper_class=structlog.make_filtering_bound_logger(level),
    )


def _explain_postgres(error: BaseException) -> Failure:
    import asyncpg

    from admin_api.store.database import is_away

    match error:
        case asyncpg.InvalidAuthorizationSpecificationError():
            reason = "it refuses the user or the password of DATABASE_URL"
        case asyncpg.InvalidCatalogNameError():
            reason = "the database of DATABASE_URL does not exist"
        case asyncpg.InsufficientPrivilegeError():
            reason = "the user of DATABASE_URL must own the database and may need CREATEROLE"
        case asyncpg.UndefinedTableError() | asyncpg.UndefinedColumnError():
            reason = "the database is not migrated; run 'directory-sync migrate' first"
        case asyncpg.LockNotAvailableError():
            reason = "something holds a lock that is needed; try again when it is less busy"
        case asyncpg.ClientConfigurationError():
            return Failure("DATABASE_URL has a parameter that Postgres clients do not know", 2)
        case _ if isinstance(error, TimeoutError):
            reason = "it does not answer at the address of DATABASE_URL"
        case _ if is_away(error):
            reason = f"cannot connect to the address of DATABASE_URL ({_words(error)})"
        case _:
            reason = f"unexpected {type(error).__name__}; run again with LOG_LEVEL=DEBUG to see where"
    return Failure(f"Postgres: {reason}")


def _words(error: BaseException) -> str:
    if isinstance(error, socket.gaierror):
        return "unknown host name"
    number = error.errno if isinstance(error, OSError) else None
    return os.strerror(number) if number and number > 0 else type(error).__name__


def read_json(path: Path) -> Any:
    try:
        return strictjson.loads(path.read_bytes())
    except OSError as error:
        raise Failure(f"cannot read {path}: {error.strerror}", 2) from error
    except ScimError as error:
        raise Failure(f"{path} is not JSON: {error.detail}", 2) from error


def _json(value: Any) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)
