import os
import subprocess
import sys
from pathlib import Path

import pytest

from devstack import StartError, jars

COORDINATE = "org.slf4j:slf4j-api:1.7.36"
REPOSITORY_PATH = "org/slf4j/slf4j-api/1.7.36/slf4j-api-1.7.36.jar"


def put_into_maven_folder(folder: Path, content: bytes) -> None:
    jar = folder / REPOSITORY_PATH
    jar.parent.mkdir(parents=True)
    jar.write_bytes(content)


def test_a_jar_that_is_not_the_locked_one_is_refused(tmp_path: Path):
    put_into_maven_folder(tmp_path / "maven", b"something else")

    with pytest.raises(StartError, match=r"slf4j-api:.* is not the file we know"):
        jars.download({COORDINATE: jars.read_lock()[COORDINATE]}, tmp_path, jars.maven(tmp_path / "maven"))


def test_the_lock_names_the_pinned_versions():
    assert set(jars.PINS) <= set(jars.read_lock())


def test_a_failed_download_is_one_line_and_leaves_nothing_half_made(tmp_path: Path):
    nowhere = {"HTTPS_PROXY": "http://127.0.0.1:1", "NO_PROXY": "", "no_proxy": "", "XDG_CACHE_HOME": str(tmp_path)}

    fetching = subprocess.run(
        [sys.executable, "-m", "devstack", "jars"],
        env={**os.environ, **nowhere},
        capture_output=True,
        text=True,
        check=False,
    )

    assert fetching.returncode == 1
    assert fetching.stdout.startswith("cannot download Kafka (ProxyError): check the network")
    assert fetching.stdout.count("\n") == 1
    assert fetching.stderr == ""
    assert [path.suffix for path in (tmp_path / "directory-sync").iterdir()] == [".lock"]
