"""Availability as callers ask for it and read it."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from truestock.config import MAX_QUERY_LOCATIONS, MAX_QUERY_SKUS
from truestock.model.buffers import BufferRule, sellable
from truestock.model.reservation import Method
from truestock.model.stock import Figures, Name

Status = Literal["in_stock", "low_stock", "out_of_stock", "not_stocked"]
Consistency = Literal["cached", "strong"]
RadiusKm = Annotated[float, Meta(gt=0, le=20_040)]
NearLimit = Annotated[int, Meta(ge=1, le=1_000)]
HorizonDays = Annotated[int, Meta(ge=1, le=90)]
Latitude = Annotated[float, Meta(ge=-90, le=90)]
Longitude = Annotated[float, Meta(ge=-180, le=180)]


class Near(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Only locations within radius_km of a point (degrees), the nearest `limit` that stock it."""

    latitude: Latitude
    longitude: Longitude
    radius_km: RadiusKm = 50.0
    limit: NearLimit = 50


class AvailabilityQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`POST /v1/availability/query`."""

    skus: Annotated[list[Name], Meta(min_length=1, max_length=MAX_QUERY_SKUS)]
    locations: Annotated[list[Name], Meta(max_length=MAX_QUERY_LOCATIONS)] | None = None
    groups: Annotated[list[Name], Meta(max_length=MAX_QUERY_LOCATIONS)] | None = None
    channel: Name | None = None
    method: Method | None = None
    near: Near | None = None
    horizon_days: HorizonDays | None = None
    consistency: Consistency = "cached"


class ItemQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`GET /v1/availability/{sku}`: the same as parameters; near's parts by their own names."""

    locations: Annotated[list[Name], Meta(max_length=MAX_QUERY_LOCATIONS)] | None = None
    groups: Annotated[list[Name], Meta(max_length=MAX_QUERY_LOCATIONS)] | None = None
    channel: Name | None = None
    method: Method | None = None
    latitude: Latitude | None = None
    longitude: Longitude | None = None
    radius_km: RadiusKm | None = None
    limit: NearLimit | None = None
    horizon_days: HorizonDays | None = None
    consistency: Consistency = "cached"


class LocationAvailability(msgspec.Struct, omit_defaults=True):
    """One location's figures, in base units; available and sellable are never below zero."""

    location: str
    on_hand: int
    unavailable: int
    held: int
    allocated: int
    safety_stock: int
    available: int
    sellable: int
    status: Status
    distance_km: float | None = None


class Totals(msgspec.Struct):
    """The sums over the locations that are answered."""

    on_hand: int = 0
    unavailable: int = 0
    held: int = 0
    allocated: int = 0
    safety_stock: int = 0
    available: int = 0
    sellable: int = 0

    def add(self, at: LocationAvailability) -> None:
        """Take in one location."""
        self.on_hand += at.on_hand
        self.unavailable += at.unavailable
        self.held += at.held
        self.allocated += at.allocated
        self.safety_stock += at.safety_stock
        self.available += at.available
        self.sellable += at.sellable


class ItemAvailability(msgspec.Struct):
    """One item's figures; an item that nobody knows has none."""

    sku: str
    known: bool
    totals: Totals
    locations: list[LocationAvailability]


class AvailabilityAnswer(msgspec.Struct):
    """as_of_seq: the newest of the ledger's seqs that the figures include."""

    as_of_seq: int
    items: list[ItemAvailability]


def at_location(
    location: str,
    level: Figures | None,
    buffer: BufferRule,
    low_stock: int,
    far: float | None = None,
) -> LocationAvailability:
    """One location's figures, out of its level (None: not stocked there)."""
    if level is None:
        return LocationAvailability(location, 0, 0, 0, 0, 0, 0, 0, "not_stocked", far)
    left = sellable(level.free, buffer)
    status: Status = "in_stock"
    if left <= low_stock:
        status = "low_stock" if left > 0 else "out_of_stock"
    return LocationAvailability(
        location,
        level.on_hand,
        level.unavailable,
        level.held,
        level.allocated,
        level.safety_stock,
        max(level.free, 0),
        left,
        status,
        far,
    )
