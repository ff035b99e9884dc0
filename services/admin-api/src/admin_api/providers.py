"""What a connection may be called (threat T17)."""

import re

from admin_api.errors import Validation

_PROVIDER_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")

# Names under which people sign in, here or in Better Auth: a connection that bore one could be taken for it.
RESERVED = frozenset(
    [
        "anonymous",
        "apple",
        "atlassian",
        "cognito",
        "credential",
        "credentials",
        "discord",
        "dropbox",
        "email",
        "email-otp",
        "facebook",
        "figma",
        "generic-oauth",
        "github",
        "gitlab",
        "google",
        "huggingface",
        "kakao",
        "kick",
        "line",
        "linear",
        "linkedin",
        "magic-link",
        "microsoft",
        "naver",
        "notion",
        "oauth",
        "oidc",
        "one-tap",
        "passkey",
        "password",
        "paypal",
        "phone-number",
        "polar",
        "reddit",
        "roblox",
        "salesforce",
        "saml",
        "siwe",
        "slack",
        "spotify",
        "sso",
        "tiktok",
        "twitch",
        "twitter",
        "username",
        "vercel",
        "vk",
        "zoom",
    ]
)


def is_provider_id(provider_id: str) -> bool:
    """Whether the text has the form of a name; what has not cannot be looked up either."""
    return _PROVIDER_ID.fullmatch(provider_id) is not None


def check_provider_id(provider_id: str) -> None:
    """Raise Validation unless the name can be a connection's."""
    if not is_provider_id(provider_id):
        raise Validation("providerId must be 1 to 64 characters of A-Z, a-z, 0-9, '.', '_' and '-'")
    if provider_id.lower() in RESERVED:
        raise Validation("providerId is the name of a way to sign in and cannot be used for SCIM; choose another one")
