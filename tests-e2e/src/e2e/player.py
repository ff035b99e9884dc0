"""Plays scenarios against a server and says whether each passed."""

import asyncio
import itertools
import json
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import quote, quote_plus, urlsplit

import httpx

from e2e.checks import Unmet, check_header, check_value, status_matches
from e2e.paths import MISSING, BadPath, select
from e2e.scenarios import Scenario, substitute
from e2e.tls import authorities

FEATURES = ("patch", "bulk", "filter", "sort", "etag", "changePassword")
LOOPBACK = {"127.0.0.1", "localhost", "::1"}
TIMEOUT = 30.0  # above the server's own deadline, so that its answer is what we judge


@dataclass(frozen=True)
class Verdict:
    result: Literal["pass", "fail", "skip"]
    reason: str = ""


@dataclass(frozen=True)
class Server:
    """A server under test and what it says it can do."""

    http: httpx.AsyncClient
    base: str
    token: str
    features: frozenset[str]
    resource_types: frozenset[str]
    numbers: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1))

    def lacks(self, scenario: Scenario) -> str:
        """Why the server cannot be asked to play `scenario`; empty when it can."""
        if missing := scenario.resource_types - self.resource_types:
            return f"{' and '.join(sorted(missing))} not served"
        if missing := set(scenario.requires) - self.features:
            return f"{' and '.join(sorted(missing))} not advertised"
        return ""


@dataclass(frozen=True)
class Answer:
    request: httpx.Request
    response: httpx.Response
    milliseconds: float

    @property
    def document(self) -> Any:
        try:
            return self.response.json()
        except ValueError:
            return None


@asynccontextmanager
async def connect(base: str, token: str, *, verify: bool = True) -> AsyncIterator[Server]:
    """Discover the server at `base`; httpx.HTTPError when there is none."""
    base = base.rstrip("/")
    async with httpx.AsyncClient(
        timeout=TIMEOUT, follow_redirects=False, trust_env=False, verify=verify and authorities()
    ) as http:
        config = await _discover(http, base + "/ServiceProviderConfig", token)
        types = await _discover(http, base + "/ResourceTypes", token)
        served = types.get("Resources", types) if isinstance(types, dict) else types
        names = frozenset(each.get("name", "") for each in served if isinstance(each, dict))
        yield Server(http, base, token, _features(config), names or frozenset({"User", "Group"}))


async def play(scenario: Scenario, server: Server) -> Verdict:
    """Play all steps, then the cleanup whatever happened; a server that lacks what is needed is not asked."""
    if lacking := server.lacks(scenario):
        return Verdict("skip", lacking)
    variables: dict[str, Any] = {
        "rand": uuid.uuid4().hex[:10],
        "uuid": str(uuid.uuid4()),
        "n": next(server.numbers),
        "base": server.base,
    }
    for name, value in scenario.variables.items():
        variables[name] = substitute(value, variables)
    game = _Game(server, scenario, variables)
    try:
        await game.play(scenario.steps)
    except Unmet as unmet:
        return Verdict("fail", str(unmet))
    finally:
        await game.clean(scenario.cleanup)
    return Verdict("pass")


