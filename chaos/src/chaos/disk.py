"""Small disks that can be filled: a tmpfs for each data folder, in a mount namespace that ends with this process."""

import ctypes
import os
import subprocess
from pathlib import Path

SIZE = "700m"
MS_REC, MS_PRIVATE = 0x4000, 0x40000


def separate() -> bool:
    """Give this process mounts of its own; False where that is not allowed (not root, or a strict container)."""
    try:
        os.unshare(os.CLONE_NEWNS)
    except OSError:
        return False
    # Nothing that is mounted from now on is seen outside.
    libc = ctypes.CDLL(None, use_errno=True)
    return libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None) == 0


class Disk:
    """A small file system at `folder`."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        folder.chmod(0o711)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE},mode=0711", "none", str(folder)], check=True)
        self._ballast = folder / "ballast"

    def fill(self) -> None:
        """Leave no byte free."""
        free = os.statvfs(self._ballast.parent)
        with self._ballast.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, free.f_bavail * free.f_frsize)

    def clear(self) -> None:
        self._ballast.unlink(missing_ok=True)
