"""The proxy's image, with a recorder in the place of the services: what it lets through, and how often."""

import json
import socket
import ssl
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from deployments import VERSION, run
from devstack.ports import free_port

RECORDER = Path(__file__).with_name("recorder.py")
TLS = ("tls_certificate", "tls_key")
BASE = "/api/auth/scim/v2"
SMUGGLED = b"DELETE /api/auth/scim/v2/smuggled?case=%(case)s HTTP/1.1\r\nHost: localhost\r\n\r\n"


@dataclass
class Proxy:
    port: int
    recorder: str  # the container's name
    trusted: ssl.SSLContext

    def send(self, data: bytes) -> bytes:
        """What comes back until the proxy ends the connection or is silent for a second."""
        answer = b""
        with (
            socket.create_connection(("127.0.0.1", self.port), timeout=5) as plain,
            self.trusted.wrap_socket(plain, server_hostname="localhost") as secure,
            suppress(OSError),
        ):
            secure.sendall(data)
            secure.settimeout(1)
            while chunk := secure.recv(65536):
                answer += chunk
        return answer

    def seen(self, case: str) -> list[dict[str, Any]]:
        """The requests of one case that the services would have got, once an honest one behind them is in the log."""
        fence = f"fence-{uuid.uuid4().hex}"
        assert b" 200 " in self.send(request(fence, "GET", "Connection: close\r\n"))
        end = time.monotonic() + 10
        while fence not in (log := run("docker", "logs", self.recorder)):
            assert time.monotonic() < end, "the recorder has not seen an honest request"
            time.sleep(0.05)
        return [record for line in log.splitlines() if case in (record := json.loads(line))["line"]]


@pytest.fixture(scope="module")
def proxy() -> Iterator[Proxy]:
    network, port = f"proxy-test-{uuid.uuid4().hex[:8]}", free_port()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="proxy-")))
        run("deploy/docker/make-secrets", str(folder / "secrets"))
        run("docker", "network", "create", network)
        stack.callback(run, "docker", "network", "rm", network)

        def start(name: str, *arguments: str) -> str:
            container = f"{network}-{name}"
            run("docker", "run", "--detach", "--name", container, "--network", network, "--read-only", *arguments)
            stack.callback(run, "docker", "rm", "--force", container)
            return container

        aliases = ("--network-alias", "scim-gateway", "--network-alias", "admin-api")
        image = f"directory-sync/scim-gateway:{VERSION}"
        # By standard input: the engine may not see this folder.
        recorder = start("recorder", *aliases, image, "python", "-c", RECORDER.read_text())
        start(
            "proxy",
            *("--tmpfs", "/tmp:mode=1777"),
            *(part for name in TLS for part in ("--volume", f"{folder}/secrets/{name}:/run/secrets/{name}:ro")),
            *("--publish", f"127.0.0.1:{port}:8443", f"directory-sync/proxy:{VERSION}"),
        )
        trusted = ssl.create_default_context(cafile=folder / "secrets" / "tls_certificate")
        started = Proxy(port, recorder, trusted)
        wait_until_serving(started)
        yield started


def wait_until_serving(proxy: Proxy) -> None:
    end = time.monotonic() + 30
    while True:
        with suppress(OSError):
            if b" 200 " in proxy.send(request("start", "GET")):
                return
        assert time.monotonic() < end, "the proxy does not serve"
        time.sleep(0.2)


def request(case: str, method: str = "POST", headers: str = "", body: bytes = b"", version: str = "1.1") -> bytes:
    head = f"{method} {BASE}/Users?case={case} HTTP/{version}\r\nHost: localhost\r\n{headers}\r\n"
    return head.encode("latin-1") + body