class _Game:
    """One scenario being played: its variables change as steps capture."""

    def __init__(self, server: Server, scenario: Scenario, variables: dict[str, Any]) -> None:
        self.server = server
        self.headers = scenario.headers
        self.variables = variables

    async def play(self, steps: list[dict[str, Any]]) -> None:
        for number, step in enumerate(steps, 1):
            for _ in self._rounds(step):
                try:
                    await self._step(step)
                except (Unmet, KeyError, BadPath) as problem:
                    what = f"unbound variable {problem}" if isinstance(problem, KeyError) else problem
                    raise Unmet(f"[{number}/{len(steps)}] {step.get('name') or 'step'}: {what}") from problem

    async def clean(self, steps: list[dict[str, Any]]) -> None:
        for step in steps:
            for _ in self._rounds(step):
                try:
                    await self._send(step)
                except (Unmet, KeyError):
                    continue

    def _rounds(self, step: dict[str, Any]) -> Any:
        loop = step.get("foreach")
        if loop is None:
            yield
            return
        first, last = loop["range"]
        for value in range(first, last + 1):
            self.variables[loop["as"]] = value
            yield

    async def _step(self, step: dict[str, Any]) -> None:
        if "parallel" in step:
            await self._parallel(step)
        else:
            self._verify(step, await self._send(step))

    async def _parallel(self, step: dict[str, Any]) -> None:
        answers = await asyncio.gather(*(self._send(each) for each in step["parallel"]))
        for each, answer in zip(step["parallel"], answers, strict=True):
            self._verify(each, answer)
        if wanted := step.get("statuses"):
            got = Counter(str(answer.response.status_code) for answer in answers)
            if got != Counter(wanted):
                raise Unmet(f"statuses wanted {wanted}, got {dict(got)}")

    async def _send(self, step: dict[str, Any]) -> Answer:
        request = self._request(step)
        began = time.perf_counter()
        try:
            response = await self.server.http.send(request)
        except httpx.HTTPError as error:
            raise Unmet(f"{request.method} {request.url}: {type(error).__name__} {error}") from error
        return Answer(request, response, (time.perf_counter() - began) * 1000)

    def _request(self, step: dict[str, Any]) -> httpx.Request:
        content = None
        if "raw_body" in step:
            content = str(substitute(step["raw_body"], self.variables)).encode()
        elif "body" in step:
            content = json.dumps(substitute(step["body"], self.variables), ensure_ascii=False).encode()
        headers = self._request_headers(step)
        if content is None:
            headers.pop("content-type", None)
        return self.server.http.build_request(
            step.get("method", "GET"), self._url(step), headers=headers, content=content
        )

    def _url(self, step: dict[str, Any]) -> str:
        path = str(substitute(step["path"], self.variables))
        url = self._absolute(path) if path.startswith(("http://", "https://")) else self.server.base + path
        if query := substitute(step.get("query") or {}, self.variables):
            pairs = "&".join(f"{name}={_encode(str(value), step)}" for name, value in query.items())
            url += ("&" if "?" in url else "?") + pairs
        return url + step.get("query_suffix", "")

    def _absolute(self, url: str) -> str:
        """A URL that the server gave us; Unmet when it leads elsewhere, for the token must not follow."""
        given, ours = urlsplit(url), urlsplit(self.server.base)
        same_host = given.hostname == ours.hostname or {given.hostname, ours.hostname} <= LOOPBACK
        if not same_host or given.port != ours.port:
            raise Unmet(f"absolute URL leaves the server under test: {url}")
        return url

    def _request_headers(self, step: dict[str, Any]) -> dict[str, str]:
        """Names in lower case: the default ones, the scenario's, the step's; null takes one away."""
        headers: dict[str, Any] = _default_headers(self.server.token)
        for more in (self.headers, step.get("headers") or {}):
            headers |= {name.lower(): value for name, value in more.items()}
        return {name: str(substitute(value, self.variables)) for name, value in headers.items() if value is not None}

    def _verify(self, step: dict[str, Any], answer: Answer) -> None:
        expect = step.get("expect") or {}
        request, response = answer.request, answer.response
        try:
            self._check_answer(expect, answer)
            checks = [*(expect.get("json") or []), *self._checks_of_status(expect, response.status_code)]
            self._check_document(checks, answer)
            for name, source in (step.get("capture") or {}).items():
                self.variables[substitute(name, self.variables)] = self._captured(source, answer)
        except Unmet as unmet:
            target = request.url.raw_path.decode()[:150]
            raise Unmet(f"{request.method} {target} -> {response.status_code}: {unmet}") from None

    def _check_answer(self, expect: dict[str, Any], answer: Answer) -> None:
        response = answer.response
        if not status_matches(substitute(expect.get("status"), self.variables), response.status_code):
            raise Unmet(f"status wanted {expect.get('status')}; body {response.text[:220]!r}")
        for name, rules in (expect.get("headers") or {}).items():
            for operator, want in rules.items():
                check_header(response.headers, name, operator, substitute(want, self.variables))
        if expect.get("body_empty") and response.content:
            raise Unmet(f"body should be empty: {response.text[:120]!r}")
        if (limit := expect.get("max_ms")) and answer.milliseconds > limit:
            raise Unmet(f"took {answer.milliseconds:.0f} ms, limit {limit} ms")

    @staticmethod
    def _checks_of_status(expect: dict[str, Any], status: int) -> list[list[Any]]:
        branches = (expect.get("json_if") or {}).items()
        return [check for want, checks in branches if status_matches(want, status) for check in checks]

    def _check_document(self, checks: list[list[Any]], answer: Answer) -> None:
        if checks and answer.document is None:
            raise Unmet(f"no JSON body: {answer.response.text[:120]!r}")
        for path, operator, *want in checks:
            check_value(answer.document, substitute(path, self.variables), operator, *substitute(want, self.variables))

    def _captured(self, source: str, answer: Answer) -> Any:
        if source == "status":
            return answer.response.status_code
        if source.startswith("header:"):
            value = answer.response.headers.get(source.removeprefix("header:"), MISSING)
        else:
            value = select(answer.document, substitute(source, self.variables))
        if value is MISSING:
            raise Unmet(f"nothing at {source} to capture")
        return value


def _default_headers(token: str) -> dict[str, str]:
    headers = {"accept": "application/scim+json", "content-type": "application/scim+json"}
    return headers | ({"authorization": f"Bearer {token}"} if token else {})


def _encode(value: str, step: dict[str, Any]) -> str:
    return quote_plus(value) if step.get("query_style") == "plus" else quote(value, safe="")


async def _discover(http: httpx.AsyncClient, url: str, token: str) -> Any:
    """A discovery document; an empty one when the server has none to show."""
    response = await http.get(url, headers=_default_headers(token))
    try:
        return response.json() if response.status_code == 200 else {}
    except ValueError:
        return {}


def _features(config: Any) -> frozenset[str]:
    advertised = {name for name in FEATURES if (config.get(name) or {}).get("supported")}
    if (config.get("pagination") or {}).get("cursor"):
        advertised.add("cursor")
    return frozenset(advertised)
