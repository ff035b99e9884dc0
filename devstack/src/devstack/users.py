"""Running Postgres as somebody who is not root: it refuses to be root, and files under a 0700 home are out of reach."""

import os
import pwd
import shutil
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from devstack.errors import StartError

# Where root keeps what the unprivileged user must reach when the checkout lies in a private folder.
SHARED_FOLDER = Path("/var/lib/directory-sync")


@dataclass(frozen=True)
class User:
    uid: int
    gid: int

    def as_subprocess_arguments(self) -> dict[str, Any]:
        return {"user": self.uid, "group": self.gid, "extra_groups": []}

    def own(self, path: Path) -> None:
        os.chown(path, self.uid, self.gid)


def unprivileged_user() -> User | None:
    """Whom to run as: `nobody` when we are root, None (ourselves) otherwise."""
    if os.geteuid() != 0:
        return None
    try:
        nobody = pwd.getpwnam("nobody")
    except KeyError as error:
        raise StartError("Postgres does not run as root and there is no user `nobody`: run as another user") from error
    return User(nobody.pw_uid, nobody.pw_gid)


def is_reachable(path: Path) -> bool:
    """Whether users other than the owner may read the existing `path` and enter every folder above it."""
    path = path.resolve()
    return bool(path.stat().st_mode & stat.S_IROTH) and are_enterable(path.parent)


def are_enterable(folder: Path) -> bool:
    """Whether users other than the owner may enter the existing `folder` and every folder above it."""
    folder = folder.resolve()
    return all(parent.stat().st_mode & stat.S_IXOTH for parent in (folder, *folder.parents))


def shared_folder() -> Path:
    try:
        SHARED_FOLDER.mkdir(mode=0o755, parents=True, exist_ok=True)
        SHARED_FOLDER.chmod(0o755)
    except OSError as error:
        raise StartError(f"cannot make {SHARED_FOLDER} for Postgres ({error.strerror}): run as another user") from error
    return SHARED_FOLDER


def remove_linked(link: Path) -> None:
    """Remove a folder, or a link and the folder that it points to; nothing when it is absent."""
    shutil.rmtree(link.resolve(), ignore_errors=True)
    link.unlink(missing_ok=True) if link.is_symlink() else None
