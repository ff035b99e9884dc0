"""`make threats`: each row of the threat model has a test, or a reason why not."""

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "threats"


def threats(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, SCRIPT, *arguments], capture_output=True, text=True, check=False)


def test_each_row_of_the_threat_model_has_a_test_or_a_reason() -> None:
    done = threats()

    assert done.returncode == 0, done.stdout


def test_a_row_without_a_test_and_a_test_without_a_row_are_found(tmp_path: Path) -> None:
    others = "".join(f"def test_t{row:02}_x(): ...\n" for row in range(1, 69) if row != 7)
    (tmp_path / "test_most.py").write_text(others)
    assert threats(str(tmp_path)).returncode == 1

    (tmp_path / "test_rest.py").write_text("    async def test_p9_t07_t32_y(self): ...\n")
    complete = threats(str(tmp_path))
    assert complete.returncode == 0, complete.stdout
    assert "test_rest.py::test_p9_t07_t32_y" in complete.stdout

    (tmp_path / "test_more.py").write_text("def test_t69_z(): ...\n")
    assert threats(str(tmp_path)).returncode == 1
