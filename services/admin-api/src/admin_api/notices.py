"""What an admin should look at before it hurts."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Annotated

from pydantic import Field

from admin_api.shapes import Shape
from directory.tables import ConnectionStats, Token

EXPIRY_NOTICE = timedelta(days=14)
UNUSED_AFTER = timedelta(days=30)
GUARD_NOTICE = timedelta(days=1)


class Notice(Shape):
    """`code` is for programs, `message` for people."""

    code: Annotated[str, Field(examples=["token_expires"])]
    message: Annotated[str, Field(examples=["the token ending in 4xYz expires at 2026-12-01 00:00 UTC"])]


def of_token(token: Token, now: datetime) -> list[Notice]:
    """Of a live token; one that only previews locks nobody out."""
    found = []
    if token.scopes == ["preview"]:
        return found
    if token.expires_at is not None and token.expires_at - now < EXPIRY_NOTICE:
        at = f"{token.expires_at:%Y-%m-%d %H:%M} UTC"
        found.append(Notice(code="token_expires", message=f"the token ending in {token.hint} expires at {at}"))
    if now - (token.last_used_at or token.created_at) > UNUSED_AFTER:
        found.append(Notice(code="token_unused", message=f"the token ending in {token.hint} is not in use"))
    return found


def of_connection(
    stats: ConnectionStats, tokens: Sequence[Token], open_holds: int, link_requests: int, now: datetime
) -> list[Notice]:
    """Of a connection with its live tokens."""
    found = [warning for token in tokens for warning in of_token(token, now)]
    if not any("write" in token.scopes for token in tokens):
        found.append(Notice(code="no_token", message="no live token can write: the identity provider is locked out"))
    if stats.last_error_at and (stats.last_success_at is None or stats.last_error_at > stats.last_success_at):
        found.append(Notice(code="last_change_failed", message="the last change was refused; see the log"))
    if stats.guard_tripped_at and now - stats.guard_tripped_at < GUARD_NOTICE:
        found.append(Notice(code="guard_tripped", message="many users were deactivated within an hour"))
    if open_holds:
        waiting = "deactivation waits" if open_holds == 1 else "deactivations wait"
        found.append(Notice(code="held", message=f"{open_holds} {waiting} for an admin"))
    if link_requests:
        waiting = "account waits" if link_requests == 1 else "accounts wait"
        found.append(Notice(code="link_requests", message=f"{link_requests} {waiting} to be linked"))
    return found
