"""Bearer secrets: random, recognisable to secret scanners, kept only as keyed digests (threats T44 to T47)."""

import hmac
import secrets
import zlib

_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_SECRET_LENGTH = 43  # base62 characters that hold 256 bits
_CHECKSUM_LENGTH = 6  # base62 characters that hold a CRC-32
_MAX_LENGTH = 128


def mint(prefix: str) -> str:
    """A new secret: `<prefix>_<43 characters of 256 random bits><6 characters of checksum>`."""
    body = f"{prefix}_{_base62(secrets.randbits(256), _SECRET_LENGTH)}"
    return body + _checksum(body)


def is_well_formed(token: str) -> bool:
    """Whether the checksum fits: a mistyped or foreign token needs no look-up."""
    body, checksum = token[:-_CHECKSUM_LENGTH], token[-_CHECKSUM_LENGTH:]
    return len(token) <= _MAX_LENGTH and token.isascii() and "_" in body and checksum == _checksum(body)


def digest(pepper: bytes, kind: str, token: str) -> bytes:
    """HMAC-SHA-256 over the length-prefixed kind and token; a digest of one kind never matches another's."""
    fields = (kind.encode(), token.encode("utf-8", "surrogatepass"))
    return hmac.digest(pepper, b"".join(len(field).to_bytes(4) + field for field in fields), "sha256")


def hint(token: str) -> str:
    """What may be shown later: the last four characters."""
    return token[-4:]


def _checksum(body: str) -> str:
    return _base62(zlib.crc32(body.encode()), _CHECKSUM_LENGTH)


def _base62(number: int, length: int) -> str:
    digits = []
    for _ in range(length):
        number, digit = divmod(number, 62)
        digits.append(_ALPHABET[digit])
    return "".join(reversed(digits))
