"""Kafka's jars: exactly those of `kafka-jars.txt`, fetched by jgo, checked, and kept in the cache folder.

    python -m devstack jars          fetch what is missing, with a line of progress now and then
    python -m devstack jars lock     resolve PINS again and rewrite kafka-jars.txt

It runs as a process of its own, so that Ctrl-C ends a download at once.
"""

import hashlib
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from devstack.cache import cache_folder, locked
from devstack.errors import StartError

if TYPE_CHECKING:
    from jgo.maven import Artifact, MavenContext

LOCK_FILE = Path(__file__).parent / "kafka-jars.txt"
# kafka-clients is named because the resolver picks an old one otherwise; the log4j pair is what Kafka logs through.
PINS = (
    "org.apache.kafka:kafka_2.13:4.3.1",
    "org.apache.kafka:kafka-clients:4.3.1",
    "org.apache.logging.log4j:log4j-slf4j-impl:2.25.5",
    "org.apache.logging.log4j:log4j-core:2.25.5",
)
DOWNLOADS_AT_ONCE = 4
TIMEOUT_SECONDS = 60


def jars_folder() -> Path:
    """Where the jars of the present lock file are, or will be; a folder there is complete."""
    return cache_folder() / f"kafka-{hashlib.sha256(LOCK_FILE.read_bytes()).hexdigest()[:12]}"


def fetch() -> None:
    folder = jars_folder()
    with locked(folder.with_name(f"{folder.name}.lock")):
        if folder.exists():
            return
        # Moved into place whole: a folder that is there is complete, however the last try ended.
        for left_over in folder.parent.glob(f"{folder.name}-download-*"):
            shutil.rmtree(left_over)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f"{folder.name}-download-") as work:
            complete = Path(work) / "jars"
            complete.mkdir()
            download(read_lock(), complete, maven(Path(work) / "maven"))
            complete.rename(folder)


def download(jars: dict[str, str], folder: Path, context: "MavenContext") -> None:
    """Put each jar (coordinate -> SHA-256) into `folder`; `StartError` when one is not the file we know."""

    def put(coordinate: str) -> None:
        jar = artifact(context, coordinate).resolve()
        if sha256(jar) != jars[coordinate]:
            raise StartError(f"the download of {coordinate} is not the file we know (its SHA-256 differs): try again")
        jar.rename(folder / jar.name)

    with ThreadPoolExecutor(DOWNLOADS_AT_ONCE) as pool:
        list(pool.map(put, jars))


def lock() -> None:
    """Resolve PINS with everything they need and write LOCK_FILE."""
    from jgo.parse import Coordinate

    with tempfile.TemporaryDirectory() as work:
        context = maven(Path(work))
        pins, others = context.resolver.resolve([context.create_dependency(Coordinate.parse(pin)) for pin in PINS])
        artifacts = [dependency.artifact for dependency in (*pins, *others)]
        lines = sorted(f"{a.groupId}:{a.artifactId}:{a.version} {sha256(a.resolve())}" for a in artifacts)
    LOCK_FILE.write_text("\n".join(lines) + "\n")


def read_lock() -> dict[str, str]:
    """Coordinate -> SHA-256 of every jar that the broker needs."""
    return dict(line.split() for line in LOCK_FILE.read_text().splitlines())


class Progress:
    """jgo's progress callback: adds the downloads up and prints the sum every few seconds."""

    interval_seconds = 3.0

    def __init__(self) -> None:
        self.bytes = 0
        self.printed_at = time.monotonic()

    @contextmanager
    def __call__(self, name: str, size: int) -> Iterator[Callable[[int], None]]:
        yield self.add

    def add(self, count: int) -> None:
        self.bytes += count
        if time.monotonic() - self.printed_at > self.interval_seconds:
            self.printed_at = time.monotonic()
            print(f"{self.bytes / 1e6:.0f} MB of about 45 MB", flush=True)


def maven(folder: Path) -> "MavenContext":
    # Imported here: it takes half a second that a start without a download need not spend.
    from jgo.maven import MavenContext, PythonResolver

    logging.getLogger("jgo").setLevel(logging.ERROR)
    return MavenContext(
        resolver=PythonResolver(progress_callback=Progress()), repo_cache=folder, timeout=TIMEOUT_SECONDS
    )


def artifact(context: "MavenContext", coordinate: str) -> "Artifact":
    group, name, version = coordinate.split(":")
    return context.project(group, name).at_version(version).artifact()


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def main(arguments: list[str]) -> int:
    import requests

    # requests looks for certificate authorities in its own variable only.
    if authorities := os.environ.get("SSL_CERT_FILE"):
        os.environ.setdefault("REQUESTS_CA_BUNDLE", authorities)
    try:
        lock() if arguments == ["lock"] else fetch()
    except StartError as error:
        print(error)
        return 1
    except (requests.RequestException, RuntimeError) as error:
        print(
            f"cannot download Kafka ({type(error).__name__}): check the network (HTTPS_PROXY names a proxy, "
            "SSL_CERT_FILE certificate authorities) and try again"
        )
        return 1
    except OSError as error:
        print(f"cannot store Kafka's jars in {cache_folder()}: {error.strerror or error}")
        return 1
    return 0
