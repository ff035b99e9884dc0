"""Refusing at the door what there is no slot for: at five times the capacity the refusals would otherwise take what
those need that are served (promise P14).

Only what would be refused on the ordinary way too, and with the same answer. Whatever is not plain at first sight (a
token that was not checked within the last second, a repeated header, a large body) goes the ordinary way.
"""

import secrets
import time
from collections import Counter
from uuid import UUID

import structlog
from starlette.types import Scope, Send

from scim_gateway.admission import Limit, Slots
from scim_gateway.answers import error_response
from scim_gateway.auth import Authenticator
from scim_gateway.body import BRIEF
from scim_gateway.endpoints import BASE
from scim_gateway.metrics import REQUESTS
from scim_gateway.refusals import Refusals

log = structlog.get_logger()

LOG_SECONDS = 1.0  # between two lines; one for each refusal would cost as much as the refusal
_COLLECTIONS = {f"{BASE}{path}": path for path in ("/Users", "/Groups", "/Bulk")}
_URGENT = {"POST": False, "PUT": False, "PATCH": True, "DELETE": True}  # or perhaps: the body tells


class Shedding:
    """Knows whether a write can be refused before its body is read."""

    def __init__(self, slots: Slots, authenticator: Authenticator, refusals: Refusals) -> None:
        self._slots = slots
        self._authenticator = authenticator
        self._refusals = refusals
        self._answers = {limit: _answer(limit) for limit in Limit}
        self._shed: Counter[UUID] = Counter()
        self._logged_at = 0.0

    async def refuses(self, scope: Scope, send: Send) -> bool:
        """Whether there was no slot for the request, which then is answered."""
        if not self._slots.may_be_full:
            return False
        started, route = time.perf_counter(), route_of(scope)
        limit = self._limit(scope, route) if route else None
        if limit is None:
            return False
        status, headers, body = self._answers[limit]
        headers = [*headers, (b"x-request-id", secrets.token_hex(8).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})
        REQUESTS.done(route, scope["method"], status, time.perf_counter() - started, None)
        return True

    def _limit(self, scope: Scope, route: str) -> Limit | None:
        """The limit that refuses the request; None when it has to be looked at."""
        credential = _credential(scope["headers"])
        connection = self._authenticator.recognized(credential) if credential else None
        if connection is None:
            return None
        limit = self._slots.refusal(connection.id, urgent=_URGENT[scope["method"]])
        if limit is not None:
            self._note(connection.id)
            self._refusals.note(scope, connection, route, limit.error())
        return limit

    def _note(self, connection_id: UUID) -> None:
        self._shed[connection_id] += 1
        now = time.monotonic()
        if now - self._logged_at >= LOG_SECONDS:
            self._logged_at = now
            for shed, number in self._shed.items():
                log.info("scim.requests.shed", connection_id=str(shed), requests=number)
            self._shed.clear()


def route_of(scope: Scope) -> str | None:
    """The template of a path that is written to, None for other requests."""
    path: str = scope["path"]
    if scope["method"] not in _URGENT:
        return None
    if scope["method"] == "POST":
        return _COLLECTIONS.get(path)
    collection = _COLLECTIONS.get(path.rpartition("/")[0])
    return f"{collection}/{{id}}" if collection else None


def _credential(headers: list[tuple[bytes, bytes]]) -> bytes | None:
    """The Authorization header of a request of which it is plain where it ends."""
    fields = dict(headers)
    length = fields.get(b"content-length", b"0")
    if len(fields) < len(headers) or b"transfer-encoding" in fields or not length.isdigit() or int(length) > BRIEF:
        return None
    return fields.get(b"authorization")


def _answer(limit: Limit) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    response = error_response(limit.error())
    return response.status_code, response.raw_headers, bytes(response.body)
