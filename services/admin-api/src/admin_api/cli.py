"""`directory-sync`: what operators do before and beside the services.

Exit codes: 0 done, 1 failed, 2 wrong arguments or settings. Results go to standard output, problems to standard error.
"""

import asyncio
import json
import logging
import os
import socket
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal
from uuid import UUID

import asyncpg
import structlog
import typer
from aiokafka.errors import KafkaError
from pydantic import SecretStr
from rich.console import Console
from rich.markup import escape
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

import directory
from admin_api import schemas
from admin_api.bootstrap import Bootstrapped, Wanted, bootstrap
from admin_api.errors import ApiError, Unavailable, Validation
from admin_api.settings import BootstrapSettings, DatabaseSettings, MigrateSettings, TopicsSettings
from admin_api.store.database import is_away, open_engine, root_of, transactions
from admin_api.topics import Report, TopicMismatch, TopicRefused, create_topics
from contracts import TOPICS
from scim import strictjson
from scim.errors import ScimError
from servicekit.settings import load

app = typer.Typer(
    help="Operate directory sync: migrate the database, create the topics, make the first organization.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
schema_app = typer.Typer(help="An organization's own schemas, for attributes that SCIM does not have.")
app.add_typer(schema_app, name="schema", no_args_is_help=True)
console = Console(highlight=False)


class Failure(Exception):
    """A problem that its text explains; `code` is the exit code."""

    def __init__(self, message: str, code: int = 1) -> None:
        super().__init__(message)
        self.code = code


def main() -> None:
    """The console script: a problem is one line on standard error, never a traceback (unless LOG_LEVEL=DEBUG)."""
    _keep_output_clean()
    try:
        app()
    except Exception as error:
        if os.environ.get("LOG_LEVEL", "").upper() == "DEBUG":
            raise
        failure = explain(error)
        print(f"directory-sync: {failure}", file=sys.stderr)
        sys.exit(failure.code)


@app.command()
def migrate() -> None:
    """Bring the database to the newest revision, and give the services' roles their passwords.

    Settings: DATABASE_URL (the owner's), GATEWAY_DB_PASSWORD, PROVISIONER_DB_PASSWORD, ADMIN_DB_PASSWORD.
    """
    settings = load(MigrateSettings)
    dsn = settings.database_url.get_secret_value()
    directory.migrate(dsn)
    passwords = {role: password.get_secret_value() for role, password in _role_passwords(settings) if password}
    if passwords:
        asyncio.run(directory.set_role_passwords(dsn, passwords))
    console.print(f"The database is at revision [bold]{directory.HEAD}[/bold].")
    for role in passwords:
        console.print(f"The password of {role} is set.")


@app.command()
def topics() -> None:
    """Create the Kafka topics that are missing, and check those that exist.

    Settings: KAFKA_BOOTSTRAP, KAFKA_REPLICATION_FACTOR (default 1).
    """
    settings = load(TopicsSettings)
    report = asyncio.run(create_topics(settings.kafka_bootstrap, TOPICS, settings.kafka_replication_factor))
    _print_topics(report)


@app.command("bootstrap")
def bootstrap_command(
    organization: Annotated[str, typer.Option(help="Name of the organization; made when there is none of that name.")],
    email: Annotated[str, typer.Option(help="Email of its admin.")],
    password_file: Annotated[Path, typer.Option(help="File with the admin's password; a trailing newline is dropped.")],
    provider_id: Annotated[str, typer.Option(help="Label of the connection, such as okta.")],
    plan: Annotated[
        Literal["free", "enterprise"] | None, typer.Option(help="Plan; a new organization gets enterprise.")
    ] = None,
    rotate_token: Annotated[bool, typer.Option("--rotate-token", help="Issue one more token.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Make an organization, its admin and a connection with a token; running it again changes nothing.

    The token is printed when it is issued, and never again. Settings: DATABASE_URL (the owner's), TOKEN_PEPPER.
    """
    settings = load(BootstrapSettings)
    password = _read_password(password_file)
    wanted = Wanted(organization, email, password, provider_id, plan, rotate_token)
    done = asyncio.run(_bootstrap(settings, wanted))
    _print_json(done) if as_json else _print_bootstrapped(done)


OrganizationId = Annotated[UUID, typer.Option("--organization", help="Id of the organization.")]


@schema_app.command("add")
def schema_add(
    file: Annotated[Path, typer.Argument(help="JSON file with one Schema resource (RFC 7643 section 7).")],
    organization: OrganizationId,
    resource_type: Annotated[Literal["User", "Group"], typer.Option(help="What it extends.")] = "User",
) -> None:
    """Add a schema to an organization, or attributes to a schema that is there.

    Clients see it within a second, in /Schemas too. Settings: DATABASE_URL (the owner's).
    """
    document = _read_json(file)
    added = asyncio.run(
        _in_database(lambda db: schemas.add(db, organization, resource_type, document, datetime.now(UTC)))
    )
    console.print(f"{resource_type}s have [bold]{escape(added.id)}[/bold] with {len(added.attributes)} attributes.")


@schema_app.command("list")
def schema_list(organization: OrganizationId, as_json: Annotated[bool, typer.Option("--json")] = False) -> None:
    """Print the schemas of an organization. Settings: DATABASE_URL (the owner's)."""
    rows = asyncio.run(_in_database(lambda db: schemas.listed(db, organization)))
    if as_json:
        print(json.dumps([{"resourceType": row.resource_type, "schema": row.document} for row in rows]))
        return
    for row in rows:
        names = ", ".join(attribute["name"] for attribute in row.document["attributes"])
        console.print(f"{row.resource_type:<6} [bold]{escape(row.urn)}[/bold]: {escape(names)}", soft_wrap=True)


@schema_app.command("remove")
def schema_remove(
    urn: Annotated[str, typer.Argument(help="URN of the schema.")],
    organization: OrganizationId,
) -> None:
    """Remove a schema that no user and no group has values of. Settings: DATABASE_URL (the owner's)."""
    asyncio.run(_in_database(lambda db: schemas.remove(db, organization, urn)))
    console.print(f"[bold]{escape(urn)}[/bold] is removed.")


def explain(error: Exception) -> Failure:
    """What to tell the operator; no text of a driver that could hold a password or a row."""
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
        case KafkaError():
            return Failure(f"Kafka: cannot reach a broker at KAFKA_BOOTSTRAP ({type(error).__name__})")
        case DBAPIError() | OSError() | asyncpg.PostgresError() | asyncpg.InterfaceError():
            return _explain_postgres(root_of(error))
        case _:
            return Failure(f"unexpected {type(error).__name__}; run again with LOG_LEVEL=DEBUG to see where")


def _keep_output_clean() -> None:
    """Logs go to standard error; a warning is no news here, for the problem itself is printed."""
    level = logging.getLevelNamesMapping().get(os.environ.get("LOG_LEVEL", "").upper(), logging.ERROR)
    logging.basicConfig(level=max(level, logging.CRITICAL) if level > logging.DEBUG else level)
    structlog.configure(
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        wrapper_class=structlog.make_filtering_bound_logger(level),
    )


def _explain_postgres(error: BaseException) -> Failure:
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


def _role_passwords(settings: MigrateSettings) -> list[tuple[directory.Role, SecretStr | None]]:
    return [
        (directory.Role.GATEWAY, settings.gateway_db_password),
        (directory.Role.PROVISIONER, settings.provisioner_db_password),
        (directory.Role.ADMIN, settings.admin_db_password),
    ]


def _read_password(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").rstrip("\r\n")
    except OSError as error:
        raise Failure(f"cannot read the password file {path}: {error.strerror}", 2) from error
    except UnicodeDecodeError as error:
        raise Failure(f"the password file {path} is not UTF-8 text", 2) from error


def _read_json(path: Path) -> Any:
    try:
        return strictjson.loads(path.read_bytes())
    except OSError as error:
        raise Failure(f"cannot read {path}: {error.strerror}", 2) from error
    except ScimError as error:
        raise Failure(f"{path} is not JSON: {error.detail}", 2) from error


async def _in_database[T](work: Callable[[AsyncSession], Awaitable[T]]) -> T:
    """The result of `work` in one transaction, as the schema's owner."""
    dsn = load(DatabaseSettings).database_url.get_secret_value()
    async with open_engine(dsn, pool_size=1) as engine, transactions(engine)() as db:
        return await work(db)


async def _bootstrap(settings: BootstrapSettings, wanted: Wanted) -> Bootstrapped:
    dsn = settings.database_url.get_secret_value()
    async with open_engine(dsn, pool_size=1) as engine, transactions(engine)() as db:
        return await bootstrap(db, wanted, settings.pepper(), datetime.now(UTC))


def _print_topics(report: Report) -> None:
    for name in report.created:
        console.print(f"Created [bold]{name}[/bold].")
    for name in report.existing:
        console.print(f"{name} exists.")
    for deviation in report.deviations:
        console.print(f"[yellow]Left as it is:[/yellow] {deviation}")


def _print_json(done: Bootstrapped) -> None:
    document: dict[str, Any] = {
        "organizationId": str(done.organization_id),
        "adminEmail": done.admin_email,
        "connectionId": str(done.connection_id),
        "scimToken": done.scim_token,
    }
    print(json.dumps(document))


def _print_bootstrapped(done: Bootstrapped) -> None:
    rows = {
        "organization": str(done.organization_id),
        "admin": done.admin_email,
        "connection": str(done.connection_id),
        "SCIM token": done.scim_token or "was issued before; --rotate-token issues one more",
    }
    for label, value in rows.items():
        console.print(f"[bold]{label:<14}[/bold]{escape(value)}", soft_wrap=True)
    if done.scim_token:
        console.print("\nCopy the token now: it is not shown again.")
