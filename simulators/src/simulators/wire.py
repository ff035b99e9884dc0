"""One provider's HTTP: how it writes requests, how patient it is, and what was measured of it."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, quote_plus

import httpx

from e2e.tls import authorities

SCIM_JSON = "application/scim+json; charset=utf-8"
LOST = "lost"  # instead of a status, when the connection broke or the answer took too long


class PushFailed(Exception):
    """The server refused a request, or its answer never came; the text is what the provider's admin reads."""

    status: int | None = None  # None: there was no answer
    retry_after: float = 0.0  # seconds that the server asked for


class Refused(PushFailed):
    """The server answered, and not with a success."""

    def __init__(self, request: str, response: httpx.Response) -> None:
        super().__init__(f"{response.status_code} on {request}: {_detail(response)}")
        self.status = response.status_code
        asked = response.headers.get("retry-after", "")
        self.retry_after = float(asked) if asked.isdecimal() else 0.0


class Lost(PushFailed):
    """There was no answer; nobody knows whether the request took effect."""


def is_overload(failure: PushFailed) -> bool:
    return failure.status == 429


def is_temporary(failure: PushFailed) -> bool:
    return failure.status is None or failure.status == 429 or failure.status >= 500


@dataclass(frozen=True)
class Style:
    """What all requests of one provider have in common."""

    headers: Mapping[str, str]
    encode: Callable[[str], str]  # of the values of a query
    query_end: str = ""
    flag: str = ""  # a query parameter without value, on every request
    empty_query_on_put: bool = False
    timeout: float = 60.0  # seconds
    tries: int = 1  # one after the other; whoever fails then waits for the next cycle
    tries_again_on: Callable[[PushFailed], bool] = is_temporary

    def target(self, method: str, path: str, query: Mapping[str, object]) -> str:
        pairs = [self.flag] if self.flag else []
        pairs += [f"{name}={self.encode(str(value))}" for name, value in query.items()]
        if not pairs:
            return f"{path}?" if method == "PUT" and self.empty_query_on_put else path
        return f"{path}?{'&'.join(pairs)}{self.query_end if query else ''}"


def percent(text: str) -> str:
    """A blank becomes %20."""
    return quote(text, safe="")


def plus(text: str) -> str:
    """A blank becomes +."""
    return quote_plus(text)


@dataclass
class Traffic:
    """What went over the wire, retries included."""

    statuses: Counter[int | str] = field(default_factory=Counter)
    methods: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)  # of each request that was answered

    @property
    def requests(self) -> int:
        return self.statuses.total()

    def percentile(self, part: float) -> float:
        """The latency in seconds that this part of the requests stayed within; 0 when there was none."""
        if not self.seconds:
            return 0.0
        ordered = sorted(self.seconds)
        return ordered[min(len(ordered) - 1, int(part * len(ordered)))]


class Wire:
    """A provider's connection to one SCIM server. `back_off` seconds pass before a second try, then twice as many."""

    def __init__(self, http: httpx.AsyncClient, token: str, *, back_off: float = 0.5) -> None:
        self.http = http
        self.token = token
        self.back_off = back_off
        self.traffic = Traffic()

    async def send(
        self, style: Style, method: str, path: str, query: Mapping[str, object] | None = None, body: Any = None
    ) -> Any:
        """The answer's document, None when it has none; `PushFailed` unless it is a success, after all tries."""
        target = style.target(method, path, query or {})
        content = None if body is None else json.dumps(body, ensure_ascii=False).encode()
        headers = {**style.headers, "authorization": f"Bearer {self.token}"}
        if content is None:
            headers = {name: value for name, value in headers.items() if name.lower() != "content-type"}
        for number in range(style.tries):
            try:
                return await self._once(style, method, target, headers, content)
            except PushFailed as failure:
                if number + 1 == style.tries or not style.tries_again_on(failure):
                    raise
                pause = max(failure.retry_after, self.back_off * 2**number)
            await asyncio.sleep(pause)
        raise AssertionError("the last try returns or raises")

    async def _once(
        self, style: Style, method: str, target: str, headers: Mapping[str, str], content: bytes | None
    ) -> Any:
        began = time.perf_counter()
        self.traffic.methods[method] += 1
        try:
            response = await self.http.request(
                method, target, headers=dict(headers), content=content, timeout=style.timeout
            )
        except httpx.HTTPError as error:
            self.traffic.statuses[LOST] += 1
            raise Lost(f"no answer to {method} {target}: {type(error).__name__} {error}") from error
        self.traffic.seconds.append(time.perf_counter() - began)
        self.traffic.statuses[response.status_code] += 1
        if not response.is_success:
            raise Refused(f"{method} {target}", response)
        return response.json() if response.content else None


def _detail(response: httpx.Response) -> str:
    """What the server says is wrong; the beginning of whatever it sent when that is no SCIM error."""
    try:
        return str(response.json()["detail"])
    except (ValueError, KeyError, TypeError):
        return response.text[:200]


@asynccontextmanager
async def open_wire(
    url: str, token: str, *, back_off: float = 0.5, transport: httpx.AsyncBaseTransport | None = None
) -> AsyncIterator[Wire]:
    """A wire of its own to the SCIM server at `url`; `transport` lets a test lose or watch requests."""
    address, verify = url.rstrip("/"), authorities()
    async with httpx.AsyncClient(base_url=address, transport=transport, trust_env=False, verify=verify) as http:
        yield Wire(http, token, back_off=back_off)