# A framing that two readers could understand differently, and a body that is a request to one of them. {length} is that
# of everything behind the headers.
AMBIGUOUS = {
    "length_and_chunked": "Content-Length: {length}\r\nTransfer-Encoding: chunked\r\n",
    "chunked_and_length": "Transfer-Encoding: chunked\r\nContent-Length: {length}\r\n",
    "short_length_and_chunked": "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n",
    "two_lengths": "Content-Length: 5\r\nContent-Length: {length}\r\n",
    "list_of_lengths": "Content-Length: 5, {length}\r\n",
    "signed_length": "Content-Length: +5\r\n",
    "negative_length": "Content-Length: -1\r\n",
    "hexadecimal_length": "Content-Length: 0x5\r\n",
    "length_with_a_blank": "Content-Length : 5\r\n",
    "xchunked": "Transfer-Encoding: xchunked\r\n",
    "chunked_twice": "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
    "chunked_and_identity": "Transfer-Encoding: chunked, identity\r\n",
    "identity_and_chunked": "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n",
    "chunked_with_a_blank": "Transfer-Encoding : chunked\r\nContent-Length: {length}\r\n",
    "chunked_with_a_vertical_tab": "Transfer-Encoding:\x0bchunked\r\nContent-Length: {length}\r\n",
    "folded_chunked": "Transfer-Encoding:\r\n chunked\r\nContent-Length: {length}\r\n",
    "folded_into_another": "X-Fold: a\r\n Transfer-Encoding: chunked\r\nContent-Length: {length}\r\n",
    "bare_line_feed": "X-Line: a\nTransfer-Encoding: chunked\nContent-Length: {length}\r\n",
    "bare_carriage_return": "X-Line: a\rTransfer-Encoding: chunked\r\nContent-Length: {length}\r\n",
    "nul_in_a_name": "Transfer-\x00Encoding: chunked\r\nContent-Length: {length}\r\n",
    "quoted_chunked": 'Transfer-Encoding: "chunked"\r\nContent-Length: {length}\r\n',
    "two_hosts": "Host: elsewhere\r\nContent-Length: {length}\r\n",
}
BAD_CHUNKS = {
    "hexadecimal_prefix": b"0x3\r\nabc\r\n0\r\n\r\n",
    "overflowing_size": b"FFFFFFFFFFFFFFFF1\r\nabc\r\n0\r\n\r\n",
    "signed_size": b"+3\r\nabc\r\n0\r\n\r\n",
    "bare_line_feeds": b"3\nabc\n0\n\n",
    "size_and_rubbish": b"3 x\r\nabc\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("name", AMBIGUOUS)
def test_t25_ambiguous_framing_smuggles_nothing_past_the_proxy(proxy: Proxy, name: str) -> None:
    case = f"{name}-{uuid.uuid4().hex}"
    body = b"0\r\n\r\n" + SMUGGLED % {b"case": case.encode()}

    answer = proxy.send(request(case, headers=AMBIGUOUS[name].format(length=len(body)), body=body))

    seen = proxy.seen(case)
    assert len(seen) <= 1
    assert not any("smuggled" in record["line"] for record in seen)
    assert all(names_of(record).count("content-length") <= 1 for record in seen)
    assert not any("transfer-encoding" in names_of(record) for record in seen)
    if not seen:
        assert answer == b"" or answer.split(b" ", 2)[1] in (b"400", b"501")


@pytest.mark.parametrize("name", BAD_CHUNKS)
def test_t25_chunks_that_can_be_read_in_two_ways_smuggle_nothing(proxy: Proxy, name: str) -> None:
    case = f"{name}-{uuid.uuid4().hex}"

    proxy.send(
        request(case, headers="Transfer-Encoding: chunked\r\n", body=BAD_CHUNKS[name] + SMUGGLED % {b"case": b"x"})
    )

    assert len(proxy.seen(case)) <= 1
    assert not [r for r in proxy.seen(case) if "transfer-encoding" in names_of(r)]


def test_t25_an_honest_request_arrives_once_with_its_length(proxy: Proxy) -> None:
    case = uuid.uuid4().hex

    answer = proxy.send(
        request(case, headers="Transfer-Encoding: chunked\r\nConnection: close\r\n", body=b"3\r\nabc\r\n0\r\n\r\n")
    )

    (seen,) = proxy.seen(case)
    assert b" 200 " in answer
    assert (seen["length"], "transfer-encoding" in names_of(seen)) == (3, False)


def test_t25_a_body_that_looks_like_a_request_stays_a_body(proxy: Proxy) -> None:
    case = uuid.uuid4().hex
    body = SMUGGLED % {b"case": case.encode()}

    proxy.send(request(case, "GET", f"Content-Length: {len(body)}\r\n", body))

    assert [record["length"] for record in proxy.seen(case)] == [len(body)]


@pytest.mark.parametrize(
    "target",
    [
        "/api/auth/scim/v2%2fUsers",
        "/api/auth/scim/v2/..%2f..%2fhealth/ready",
        "/api/auth/scim/v2/../../sign-in/email",
        "/api/auth/scim/v2/./Users",
        "/api//auth/scim/v2/Users",
        "/api/auth/scim/v2/Users%00",
        "/api/auth/scim/v2/Users%5c..",
        "/api/auth/scim/v2/Users\\..",
        "/api/auth/scim/v2/%2e%2e/Users",
        "https://elsewhere/api/auth/scim/v2/Users",
    ],
)
def test_t23_a_path_that_can_be_read_in_two_ways_is_refused(proxy: Proxy, target: str) -> None:
    case = uuid.uuid4().hex

    answer = proxy.send(f"GET {target}?case={case} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())

    assert answer.split(b" ", 2)[1] == b"400"
    assert proxy.seen(case) == []
    if target.startswith(f"{BASE}/"):
        assert b"application/scim+json" in answer
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["schemas"] == [
            "urn:ietf:params:scim:api:messages:2.0:Error"
        ]


def test_a_query_may_hold_a_backslash(proxy: Proxy) -> None:
    """Browsers send it as it is."""
    case = uuid.uuid4().hex

    proxy.send(
        f"GET {BASE}/Users?case={case}&filter=a\\b HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
    )

    assert len(proxy.seen(case)) == 1


@pytest.mark.parametrize("path", ["/health/ready", "/health/live", "/metrics", "/api/v1/other", "/api/other", "/x"])
def test_t66_only_the_interfaces_are_reachable(proxy: Proxy, path: str) -> None:
    case = uuid.uuid4().hex

    answer = proxy.send(f"GET {path}?case={case} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())

    assert answer.split(b" ", 2)[1] == b"404"
    assert proxy.seen(case) == []


@pytest.mark.parametrize(
    "path",
    [
        "/api/auth/scim/v2/Users",
        "/api/auth/sign-in/email",
        "/api/auth/scim/generate-token",
        "/api/v1/admin/scim",
        "/admin/scim",
    ],
)
def test_the_interfaces_are_under_one_host(proxy: Proxy, path: str) -> None:
    case = uuid.uuid4().hex
    forged = "X-Forwarded-For: 9.9.9.9\r\nX-Forwarded-Host: elsewhere\r\nForwarded: for=9.9.9.9\r\n"

    answer = proxy.send(
        f"GET {path}?case={case} HTTP/1.1\r\nHost: localhost\r\n{forged}Connection: close\r\n\r\n".encode()
    )

    (seen,) = proxy.seen(case)
    headers = dict(seen["headers"])
    assert b" 200 " in answer
    assert b"Strict-Transport-Security: max-age=" in answer
    assert headers["host"] == "localhost"
    assert "9.9.9.9" not in headers["x-forwarded-for"]
    assert {"x-forwarded-host", "forwarded"}.isdisjoint(headers)


def names_of(record: dict[str, Any]) -> list[str]:
    return [name for name, _ in record["headers"]]
