"""Tests that take minutes run with LONG=1 only; without it they are deselected."""

import os

import pytest


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Only this folder's: other folders' long tests have their own numbers."""
    if os.environ.get("LONG"):
        return
    long = [item for item in items if item.get_closest_marker("long")]
    items[:] = [item for item in items if item not in long]
    config.hook.pytest_deselected(items=long)
