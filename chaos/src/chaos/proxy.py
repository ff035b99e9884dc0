"""A TCP proxy that misbehaves on request: latency, throttling, silence one way or both, resets, half-open connections.

Silence holds bytes back instead of dropping them: that is what TCP shows to its users when packets are lost for a
while.
"""

import asyncio
import socket
import struct
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum

from devstack.ports import HOST

CHUNK = 64 * 1024  # bytes
ABORT = struct.pack("ii", 1, 0)  # linger for no time: closing sends RST


class Way(StrEnum):
    """The direction of bytes, seen from who connects."""

    THERE = "there"
    BACK = "back"


@dataclass(slots=True)
class Quality:
    """How one direction behaves now."""

    delay: float = 0.0
    """Seconds for each chunk."""
    rate: float = 0.0
    """Bytes a second; 0: as fast as it goes."""
    open: asyncio.Event = field(default_factory=asyncio.Event)
    """Not set: silent."""

    async def hold(self, size: int) -> None:
        if seconds := self.delay + (size / self.rate if self.rate else 0.0):
            await asyncio.sleep(seconds)
        await self.open.wait()


@dataclass(slots=True, eq=False)
class Pair:
    """One proxied connection; `tasks` are its two directions."""

    near: asyncio.StreamWriter
    far: asyncio.StreamWriter
    tasks: list[asyncio.Task[None]] = field(default_factory=list)


class Proxy:
    """Listens on `port`, forwards to `target`; `async with` opens and closes it.

    `distance` is its latency in seconds when it behaves, each way.
    """

    def __init__(self, name: str, port: int, target: int, distance: float = 0.0) -> None:
        self.name = name
        self._distance = distance
        self.port = port
        self._target = target
        self._ways = {way: Quality() for way in Way}
        self._pairs: set[Pair] = set()
        self._forgotten: list[asyncio.StreamWriter] = []
        self._server: asyncio.Server | None = None
        self.heal()

    async def __aenter__(self) -> "Proxy":
        self._server = await asyncio.start_server(self._accept, HOST, self.port)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for pair in list(self._pairs):
            for task in pair.tasks:
                task.cancel()
            close(pair.near)
            close(pair.far)
        for writer in self._forgotten:
            abort(writer)

    def heal(self) -> None:
        """Behave, from now on."""
        for quality in self._ways.values():
            quality.delay, quality.rate = self._distance, 0.0
            quality.open.set()

    def silence(self, *ways: Way) -> None:
        for way in ways:
            self._ways[way].open.clear()

    def slow(self, delay: float) -> None:
        for quality in self._ways.values():
            quality.delay = delay

    def throttle(self, rate: float) -> None:
        for quality in self._ways.values():
            quality.rate = rate

    def reset(self) -> None:
        """Break all connections with RST."""
        for pair in list(self._pairs):
            abort(pair.near)
            abort(pair.far)

    def half_open(self) -> None:
        """Forget all connections as a firewall does: the server's end is gone, the client's end is never told."""
        for pair in list(self._pairs):
            for task in pair.tasks:
                task.cancel()
            abort(pair.far)
            self._forgotten.append(pair.near)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection(HOST, self._target)
        except OSError:
            abort(writer)
            return
        pair = Pair(writer, far_writer)
        self._pairs.add(pair)
        pair.tasks = [
            asyncio.create_task(self._forward(pair, reader, far_writer, Way.THERE)),
            asyncio.create_task(self._forward(pair, far_reader, writer, Way.BACK)),
        ]
        await asyncio.gather(*pair.tasks, return_exceptions=True)
        self._pairs.discard(pair)

    async def _forward(self, pair: Pair, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: Way) -> None:
        """Forward until either end closes; then both are closed."""
        try:
            while chunk := await reader.read(CHUNK):
                await self._ways[way].hold(len(chunk))
                writer.write(chunk)
                await writer.drain()
            await self._ways[way].open.wait()
        except OSError:
            abort(pair.near)
            abort(pair.far)
        else:
            close(pair.near)
            close(pair.far)


def close(writer: asyncio.StreamWriter) -> None:
    with suppress(OSError, RuntimeError):
        writer.close()


def abort(writer: asyncio.StreamWriter) -> None:
    """Close with RST instead of FIN."""
    with suppress(OSError, RuntimeError):
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORT)
        writer.transport.abort()
