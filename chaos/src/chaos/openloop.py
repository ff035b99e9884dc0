"""A load generator that does not wait for answers: requests start when they are due, however long others take.

It speaks the little HTTP that it needs over sockets of its own: a full client would cost more than the server does.
"""

import asyncio
import itertools
import json
import math
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, cast

TICK = 0.002  # seconds between two looks at what is due
PATIENCE = 30.0  # seconds; above the gateway's deadline
# Sockets of one client, as a proxy before the server would bound them. What is due beyond them waits, which counts.
MAX_LINES = 400


@dataclass(frozen=True, slots=True)
class Answer:
    """`seconds` are counted from when the request was due; `status` 0 is no answer."""

    due: float
    seconds: float
    status: int
    retry_after: int | None = None
    text: str = ""

    @property
    def is_success(self) -> bool:
        return 200 <= self.status < 300

    @property
    def ended(self) -> float:
        return self.due + self.seconds


class Line(asyncio.Protocol):
    """One socket, one request at a time."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._received = b""
        self._waiting: asyncio.Future[tuple[int, int | None, bytes]] | None = None

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is of no such class

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._waiting and not self._waiting.done():
            self._waiting.set_exception(exc or ConnectionResetError())

    async def ask(self, request: bytes) -> tuple[int, int | None, bytes]:
        """Status, Retry-After and body. Raises OSError."""
        if self._transport is None:
            raise ConnectionResetError
        self._received = b""
        self._waiting = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._waiting

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, found, body = self._received.partition(b"\r\n\r\n")
        if not found or self._waiting is None or self._waiting.done():
            return
        fields = dict(line.lower().split(b":", 1) for line in head.split(b"\r\n")[1:])
        if len(body) >= int(fields.get(b"content-length", b"0")):
            retry_after = fields.get(b"retry-after")
            self._waiting.set_result((int(head[9:12]), int(retry_after) if retry_after else None, body))

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


class Client:
    """One connection, in SCIM's sense, of a server at `host`:`port`; opens sockets as needed, up to MAX_LINES."""

    def __init__(self, host: str, port: int, path: str, token: str) -> None:
        self._address = host, port
        self._path = path
        self._head = (
            f"Host: {host}:{port}\r\nAuthorization: Bearer {token}\r\nContent-Type: application/scim+json\r\n"
        ).encode()
        self._free: deque[Line] = deque()
        self._lines = 0
        self._turns: deque[asyncio.Future[None]] = deque()

    async def send(self, method: str, path: str, body: Any = None, *, due: float | None = None) -> Answer:
        """The answer; no answer within PATIENCE, or a lost socket, is status 0."""
        loop = asyncio.get_running_loop()
        due = loop.time() if due is None else due
        payload = json.dumps(body).encode() if body is not None else b""
        request = b"%s %s HTTP/1.1\r\n%sContent-Length: %d\r\n\r\n%s" % (
            *(method.encode(), (self._path + path).encode(), self._head, len(payload), payload),
        )
        status, retry_after, answer = 0, None, b""
        try:
            async with asyncio.timeout(PATIENCE):
                status, retry_after, answer = await self._ask(request)
        except (OSError, TimeoutError):
            pass
        return Answer(due, loop.time() - due, status, retry_after, answer.decode())

    async def close(self) -> None:
        for line in self._free:
            line.close()

    async def _ask(self, request: bytes) -> tuple[int, int | None, bytes]:
        line = await self._line()
        is_answered = False
        try:
            answer = await line.ask(request)
            is_answered = True
            return answer
        finally:
            if is_answered and line.is_open:
                self._free.append(line)
            else:  # an answer that comes later must not be taken for the next one's
                line.close()
                self._lines -= 1
            if self._turns:
                turn = self._turns.popleft()
                if not turn.done():
                    turn.set_result(None)

    async def _line(self) -> Line:
        while True:
            while self._free:
                line = self._free.pop()
                if line.is_open:
                    return line
                self._lines -= 1
            if self._lines < MAX_LINES:
                break
            turn = asyncio.get_running_loop().create_future()
            self._turns.append(turn)
            await turn
        self._lines += 1
        try:
            _, line = await asyncio.get_running_loop().create_connection(Line, *self._address)
        except OSError:
            self._lines -= 1
            raise
        return line


type Request = Callable[[float], Coroutine[Any, Any, Answer]]
"""Sends one request that was due at a time of the event loop."""


async def open_loop(request: Request, rate: float, seconds: float) -> list[Answer]:
    """The answers to `rate` requests a second, evenly spaced, whatever becomes of them; waits for the last one."""
    loop = asyncio.get_running_loop()
    started = loop.time()
    tasks: list[asyncio.Task[Answer]] = []
    number = int(rate * seconds)
    while len(tasks) < number:
        due = min(number, int((loop.time() - started) * rate) + 1)
        tasks += [asyncio.create_task(request(started + each / rate)) for each in range(len(tasks), due)]
        await asyncio.sleep(TICK)
    return await asyncio.gather(*tasks)


async def closed_loop(request: Request, workers: int, seconds: float) -> list[Answer]:
    """The answers that so many workers get, each of which waits for one before it asks again."""
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    answers: list[Answer] = []

    async def work() -> None:
        while (now := loop.time()) < end:
            answers.append(await request(now))

    await asyncio.gather(*(work() for _ in range(workers)))
    return answers


def in_turn[T](*choices: T) -> Callable[[], T]:
    """Each of the choices, over and over."""
    return itertools.cycle(choices).__next__


def percentile(values: list[float], share: float) -> float:
    """The smallest value that so large a share of them does not exceed; 0 of none."""
    ordered = sorted(values)
    return ordered[math.ceil(len(ordered) * share) - 1] if ordered else 0.0
