"""An OpenID provider as its client sees it: code flow with PKCE (OpenID Connect Core section 3.1, RFC 7636)."""

import time
from dataclasses import dataclass
from typing import Any

import httpx
from authlib.integrations.base_client.errors import OAuthError
from authlib.integrations.httpx_client import AsyncOAuth2Client
from joserfc import jws, jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from admin_api.errors import Unavailable

TIMEOUT = 5.0  # seconds for each request to the provider
METADATA_SECONDS = 3600.0  # after which its metadata and keys are asked for again
LEEWAY = 60  # seconds that its clock may differ
# Signatures with a public key only: what is signed with the client's secret could be made by whoever has it.
ALGORITHMS = ["RS256", "PS256", "ES256", "RS384", "PS384", "ES384", "RS512", "PS512", "ES512", "Ed25519"]

_BASIC = "client_secret_basic"


class ProviderAway(Unavailable):
    """The provider does not answer as it should."""


class NotProven(Exception):
    """What came back does not prove who the person is; the text is for the log."""


@dataclass(frozen=True, slots=True)
class Client:
    """Whom the provider knows us as; without a secret it relies on PKCE alone."""

    issuer: str
    client_id: str
    client_secret: str
    redirect_uri: str


@dataclass(frozen=True, slots=True)
class Claims:
    """Who the provider says it is; `email` only when the provider has verified it."""

    issuer: str
    subject: str
    email: str | None


class Provider:
    """The provider of the console's sign-in; its metadata and keys are remembered."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._metadata: dict[str, Any] = {}
        self._keys: KeySet | None = None
        self._read_at = float("-inf")

    async def authorization_url(self, state: str, nonce: str, verifier: str) -> str:
        """Where the browser goes to sign in; raises ProviderAway."""
        metadata = await self._read_metadata()
        async with self._open(metadata) as client:
            url, _ = client.create_authorization_url(
                metadata["authorization_endpoint"], state=state, nonce=nonce, code_verifier=verifier
            )
        return url

    async def claims(self, code: str, nonce: str, verifier: str) -> Claims:
        """Who signed in; raises NotProven, or ProviderAway."""
        metadata = await self._read_metadata()
        try:
            async with self._open(metadata) as client:
                token = await client.fetch_token(metadata["token_endpoint"], code=code, code_verifier=verifier)
                claims = await self._verify(str(token.get("id_token", "")), nonce)
                if "email" not in claims and "userinfo_endpoint" in metadata:
                    claims = _merged(claims, (await client.get(metadata["userinfo_endpoint"])).json())
        except (httpx.HTTPError, ValueError) as error:
            raise ProviderAway("the sign-in provider cannot be reached; try again", retry_after=5) from error
        except OAuthError as error:
            raise NotProven(f"the provider refuses the code: {error.error}") from error
        email = claims.get("email") if claims.get("email_verified") is True else None
        return Claims(self._client.issuer, claims["sub"], email if isinstance(email, str) else None)

    async def _verify(self, id_token: str, nonce: str) -> dict[str, Any]:
        """The claims of a token that the provider signed for us, for this sign-in."""
        rules = jwt.JWTClaimsRegistry(
            leeway=LEEWAY,
            iss={"essential": True, "value": self._client.issuer},
            aud={"essential": True, "value": self._client.client_id},
            sub={"essential": True},
            exp={"essential": True},
            nonce={"essential": True, "value": nonce},
        )
        try:
            claims = jwt.decode(id_token, await self._read_keys(id_token), algorithms=ALGORITHMS).claims
            rules.validate(claims)
        except JoseError as error:
            raise NotProven(f"the id token is not valid: {error.error}") from error
        if not isinstance(claims["sub"], str) or not 0 < len(claims["sub"]) <= 255 or "\0" in claims["sub"]:
            raise NotProven("the id token names nobody")
        if claims.get("azp", self._client.client_id) != self._client.client_id:
            raise NotProven("the id token is for another client")
        return claims

    async def _read_metadata(self) -> dict[str, Any]:
        if time.monotonic() - self._read_at >= METADATA_SECONDS:
            metadata = await _get(f"{self._client.issuer.rstrip('/')}/.well-known/openid-configuration")
            needed = {"authorization_endpoint", "token_endpoint", "jwks_uri"}
            if metadata.get("issuer") != self._client.issuer or not needed <= metadata.keys():
                raise ProviderAway("the sign-in provider is not the one that OIDC_ISSUER names", retry_after=60)
            self._metadata, self._keys, self._read_at = metadata, None, time.monotonic()
        return self._metadata

    async def _read_keys(self, id_token: str) -> KeySet:
        """The provider's keys, asked for again when the token is signed with one that is new."""
        known = self._keys
        if known is None or not _has_key(known, id_token):
            known = self._keys = KeySet.import_key_set(await _get(self._metadata["jwks_uri"]))  # pyright: ignore[reportArgumentType]
        return known

    def _open(self, metadata: dict[str, Any]) -> Any:  # authlib has no types
        return AsyncOAuth2Client(
            self._client.client_id,
            self._client.client_secret,
            scope="openid email profile",
            redirect_uri=self._client.redirect_uri,
            code_challenge_method="S256",
            token_endpoint_auth_method=_method(metadata) if self._client.client_secret else "none",
            timeout=TIMEOUT,
        )


def _method(metadata: dict[str, Any]) -> str:
    """How we prove to be the client; the first is what a provider that does not tell takes."""
    methods = metadata.get("token_endpoint_auth_methods_supported", ())
    return "client_secret_post" if "client_secret_post" in methods and _BASIC not in methods else _BASIC


async def _get(url: str) -> dict[str, Any]:
    try:
        async with httpx.AsyncClient(timeout=TIMEOUT) as client:
            answer = await client.get(url)
            answer.raise_for_status()
            document = answer.json()
    except (httpx.HTTPError, ValueError) as error:
        raise ProviderAway("the sign-in provider cannot be reached; try again", retry_after=5) from error
    if not isinstance(document, dict):
        raise ProviderAway("the sign-in provider answers something else", retry_after=60)
    return document


def _has_key(keys: KeySet, id_token: str) -> bool:
    try:
        kid = _key_id(id_token)
    except (JoseError, ValueError):
        return True  # decoding tells what is wrong
    return kid is None or any(key.kid == kid for key in keys.keys)


def _key_id(id_token: str) -> str | None:
    """The id of the key that the token says it is signed with."""
    return jws.extract_compact(id_token.encode()).headers().get("kid")


def _merged(claims: dict[str, Any], userinfo: Any) -> dict[str, Any]:
    """With what the provider tells of the same person."""
    if not isinstance(userinfo, dict) or userinfo.get("sub") != claims["sub"]:
        raise NotProven("the provider tells of somebody else")
    return {**userinfo, **claims}
