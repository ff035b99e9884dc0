"""Whom the tests believe: SCIM_CA_FILE names a file with a deployment's own authority."""

import os
import ssl


def authorities() -> ssl.SSLContext | bool:
    """What httpx takes as `verify`: that authority, or those that everybody believes."""
    file = os.environ.get("SCIM_CA_FILE")
    return ssl.create_default_context(cafile=file) if file else True
