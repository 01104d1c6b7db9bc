"""Identifiers: ordered by time, so that they lie together in an index, and not to be guessed."""

import secrets
import time


def new_id(prefix: str) -> str:
    """A prefix, then 48 bits of milliseconds and 80 random bits, as 32 hexadecimal digits."""
    number = (time.time_ns() // 1_000_000) << 80 | secrets.randbits(80)
    return f"{prefix}_{number:032x}"
