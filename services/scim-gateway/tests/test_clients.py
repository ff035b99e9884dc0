"""Whose address counts, with and without proxies."""

from ipaddress import ip_address, ip_network

import pytest

from scim_gateway.clients import client_address

TRUSTED = (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))


def scope(peer: str | None, *forwarded: str) -> dict:
    headers = [(b"x-forwarded-for", value.encode()) for value in forwarded]
    return {"client": (peer, 1234) if peer else None, "headers": headers}


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        ("198.51.100.7", (), "198.51.100.7"),
        ("198.51.100.7", ("203.0.113.1",), "198.51.100.7"),
        ("10.0.0.1", (), "10.0.0.1"),
        ("10.0.0.1", ("203.0.113.1",), "203.0.113.1"),
        ("10.0.0.1", ("198.51.100.7, 203.0.113.1",), "203.0.113.1"),
        ("10.0.0.1", ("198.51.100.7, 203.0.113.1, 10.9.9.9",), "203.0.113.1"),
        ("10.0.0.1", ("198.51.100.7", "203.0.113.1"), "203.0.113.1"),
        ("10.0.0.1", ("10.1.1.1, 10.2.2.2",), "10.1.1.1"),
        ("10.0.0.1", ("203.0.113.1:5678",), "203.0.113.1"),
        ("10.0.0.1", ("[2001:db8::1]:5678",), "2001:db8::1"),
        ("fd00::1", ("2001:db8::1",), "2001:db8::1"),
        ("::ffff:10.0.0.1", ("::ffff:203.0.113.1",), "203.0.113.1"),
        ("10.0.0.1", ("203.0.113.1, unknown",), None),
        ("10.0.0.1", ("203.0.113.1, ",), None),
        ("10.0.0.1", ("999.1.1.1",), None),
        (None, ("203.0.113.1",), None),
    ],
)
def test_the_client_is_the_last_hop_that_no_trusted_proxy_is(peer, forwarded, address):
    assert client_address(scope(peer, *forwarded), TRUSTED) == (ip_address(address) if address else None)


def test_without_trusted_proxies_the_header_means_nothing():
    assert client_address(scope("10.0.0.1", "203.0.113.1"), ()) == ip_address("10.0.0.1")
