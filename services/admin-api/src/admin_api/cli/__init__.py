"""`directory-sync`: what operators do before and beside the services.

Exit codes: 0 done, 1 failed, 2 wrong arguments or settings. Results go to standard output, problems to standard error.
"""

import os
import sys
from importlib import import_module
from types import ModuleType

import typer

from admin_api.cli.frame import explain, keep_output_clean

# Each command, or group of commands, by the module that has it. Only that one is imported: all of them take a second.
COMMANDS = {
    "migrate": "setup",
    "topics": "setup",
    "bootstrap": "setup",
    "status": "status",
    "verify": "drift",
    "access-report": "access",
    "preview": "previews",
    "erase": "erasure",
}
GROUPS = {
    "organization": ("organizations", "app"),
    "key": ("keys", "app"),
    "connection": ("connections", "app"),
    "token": ("connections", "token_app"),
    "role": ("roles", "app"),
    "mapping": ("mappings", "app"),
    "schema": ("schema", "app"),
    "quarantine": ("quarantine", "app"),
    "holds": ("holds", "app"),
}


def new_command_line(first: str | None = None) -> typer.Typer:
    """The command line, of which only what `first` names is loaded; all of it when that is no command."""
    app = typer.Typer(
        help="Operate directory sync: migrate the database, create the topics, make the first organization.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        suggest_commands=True,
    )
    is_known = first in COMMANDS or first in GROUPS
    for module in dict.fromkeys(module for name, module in COMMANDS.items() if name == first or not is_known):
        app.add_typer(_module(module).app)
    for name, (module, attribute) in GROUPS.items():
        if name == first or not is_known:
            app.add_typer(getattr(_module(module), attribute), name=name)
    return app


def _module(name: str) -> ModuleType:
    return import_module(f"{__name__}.{name}")


def main() -> None:
    """The console script: a problem is one line on standard error, never a traceback (unless LOG_LEVEL=DEBUG)."""
    keep_output_clean()
    try:
        new_command_line(next(iter(sys.argv[1:]), None))()
    except Exception as error:
        if os.environ.get("LOG_LEVEL", "").upper() == "DEBUG":
            raise
        failure = explain(error)
        print(f"directory-sync: {failure}", file=sys.stderr)
        sys.exit(failure.code)
