"""TCP ports on 127.0.0.1."""

import asyncio
import secrets
import socket

HOST = "127.0.0.1"

# Below those that Linux gives to outgoing connections, so that none of these takes the port before its server does.
_PORTS = range(10_000, 32_000)


def free_port() -> int:
    """Return a port that nobody listens on; two calls rarely give the same one, in other processes too."""
    return next(port for port in iter(lambda: secrets.choice(_PORTS), None) if is_free(port))


def is_free(port: int) -> bool:
    """Whether a server could listen on `port` now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
            # Binding alone succeeds beside a listener that set SO_REUSEPORT; listening does not.
            probe.listen()
        except OSError:
            return False
    return True


async def is_listening(port: int) -> bool:
    """Whether somebody accepts connections on `port`."""
    try:
        _, writer = await asyncio.open_connection(HOST, port)
    except OSError:
        return False
    writer.close()
    return True
