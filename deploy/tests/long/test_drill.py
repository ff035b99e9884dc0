"""What docs/runbooks/restore-from-backup.md says, done: `make drill`."""

import sys

import pytest

from deployments import run

pytestmark = [pytest.mark.long, pytest.mark.timeout(1200)]


def test_a_destroyed_postgres_is_restored_and_the_log_replays_the_rest() -> None:
    said = run(sys.executable, "deploy/drill.py", timeout=1200)

    assert "nothing acknowledged is lost" in said
