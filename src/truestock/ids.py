"""Identifiers: ordered by time, so that they lie together in an index, and not to be guessed."""

import os
import time
from collections.abc import Iterator

RANDOM_BYTES = 10
# Asked of the system for this many identifiers at once: a system call each would cost more.
AT_ONCE = 256


def _random_parts() -> Iterator[str]:
    while True:
        random = os.urandom(RANDOM_BYTES * AT_ONCE).hex()
        for start in range(0, len(random), 2 * RANDOM_BYTES):
            yield random[start : start + 2 * RANDOM_BYTES]


_parts = _random_parts()


def new_id(prefix: str) -> str:
    """A prefix, then 48 bits of milliseconds and 80 random bits, as 32 hexadecimal digits."""
    return f"{prefix}_{time.time_ns() // 1_000_000:012x}{next(_parts)}"
