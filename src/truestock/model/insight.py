"""What systems read to compare their figures with ours."""

from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import Meta

from truestock.config import MAX_PAGE
from truestock.model.stock import Name

PageSize = Annotated[int, Meta(ge=1, le=MAX_PAGE)]


class LevelQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`GET /v1/stock/levels`."""

    sku: list[Name] | None = None
    location: list[Name] | None = None
    cursor: Annotated[str, Meta(max_length=2_000)] | None = None
    limit: PageSize = MAX_PAGE


class LevelAnswer(msgspec.Struct):
    """One level, in base units; held counts what is live now."""

    sku: str
    location: str
    on_hand: int
    unavailable: int
    held: int
    allocated: int
    safety_stock: int
    available: int
    shortage: int
    version: int
    counted_at: datetime | None


class LevelList(msgspec.Struct, omit_defaults=True):
    """A page of levels by (sku, location)."""

    levels: list[LevelAnswer]
    cursor: str | None = None


class MovementQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`GET /v1/ledger/movements`: those with a seq above `after`, oldest first."""

    sku: list[Name] | None = None
    location: list[Name] | None = None
    after: Annotated[int, Meta(ge=0, le=2**62)] = 0
    cursor: Annotated[int, Meta(ge=0, le=2**62)] | None = None
    limit: PageSize = 100


class MovementAnswer(msgspec.Struct):
    """One immutable change of one bucket."""

    seq: int
    sku: str
    location: str
    bucket: str
    delta: int
    balance: int
    kind: str
    source: str | None
    reference: str | None
    occurred_at: datetime
    recorded_at: datetime


class MovementList(msgspec.Struct, omit_defaults=True):
    """A page of movements; the cursor is the last seq while more follow."""

    movements: list[MovementAnswer]
    cursor: str | None = None


class SourceBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`PUT /v1/sources/{source}`: which locations it may write (none named: all)."""

    locations: Annotated[list[Name], Meta(max_length=10_000)] | None = None
    expected_interval_seconds: Annotated[int, Meta(ge=1, le=31_536_000)] | None = None


class SourceDocument(SourceBody, frozen=True, kw_only=True):
    """A source as it was put."""

    source: str


class SourceAnswer(msgspec.Struct):
    """How a source does. lag_seconds: how old its newest fact was when it was last heard."""

    source: str
    expected_interval_seconds: int | None
    last_heard_at: datetime | None
    last_occurred_at: datetime | None
    applied: int
    duplicate: int
    superseded: int
    rejected: int
    locations: list[str] | None
    lag_seconds: float | None = None
    stale: bool = False


class SourceList(msgspec.Struct, omit_defaults=True):
    """A page of sources by name."""

    sources: list[SourceAnswer]
    cursor: str | None = None
