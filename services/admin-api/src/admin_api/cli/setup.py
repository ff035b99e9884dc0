"""The commands before and beside the services: the database, the topics, the first organization."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.markup import escape

from admin_api.cli.frame import AsJson, Failure, console, print_json
from admin_api.settings import BootstrapSettings, MigrateSettings, TopicsSettings
from servicekit.settings import load

if TYPE_CHECKING:
    from pydantic import SecretStr

    from admin_api.bootstrap import Bootstrapped, Wanted
    from admin_api.topics import Report
    from directory import Role

app = typer.Typer()


@app.command()
def migrate() -> None:
    """Bring the database to the newest revision, and give the services' roles their passwords.

    Settings: DATABASE_URL (the owner's), GATEWAY_DB_PASSWORD, PROVISIONER_DB_PASSWORD, ADMIN_DB_PASSWORD.
    """
    import directory

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
    from admin_api.topics import create_topics
    from contracts import TOPICS

    settings = load(TopicsSettings)
    report = asyncio.run(create_topics(settings.kafka(), TOPICS, settings.kafka_replication_factor))
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
    as_json: AsJson = False,
) -> None:
    """Make an organization, its admin and a connection with a token; running it again changes nothing.

    The token is printed when it is issued, and never again. Settings: DATABASE_URL (the owner's), TOKEN_PEPPER.
    """
    from admin_api.bootstrap import Wanted

    settings = load(BootstrapSettings)
    password = _read_password(password_file)
    wanted = Wanted(organization, email, password, provider_id, plan, rotate_token)
    done = asyncio.run(_bootstrap(settings, wanted))
    _print_json(done) if as_json else _print_bootstrapped(done)


def _role_passwords(settings: MigrateSettings) -> "list[tuple[Role, SecretStr | None]]":
    from directory import Role

    return [
        (Role.GATEWAY, settings.gateway_db_password),
        (Role.PROVISIONER, settings.provisioner_db_password),
        (Role.ADMIN, settings.admin_db_password),
    ]


def _read_password(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").rstrip("\r\n")
    except OSError as error:
        raise Failure(f"cannot read the password file {path}: {error.strerror}", 2) from error
    except UnicodeDecodeError as error:
        raise Failure(f"the password file {path} is not UTF-8 text", 2) from error


async def _bootstrap(settings: BootstrapSettings, wanted: "Wanted") -> "Bootstrapped":
    from admin_api.bootstrap import bootstrap
    from admin_api.store.database import open_engine, transactions

    dsn = settings.database_url.get_secret_value()
    async with open_engine(dsn, pool_size=1) as engine, transactions(engine)() as db:
        return await bootstrap(db, wanted, settings.pepper(), datetime.now(UTC))


def _print_topics(report: "Report") -> None:
    for name in report.created:
        console.print(f"Created [bold]{name}[/bold].")
    for name in report.existing:
        console.print(f"{name} exists.")
    for deviation in report.deviations:
        console.print(f"[yellow]Left as it is:[/yellow] {deviation}")


def _print_json(done: "Bootstrapped") -> None:
    print_json(
        {
            "organizationId": done.organization_id,
            "adminEmail": done.admin_email,
            "connectionId": done.connection_id,
            "scimToken": done.scim_token,
        }
    )


def _print_bootstrapped(done: "Bootstrapped") -> None:
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
