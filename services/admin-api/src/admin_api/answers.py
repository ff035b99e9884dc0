"""What goes out: every refusal as `{error, message, requestId}` (design section 6), or as a page of the console."""

import re
from contextlib import suppress
from typing import Any

import structlog
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from admin_api.console.frame import error_page
from admin_api.console.session import find_principal, sign_in_page
from admin_api.errors import ApiError, MethodNotAllowed, NotFound, Unauthenticated, Validation

REQUEST_ID = "admin_api.request_id"  # scope key

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")


# Where browsers come back to from an OpenID provider, besides from the console's own pages.
_SIGN_IN_PATHS = ("/api/auth/callback/oidc", "/api/auth/sign-in/oidc")


def wants_page(request: Request) -> bool:
    """Whether a person looks at the answer."""
    path = request.url.path
    if path == "/admin" or path.startswith("/admin/"):
        return True
    return path in _SIGN_IN_PATHS and "text/html" in request.headers.get("accept", "")


def refusal(request: Request, error: ApiError, request_id: str) -> Response:
    """The error in the form that the request asks for."""
    if not wants_page(request):
        return error_response(error, request_id)
    if isinstance(error, Unauthenticated) and request.url.path not in _SIGN_IN_PATHS:
        return sign_in_page(request)
    return error_page(request, error, request_id)


def error_response(error: ApiError, request_id: str) -> Response:
    headers = {"Retry-After": str(error.retry_after)} if error.retry_after is not None else {}
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    body = {"error": error.code, "message": error.message, "requestId": request_id}
    return JSONResponse(body, error.status, headers)


def bug(request_id: str) -> ApiError:
    """What a client hears of an error that is ours: how to ask about it (threat T57)."""
    return ApiError(f"something went wrong on our side; quote request {request_id} to the operator")


async def answer_api_error(request: Request, error: Exception) -> Response:
    """Refusals are normal: one line without a traceback."""
    assert isinstance(error, ApiError)
    structlog.contextvars.bind_contextvars(refused=error.code)
    if isinstance(error, NotFound) and request.method == "GET" and wants_page(request):
        # Nobody was asked for at a path that does not exist; the page has its menu for who is signed in.
        with suppress(ApiError):
            await find_principal(request, request.app.state.service)
    return refusal(request, error, request.scope[REQUEST_ID])


async def answer_validation_error(request: Request, error: Exception) -> Response:
    """An id in a path that is none is as unknown as any other."""
    assert isinstance(error, RequestValidationError)
    if any(problem["loc"][0] == "path" for problem in error.errors()):
        return await answer_api_error(request, NotFound())
    return await answer_api_error(request, Validation("; ".join(map(explain, error.errors()[:5]))))


async def answer_http_error(request: Request, error: Exception) -> Response:
    """What Starlette and FastAPI raise themselves: no such path, no such method, a body that is not JSON."""
    assert isinstance(error, HTTPException)
    match error.status_code:
        case 404:
            problem = NotFound("there is nothing at this path")
        case 405:
            problem = MethodNotAllowed("the method is not allowed at this path")
        case _:
            problem = Validation("the request cannot be read")
    response = await answer_api_error(request, problem)
    response.headers.update({"Allow": error.headers["Allow"]} if error.headers and "Allow" in error.headers else {})
    return response


def explain(problem: dict[str, Any]) -> str:
    """One problem of a request in words, without the value that was sent; odd names of members are not repeated."""
    if problem["type"] == "json_invalid":
        return "the body is not valid JSON"
    path = ".".join(name if _NAME.fullmatch(name) else "?" for name in map(str, problem["loc"]))
    if problem["type"] == "extra_forbidden":
        return f"{path}: is not known here"
    return f"{path}: {problem['msg']}"
