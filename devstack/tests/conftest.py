import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from devstack.users import remove_linked


@pytest.fixture
def folder() -> Iterator[Path]:
    """An empty folder that every user may enter, which pytest's own is not."""
    folder = Path(tempfile.mkdtemp(prefix="devstack-test-"))
    folder.chmod(0o711)
    yield folder
    remove_linked(folder / "postgres")
    shutil.rmtree(folder)
