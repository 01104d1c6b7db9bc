"""Entries of a bulk request that are decoded one by one, so that a bad one stops no other."""

from collections.abc import Callable

import msgspec

from truestock.model.refusal import FieldError

# What decoding can raise at bytes from outside; lists in lists in lists are a RecursionError.
# ValueErrors are those of UTF-8 and base64.
UNREADABLE = (msgspec.MsgspecError, ValueError, RecursionError)

# How a decoding error reads to a caller: the edges' affair.
Explain = Callable[[Exception], FieldError]


def text_in(raw: msgspec.Raw, field: str) -> str | None:
    """What an entry that could not be decoded says in one field, if that can be told."""
    try:
        entry = msgspec.json.decode(raw)
    except UNREADABLE:
        return None
    text = entry.get(field) if isinstance(entry, dict) else None
    return text if isinstance(text, str) else None
