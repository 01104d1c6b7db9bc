"""Identifiers: ordered by time, so that they lie together in an index, and not to be guessed."""

import secrets
import time

ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"


def new_id(prefix: str) -> str:
    """A prefix, then 48 bits of milliseconds and 82 random bits, in Crockford's base 32."""
    number = (time.time_ns() // 1_000_000) << 82 | secrets.randbits(82)
    digits = [ALPHABET[number >> shift & 31] for shift in range(125, -1, -5)]
    return f"{prefix}_{''.join(digits)}"
