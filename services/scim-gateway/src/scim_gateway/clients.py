"""Where a request comes from: the peer's address, or what a proxy that we trust says about it."""

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from starlette.types import Scope

type Address = IPv4Address | IPv6Address
type Network = IPv4Network | IPv6Network

# Some proxies add the port (Azure's Application Gateway does).
_WITH_PORT = re.compile(r"(?:\[(?P<bracketed>[^\]]*)\]|(?P<plain>[^:]*))(?::[0-9]{1,5})?")


def client_address(scope: Scope, trusted: Sequence[Network]) -> Address | None:
    """The client's address: the peer's, or behind trusted proxies the last hop of `X-Forwarded-For` that is not one.

    What stands before that hop is the client's own claim. None when there is no address to be read, such as an
    "unknown" in the header.
    """
    peer = scope.get("client")
    address = _address(peer[0]) if peer else None
    if not trusted or address is None or not is_within(address, trusted):
        return address
    for hop in reversed(list(_hops(scope["headers"]))):
        address = _address(hop)
        if address is None or not is_within(address, trusted):
            break
    return address


def is_within(address: Address | None, networks: Iterable[Network]) -> bool:
    """Whether one of the networks holds the address."""
    return address is not None and any(address in network for network in networks)


def _hops(headers: Iterable[tuple[bytes, bytes]]) -> Iterable[str]:
    for name, value in headers:
        if name == b"x-forwarded-for":
            yield from value.decode("latin-1").split(",")


@lru_cache(1024)
def _address(text: str) -> Address | None:
    """The address; one of IPv4 that came over an IPv6 socket is the IPv4 address."""
    text = text.strip()
    match = _WITH_PORT.fullmatch(text)
    try:
        address = ip_address((match["bracketed"] or match["plain"]) if match else text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
