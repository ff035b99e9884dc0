"""Only the part of the command line that is asked for is imported."""

import subprocess
import sys

import pytest
import typer.main

from admin_api.cli import COMMANDS, GROUPS, new_command_line

# What a migration or the creation of topics has no use for, and what takes longest to import.
UNUSED = ("fastapi", "authlib", "sqlalchemy", "alembic")


def names(first: str | None) -> set[str]:
    return set(typer.main.get_group(new_command_line(first)).commands)


def test_without_a_command_all_of_them_are_there():
    assert names(None) == names("nonsense") == names("--help") == COMMANDS.keys() | GROUPS.keys()


@pytest.mark.parametrize("name", [*COMMANDS, *GROUPS])
def test_a_command_is_where_it_is_looked_for(name):
    assert name in names(name)


def test_setting_up_imports_neither_the_server_nor_the_database():
    code = "import sys; from admin_api.cli import new_command_line; new_command_line('topics'); print(*sys.modules)"
    imported = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert not [module for module in UNUSED if module in imported]
