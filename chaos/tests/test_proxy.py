"""The fault proxy itself: what its clients see of each fault."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from chaos.proxy import Proxy, Way
from devstack.ports import HOST, free_port

SOON = 0.3  # seconds within which an echo comes unless it is held back


class Echo:
    """A server that answers with what it got, and remembers it."""

    def __init__(self) -> None:
        self.heard = b""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while chunk := await reader.read(1000):
                self.heard += chunk
                writer.write(chunk)
        except OSError:
            pass
        finally:
            writer.close()


@pytest.fixture
async def echo() -> AsyncIterator[tuple[Proxy, Echo]]:
    """An echo server behind a proxy."""
    port, server = free_port(), Echo()
    async with await asyncio.start_server(server.serve, HOST, port), Proxy("test", free_port(), port) as proxy:
        yield proxy, server


async def connect(proxy: Proxy) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection through the proxy that has proved to work."""
    reader, writer = await asyncio.open_connection(HOST, proxy.port)
    writer.write(b"hello")
    assert await asyncio.wait_for(reader.readexactly(5), 5) == b"hello"
    return reader, writer


async def is_silent(reader: asyncio.StreamReader) -> bool:
    try:
        await asyncio.wait_for(reader.readexactly(1), SOON)
    except TimeoutError:
        return True
    return False


async def test_latency_is_added_both_ways(echo: tuple[Proxy, Echo]):
    reader, writer = await connect(echo[0])
    echo[0].slow(0.1)
    began = time.monotonic()

    writer.write(b"x")
    await reader.readexactly(1)

    assert 0.2 <= time.monotonic() - began < 2


async def test_throttling_takes_as_long_as_the_bytes_need(echo: tuple[Proxy, Echo]):
    reader, writer = await connect(echo[0])
    echo[0].throttle(10_000)
    began = time.monotonic()

    writer.write(b"x" * 1000)
    await reader.readexactly(1000)

    assert 0.2 <= time.monotonic() - began < 2


@pytest.mark.parametrize(("way", "heard"), [(Way.THERE, b"hello"), (Way.BACK, b"hellox")])
async def test_silence_one_way_holds_back_that_way_only_until_it_is_healed(
    echo: tuple[Proxy, Echo], way: Way, heard: bytes
):
    proxy, server = echo
    reader, writer = await connect(proxy)
    proxy.silence(way)

    writer.write(b"x")

    assert await is_silent(reader)
    assert server.heard == heard
    proxy.heal()
    assert await asyncio.wait_for(reader.readexactly(1), 5) == b"x"


async def test_a_reset_is_seen_at_once(echo: tuple[Proxy, Echo]):
    reader, _ = await connect(echo[0])

    echo[0].reset()

    with pytest.raises(ConnectionResetError):
        await asyncio.wait_for(reader.read(1), 5)


async def test_a_half_open_connection_is_silent_and_a_new_one_works(echo: tuple[Proxy, Echo]):
    reader, writer = await connect(echo[0])

    echo[0].half_open()
    writer.write(b"x")

    assert await is_silent(reader)
    await connect(echo[0])


async def test_without_a_server_behind_it_connections_are_reset():
    async with Proxy("test", free_port(), free_port()) as proxy:
        reader, _ = await asyncio.open_connection(HOST, proxy.port)
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(reader.read(1), 5)
