"""Serving an ASGI application with granian inside this process, so that killing the process ends its answering."""

import asyncio
import logging
import resource
import socket
from collections.abc import Callable
from typing import Any

import structlog
from granian.constants import Interfaces
from granian.http import HTTP1Settings
from granian.server.embed import Server

from servicekit.lifecycle import StartupError

log = structlog.get_logger()

HEADER_BUFFER = 16 * 1024  # bytes of request line and headers; more is answered 431 by the server
HEADER_READ_TIMEOUT = 10_000  # milliseconds a client may take to send its headers
# Sockets served at a time, idle ones included: those beyond wait until one is closed, 10 seconds when all are idle.
MAX_SOCKETS = 4096
SPARE_FILES = 256  # descriptors for everything else


class PortInUse(StartupError):
    """Another process listens there."""


def check_port(host: str, port: int) -> None:
    """Raise PortInUse with a sentence that helps; the server itself would only print a traceback."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise PortInUse(f"cannot listen on {host}:{port}: {error.strerror}; choose another port") from error


def allow_sockets(wanted: int) -> int:
    """How many sockets, at most `wanted`, the process may have open, after raising its own limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY:
        wanted = max(1, min(wanted, hard - SPARE_FILES))
    if soft != resource.RLIM_INFINITY and soft < wanted + SPARE_FILES:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted + SPARE_FILES, hard))
    return wanted


async def serve(
    app: Any,
    host: str,
    port: int,
    stopping: asyncio.Event,
    *,
    on_drain: Callable[[], None] | None = None,
    drain_seconds: float = 0.0,
) -> None:
    """Serve until `stopping`; then call `on_drain`, keep answering for `drain_seconds` (so that load balancers notice
    the readiness probe), stop accepting, let requests in flight end, return.

    Raises PortInUse before anything is served.
    """
    check_port(host, port)
    logging.getLogger("_granian").setLevel(logging.ERROR)
    logging.getLogger("granian").setLevel(logging.ERROR)
    server = Server(
        app,
        address=host,
        port=port,
        interface=Interfaces.ASGI,
        http1_settings=HTTP1Settings(header_read_timeout=HEADER_READ_TIMEOUT, max_buffer_size=HEADER_BUFFER),
        websockets=False,
        backlog=MAX_SOCKETS,  # a queue that is full costs a newcomer a second or three: its SYN is dropped
        backpressure=allow_sockets(MAX_SOCKETS),
        log_enabled=False,
    )
    serving = asyncio.create_task(server.serve())
    stop_asked = asyncio.create_task(stopping.wait())
    await asyncio.wait({serving, stop_asked}, return_when=asyncio.FIRST_COMPLETED)
    if stop_asked.done():
        if on_drain:
            on_drain()
        await asyncio.sleep(drain_seconds)
        server.stop()
    stop_asked.cancel()
    await serving
