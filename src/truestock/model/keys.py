"""API keys as callers ask for them and read of them."""

from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import Meta

from truestock.model.caller import Scope
from truestock.model.stock import Instant, Name


class KeyRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`POST /v1/keys`."""

    name: Name
    scopes: Annotated[list[Scope], Meta(min_length=1)]
    sources: Annotated[list[Name], Meta(max_length=1_000)] = []
    locations: Annotated[list[Name], Meta(max_length=1_000)] = []
    expires_at: Instant | None = None


class NewKey(msgspec.Struct):
    """The answer that shows a key, once."""

    key_id: str
    key: str


class KeyInfo(msgspec.Struct):
    """A key without its secret."""

    key_id: str
    name: str
    scopes: list[str]
    sources: list[str]
    locations: list[str]
    expires_at: datetime | None
    created_at: datetime


class KeyList(msgspec.Struct, omit_defaults=True):
    """A page of keys; cursor is there while more follow."""

    keys: list[KeyInfo]
    cursor: str | None = None


class PageQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a list goes on, and how much of it to give."""

    cursor: Name | None = None
    limit: Annotated[int, Meta(ge=1, le=1_000)] = 100
