"""What a request may be refused for; the class knows its status, `answers` makes the body."""


class ApiError(Exception):
    """Base: `status` and `code` go to the client with the text, which therefore says nothing that is not theirs."""

    status = 500
    code = "internal"

    def __init__(self, message: str, *, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after = retry_after  # seconds


class Validation(ApiError):
    """The request is not what the endpoint takes."""

    status = 400
    code = "validation"


class Unauthenticated(ApiError):
    """No valid session; the same for every kind of wrong credential."""

    status = 401
    code = "unauthenticated"


class Forbidden(ApiError):
    """Signed in, but not allowed to."""

    status = 403
    code = "forbidden"


class EnterpriseRequired(ApiError):
    """The organization's plan does not include directory sync."""

    status = 403
    code = "enterprise_required"


class NotFound(ApiError):
    """Unknown, or another organization's: the answer is the same."""

    status = 404
    code = "not_found"

    def __init__(self, message: str = "there is nothing of this id") -> None:
        super().__init__(message)


class MethodNotAllowed(ApiError):
    """The path exists, the method does not."""

    status = 405
    code = "method_not_allowed"


class RequestTimeout(ApiError):
    """The client was too slow in sending."""

    status = 408
    code = "timeout"


class Conflict(ApiError):
    """The state of things does not allow it."""

    status = 409
    code = "conflict"


class PayloadTooLarge(ApiError):
    """The body is over the limit."""

    status = 413
    code = "payload_too_large"


class UnsupportedMediaType(ApiError):
    """The body is not JSON, or compressed."""

    status = 415
    code = "unsupported_media_type"


class TooManyRequests(ApiError):
    """The client failed too often lately."""

    status = 429
    code = "too_many_requests"


class Unavailable(ApiError):
    """Something that we depend on is away; trying again helps."""

    status = 503
    code = "unavailable"


class Busy(Unavailable):
    """We are at our own limit."""
