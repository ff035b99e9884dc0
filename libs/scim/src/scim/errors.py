"""Every refusal of the protocol: the class knows its status and scimType (RFC 7644 section 3.12)."""

from typing import Any

from scim.urns import ERROR


class ScimError(Exception):
    """A request was refused, or failed; `detail` is a sentence for the client's administrator."""

    status: int = 500
    scim_type: str | None = None

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail

    def body(self) -> dict[str, Any]:
        """The Error document; `status` is text, as clients compare it (RFC 7644 section 3.12)."""
        body: dict[str, Any] = {"schemas": [ERROR], "status": str(self.status)}
        if self.scim_type is not None:
            body["scimType"] = self.scim_type
        body["detail"] = self.detail
        return body


class InvalidSyntax(ScimError):
    """The body is not JSON as we read it, or not shaped like the message it should be."""

    status = 400
    scim_type = "invalidSyntax"


class InvalidValue(ScimError):
    """A required value is missing, or a value does not fit its attribute."""

    status = 400
    scim_type = "invalidValue"


class InvalidFilter(ScimError):
    """The filter does not parse, or compares what cannot be compared."""

    status = 400
    scim_type = "invalidFilter"


class InvalidPath(ScimError):
    """A path is malformed or names no attribute."""

    status = 400
    scim_type = "invalidPath"


class NoTarget(ScimError):
    """A PATCH path selects nothing that could be operated on."""

    status = 400
    scim_type = "noTarget"


class Mutability(ScimError):
    """The change would touch a read-only or immutable attribute."""

    status = 400
    scim_type = "mutability"


class TooMany(ScimError):
    """The filter yields more results than the server is willing to calculate."""

    status = 400
    scim_type = "tooMany"


class InvalidVersion(ScimError):
    """The requested SCIM protocol version is not supported."""

    status = 400
    scim_type = "invalidVers"


class InvalidCursor(ScimError):
    """The cursor is not one of ours (RFC 9865 section 2.1)."""

    status = 400
    scim_type = "invalidCursor"


class ExpiredCursor(ScimError):
    """The cursor was ours and is too old (RFC 9865 section 2.1)."""

    status = 400
    scim_type = "expiredCursor"


class InvalidCount(ScimError):
    """The count of a cursor request is unusable (RFC 9865 section 2.1)."""

    status = 400
    scim_type = "invalidCount"


class Unauthorized(ScimError):
    """No usable credential; the edge adds WWW-Authenticate."""

    status = 401


class Forbidden(ScimError):
    """The credential is good and does not allow this."""

    status = 403


class Sensitive(ScimError):
    """The request carries sensitive values where they would be logged, such as in its URI."""

    status = 403
    scim_type = "sensitive"


class NotFound(ScimError):
    """No such resource in this connection."""

    status = 404


class MethodNotAllowed(ScimError):
    """The endpoint exists and does not take this method."""

    status = 405


class RequestTimeout(ScimError):
    """The client took too long to send its request."""

    status = 408


class Uniqueness(ScimError):
    """An attribute that must be unique is taken."""

    status = 409
    scim_type = "uniqueness"


class PreconditionFailed(ScimError):
    """The resource is not at the version that If-Match names (RFC 7644 section 3.14)."""

    status = 412


class PayloadTooLarge(ScimError):
    """The body, or a count in it, is over the limit."""

    status = 413


class UnsupportedMediaType(ScimError):
    """The body's type or encoding is not one that we read."""

    status = 415


class NotImplementedYet(ScimError):
    """The protocol knows the operation, this server does not offer it."""

    status = 501


class _Busy(ScimError):
    """A refusal that time cures; the edge sends `retry_after` (seconds) as the Retry-After header."""

    def __init__(self, detail: str, retry_after: int = 1) -> None:
        super().__init__(detail)
        self.retry_after = retry_after


class TooManyRequests(_Busy):
    """The connection has used up its share."""

    status = 429


class Unavailable(_Busy):
    """The change was not accepted, or its outcome is not known in time."""

    status = 503


_BY_CODE: dict[tuple[int, str | None], type[ScimError]] = {
    (error.status, error.scim_type): error
    for error in (
        InvalidSyntax, InvalidValue, InvalidFilter, InvalidPath, NoTarget, Mutability, TooMany, InvalidVersion,
        InvalidCursor, ExpiredCursor, InvalidCount, Unauthorized, Forbidden, Sensitive, NotFound, MethodNotAllowed,
        RequestTimeout, Uniqueness, PreconditionFailed, PayloadTooLarge, UnsupportedMediaType, NotImplementedYet,
        TooManyRequests, Unavailable,
    )
}  # fmt: skip


def error_of(status: int, scim_type: str | None, detail: str) -> ScimError:
    """The error that an outcome record stands for; a plain ScimError with that status when no class has the pair."""
    known = _BY_CODE.get((status, scim_type))
    if known is not None:
        return known(detail)
    error = ScimError(detail)
    error.status, error.scim_type = status, scim_type
    return error
