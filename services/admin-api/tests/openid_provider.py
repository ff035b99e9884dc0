"""An OpenID provider that insists on PKCE: `python openid_provider.py --port N --require-nonce`.

It is oidc-provider-mock, which does not know PKCE, with authlib's own extension for it.
"""

from typing import Any

from authlib.integrations.flask_oauth2 import AuthorizationServer
from authlib.oauth2.rfc7636 import CodeChallenge
from oidc_provider_mock import _app
from oidc_provider_mock.__main__ import run

CHALLENGES: dict[str, str] = {}

register_grant = AuthorizationServer.register_grant
save_authorization_code = _app.AuthorizationCodeGrant.save_authorization_code


class Pkce(CodeChallenge):
    """Remembers the challenge of each code."""

    def get_authorization_code_challenge(self, authorization_code: Any) -> str | None:
        return CHALLENGES.get(authorization_code.code)

    def get_authorization_code_challenge_method(self, authorization_code: Any) -> str:
        return "S256"


def save_with_challenge(self: Any, code: str, request: Any) -> None:
    CHALLENGES[code] = request.payload.data["code_challenge"]
    save_authorization_code(self, code, request)


def register_with_pkce(self: Any, grant_cls: Any, extensions: Any = None) -> None:
    is_code = issubclass(grant_cls, _app.AuthorizationCodeGrant)
    register_grant(self, grant_cls, [*(extensions or []), Pkce(required=True)] if is_code else extensions)


if __name__ == "__main__":
    AuthorizationServer.register_grant = register_with_pkce
    _app.AuthorizationCodeGrant.save_authorization_code = save_with_challenge
    run()
