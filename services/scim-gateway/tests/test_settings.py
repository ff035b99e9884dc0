"""The process's settings: what is missing is said in one line each."""

import os
import subprocess
import sys
from pathlib import Path

COMMAND = Path(sys.executable).parent / "scim-gateway"


def test_missing_settings_are_named_and_the_exit_code_is_2():
    environment = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG")}
    ended = subprocess.run([COMMAND], env=environment, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 2
    for name in ("GATEWAY_DATABASE_URL", "KAFKA_BOOTSTRAP", "TOKEN_PEPPER"):
        assert f"{name}: is not set" in ended.stderr
    assert "Traceback" not in ended.stderr
