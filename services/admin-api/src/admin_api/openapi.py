"""The description of the API as OpenAPI: public, for it says nothing about anybody."""

from typing import Any

from fastapi import FastAPI

DESCRIPTION = """
Every refusal is `{error, message, requestId}`; the request id is in the header `X-Request-Id` of every answer too.
Lists are paged by cursor: pass `nextCursor` of one page as `cursor` of the next; it is null on the last page.
What was deleted answers 204 the first time and 404 afterwards. An unknown id, another organization's, and what is no id
at all answer alike.
"""

SECURITY = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "A session's token (`POST /api/auth/sign-in/email`) or an API key.",
    },
    "cookie": {
        "type": "apiKey",
        "in": "cookie",
        "name": "__Host-session",
        "description": "The same session, for the console; other sites' requests are refused.",
    },
}

_PUBLIC = ("/api/auth/sign-in/", "/api/auth/callback/")


def describe(app: FastAPI) -> dict[str, Any]:
    """FastAPI's document, with what it cannot know: who may call, and that a bad request is a 400 here."""
    if app.openapi_schema is None:
        app.description = DESCRIPTION
        document = app.openapi()
        document["components"]["securitySchemes"] = SECURITY
        for path, operations in document["paths"].items():
            for operation in operations.values():
                operation["responses"].pop("422", None)
                if not path.startswith(_PUBLIC):
                    operation["security"] = [{"bearer": []}, {"cookie": []}]
        for name in ("HTTPValidationError", "ValidationError"):
            document["components"]["schemas"].pop(name, None)
    return app.openapi()
