"""Query strings, read as strictly as bodies: each parameter by its field's type."""

import re
from collections.abc import Callable
from functools import cache, lru_cache
from typing import Any
from urllib.parse import parse_qsl

import msgspec
import msgspec.inspect

from truestock.http.problems import RefusedError, invalid, refused
from truestock.model.refusal import Code, field_refusal

Read = Callable[[str], Any]


# Callers ask the same again and again: what was read is kept, unless it is unusually long.
MAX_KEPT_QUERIES = 4_096
MAX_KEPT_LENGTH = 1_024


def read_query(raw: bytes, struct: Any) -> Any:
    """The query string as its Struct; lists are repeated or comma-separated.

    Raises 400 with a pointer to the parameter.
    """
    return (kept if len(raw) <= MAX_KEPT_LENGTH else decode_query)(raw, struct)


def decode_query(raw: bytes, struct: Any) -> Any:
    """Read a query string by the types of its Struct's fields."""
    readers = readers_of(struct)
    given: dict[str, Any] = {}
    for name, value in query_pairs(raw):
        read = readers.get(name, str)
        if read is split_list:
            given.setdefault(name, []).extend(split_list(value))
        elif name in given:
            raise RefusedError(field_refusal(f"/{name}", f"{name} is given twice."))
        else:
            given[name] = read(value)
    try:
        return msgspec.convert(given, struct)
    except msgspec.ValidationError as error:
        raise invalid(error) from error


kept = lru_cache(MAX_KEPT_QUERIES)(decode_query)


def query_pairs(raw: bytes) -> list[tuple[str, str]]:
    """The parameters in the order sent."""
    try:
        return parse_qsl(raw.decode(), keep_blank_values=True, errors="strict")
    except ValueError as error:
        detail = "The query string is not percent-encoded UTF-8."
        raise refused(Code.VALIDATION_FAILED, detail) from error


def split_list(text: str) -> list[str]:
    """A comma-separated list; empty parts name nothing."""
    return [part for part in text.split(",") if part]


def read_whole(text: str) -> Any:
    """A whole number, or the text as it is, for its type to refuse."""
    return int(text) if re.fullmatch(r"-?[0-9]{1,20}", text) else text


def read_number(text: str) -> Any:
    """A number, or the text as it is."""
    return float(text) if re.fullmatch(r"-?[0-9]{1,20}(\.[0-9]{1,20})?", text) else text


def read_switch(text: str) -> Any:
    """`true` or `false`, or the text as it is."""
    return {"true": True, "false": False}.get(text, text)


READERS: dict[type[msgspec.inspect.Type], Read] = {
    msgspec.inspect.ListType: split_list,
    msgspec.inspect.IntType: read_whole,
    msgspec.inspect.FloatType: read_number,
    msgspec.inspect.BoolType: read_switch,
}


@cache
def readers_of(struct: Any) -> dict[str, Read]:
    """How each of a query Struct's parameters is read, unless it is text."""
    info: Any = msgspec.inspect.type_info(struct)
    return {
        field.encode_name: READERS[type(kind)]
        for field in info.fields
        for kind in getattr(field.type, "types", [field.type])
        if type(kind) in READERS
    }
