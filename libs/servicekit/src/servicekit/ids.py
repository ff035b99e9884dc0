"""UUIDv7: the ids of changes and resources, ordered by the time at which this process minted them (RFC 9562)."""

import secrets
import time
from uuid import UUID

_COUNTER_BITS = 12
_last = 0  # milliseconds since the epoch, then the counter


def uuid7() -> UUID:
    """A new UUIDv7, greater than every earlier one of this process even when the clock goes back.

    Milliseconds, a 12-bit counter (RFC 9562 section 6.2, method 1; an overflow borrows from the next millisecond),
    62 random bits.
    """
    global _last
    _last = max(_last + 1, (time.time_ns() // 1_000_000) << _COUNTER_BITS)
    milliseconds, counter = divmod(_last, 1 << _COUNTER_BITS)
    return UUID(int=milliseconds << 80 | 0x7 << 76 | counter << 64 | 0b10 << 62 | secrets.randbits(62))
