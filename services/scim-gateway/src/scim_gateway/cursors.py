"""Cursors of lists (RFC 9865): where a walk stands, in a text that only we can make.

A cursor grants nothing: the token is checked on every page. It is bound to the connection and to what the client asked
for, so that it cannot be carried over to another question.
"""

import base64
import hmac
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson

from scim.errors import ExpiredCursor, InvalidCursor
from scim.listing import ListQuery
from scim_gateway.store.walks import Position

LIFETIME = 3600  # seconds
_MAC_BYTES = 16


@dataclass(frozen=True, slots=True)
class Walk:
    """How far a client has come: the last resource it saw, and how many there were when it began."""

    total: int | None = None
    after: Position | None = None


class Cursors:
    """Issues and reads cursors; `key` is theirs alone."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def issue(self, walk: Walk, asked: bytes, now: float) -> str:
        """The cursor to go on with; `now` in seconds of the epoch."""
        payload = orjson.dumps([int(now), walk.total, _to_json(walk.after)])
        return _encode(self._mac(asked, payload) + payload)

    def read(self, cursor: str, asked: bytes, now: float) -> Walk:
        """The walk that a cursor goes on with, from its beginning when it is empty.

        Raises InvalidCursor for a text that we did not issue for this question, ExpiredCursor for an old one.
        """
        if not cursor:
            return Walk()
        raw = _decode(cursor)
        mac, payload = raw[:_MAC_BYTES], raw[_MAC_BYTES:]
        if not hmac.compare_digest(mac, self._mac(asked, payload)):
            raise _invalid()
        issued_at, total, after = orjson.loads(payload)
        if now - issued_at > LIFETIME:
            raise ExpiredCursor("The cursor is older than an hour; begin again without it.")
        return Walk(total, _from_json(after))

    def _mac(self, asked: bytes, payload: bytes) -> bytes:
        message = len(asked).to_bytes(4) + asked + payload
        return hmac.digest(self._key, message, "sha256")[:_MAC_BYTES]


def asked_by(connection_id: UUID, endpoint: str, query: ListQuery) -> bytes:
    """What a cursor is bound to; the page size and the attributes may change on the way."""
    return orjson.dumps([str(connection_id), endpoint, query.filter, str(query.sort_by), query.sort_order])


def _to_json(position: Position | None) -> Any:
    return position and [position.created_at.isoformat(), str(position.id), position.key]


def _from_json(value: Any) -> Position | None:
    if value is None:
        return None
    created_at, resource_id, key = value
    return Position(datetime.fromisoformat(created_at), UUID(resource_id), key)


def _encode(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _decode(text: str) -> bytes:
    try:
        raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError as error:
        raise _invalid() from error
    if _encode(raw) != text:  # the decoder skips what is no base64
        raise _invalid()
    return raw


def _invalid() -> InvalidCursor:
    return InvalidCursor("The cursor is not one that this server issued for this query.")
