"""What admin-api, which issues a connection's tokens, and the gateway, which checks them, must agree on."""

SCIM_TOKEN = "scim"  # noqa: S105 - a name, not a secret
"""Prefix of a connection's token and kind of its digest: `servicekit.bearer.digest(pepper, SCIM_TOKEN, token)`, the
pepper being the UTF-8 bytes of TOKEN_PEPPER."""
