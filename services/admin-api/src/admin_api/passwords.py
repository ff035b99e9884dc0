"""Passwords: argon2id hashes, computed on a few threads of their own so that the event loop never waits."""

import asyncio
import contextlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from admin_api.errors import Busy

# OWASP's first choice for argon2id: 19 MiB and two passes, about 20 ms of one core.
HASHER = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
# Hashes wanted at the same time, at work and waiting; a second's worth, and below 2 GB if all ran at once.
MAX_WAITING = 32
MIN_LENGTH = 8  # of a new password
MAX_LENGTH = 1024  # of any


class Passwords:
    """Hashes and verifies; raises Busy, without any work, when too many are waiting."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(max(1, min(4, os.cpu_count() or 1)), thread_name_prefix="argon2")
        self._waiting = 0
        # What an account without a password is compared with: nobody knows its text, and it costs the same.
        self._dummy = HASHER.hash(os.urandom(32))

    async def verify(self, password_hash: str | None, password: str) -> bool:
        """Whether the password fits; without a hash the answer is no, at the same cost (threat T46)."""
        fits = await self._run(lambda: verify(password_hash or self._dummy, password))
        return fits and password_hash is not None

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _run[T](self, work: Callable[[], T]) -> T:
        with self._slot():
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    @contextlib.contextmanager
    def _slot(self) -> Iterator[None]:
        if self._waiting >= MAX_WAITING:
            raise Busy("too many sign-ins at the moment; try again in a second", retry_after=1)
        self._waiting += 1
        try:
            yield
        finally:
            self._waiting -= 1


def hash_password(password: str) -> str:
    """A new hash; blocks for as long as one verification takes."""
    return HASHER.hash(password)


def verify(password_hash: str, password: str) -> bool:
    """Whether the password fits the hash; blocks."""
    try:
        return HASHER.verify(password_hash, password)
    except (VerificationError, InvalidHashError):
        return False
