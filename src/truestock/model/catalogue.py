"""Reference data as callers put it: items and locations, with what makes them valid."""

from datetime import date, datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from truestock.config import MAX_QUANTITY
from truestock.model.stock import END, Name, ShortText

# Hours and minutes of a day; 24:00 is its end.
ClockTime = Annotated[str, Meta(pattern=r"^(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)" + END)]
Span = tuple[ClockTime, ClockTime]
Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
MinorUnits = Annotated[int, Meta(ge=0, le=10**15)]
Count = Annotated[int, Meta(ge=0, le=MAX_QUANTITY)]


class Money(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An amount in minor units of an ISO 4217 currency."""

    amount: MinorUnits
    currency: Annotated[str, Meta(pattern=r"^[A-Z]{3}" + END)]


class Closure(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """A date that is closed, or has hours of its own."""

    date: date
    hours: list[Span] | None = None


class Pickup(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """How customers collect here; lead_minutes run in open minutes."""

    enabled: bool = True
    lead_minutes: Count | None = None
    hold_days: Count | None = None
    slot_minutes: Annotated[int, Meta(ge=1, le=1440)] | None = None
    slot_capacity: Count | None = None


class ShipFrom(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """How orders are sent from here; costs are for one order and for a kilometre."""

    enabled: bool = True
    cut_off: ClockTime | None = None
    daily_capacity: Count | None = None
    handling_cost: Money | None = None
    cost_per_km: Money | None = None


class LocationBody(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """`PUT /v1/locations/{location}`; the code may stand in the body too, as bulk entries need."""

    kind: Literal["store", "warehouse", "ecommerce", "supplier"] = msgspec.field(default="store")
    name: ShortText | None = None
    location: Name | None = None
    latitude: Annotated[float, Meta(ge=-90, le=90)] | None = None
    longitude: Annotated[float, Meta(ge=-180, le=180)] | None = None
    address: ShortText | dict[ShortText, ShortText | None] | None = None
    time_zone: ShortText | None = None
    opening_hours: dict[Day, list[Span]] | None = None
    closures: list[Closure] | None = None
    pickup: Pickup | None = None
    ship_from: ShipFrom | None = None
    status: Literal["active", "paused", "closed"] = msgspec.field(default="active")


class ItemBody(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """`PUT /v1/items/{sku}`; the sku may stand in the body too, as bulk entries need."""

    sku: Name | None = None
    name: ShortText | None = None
    gtin: Annotated[str, Meta(pattern=r"^([0-9]{8}|[0-9]{12,14})" + END)] | None = None
    category: Name | None = None
    image_url: (
        Annotated[str, Meta(max_length=2048, pattern=r"^https?://[^\s\x00-\x1f]+" + END)] | None
    ) = None
    weight_grams: Count | None = None
    price: Money | None = None
    status: Literal["active", "inactive", "discontinued"] = msgspec.field(default="active")


class LocationDocument(LocationBody, frozen=True, omit_defaults=True, kw_only=True):
    """A location as it was put, with the time of its last change."""

    updated_at: datetime


class ItemDocument(ItemBody, frozen=True, omit_defaults=True, kw_only=True):
    """An item as it was put, with the time of its last change."""

    updated_at: datetime


class LocationList(msgspec.Struct, omit_defaults=True):
    """A page of locations by code; cursor is there while more follow."""

    locations: list[LocationDocument]
    cursor: str | None = None


class ItemList(msgspec.Struct, omit_defaults=True):
    """A page of items by sku; cursor is there while more follow."""

    items: list[ItemDocument]
    cursor: str | None = None


Fault = tuple[str, str]


def location_fault(body: LocationBody, time_zones: frozenset[str]) -> Fault | None:
    """What is wrong with a location that its types cannot say: (pointer, detail), or None."""
    if (body.latitude is None) != (body.longitude is None):
        missing = "latitude" if body.latitude is None else "longitude"
        return f"/{missing}", "latitude and longitude go together."
    if body.time_zone is not None and body.time_zone not in time_zones:
        return "/time_zone", f"{body.time_zone!r} is not an IANA time zone."
    for day, spans in (body.opening_hours or {}).items():
        if fault := spans_fault(spans):
            return f"/opening_hours/{day}", fault
    for number, closure in enumerate(body.closures or ()):
        if fault := spans_fault(closure.hours or []):
            return f"/closures/{number}/hours", fault
    return None


def spans_fault(spans: list[Span]) -> str | None:
    """Why these are not hours of one day, in order and apart; or None."""
    end = ""
    for opens, closes in spans:
        if opens >= closes:
            return f"{opens} to {closes} ends before it begins; hours over midnight are two days'."
        if opens < end:
            return f"{opens} to {closes} overlaps the hours before it."
        end = closes
    return None


def item_fault(body: ItemBody) -> Fault | None:
    """What is wrong with an item that its types cannot say: (pointer, detail), or None."""
    if body.gtin is not None and (digit := check_digit(body.gtin[:-1])) != int(body.gtin[-1]):
        return "/gtin", f"The check digit of {body.gtin} is {body.gtin[-1]}; it should be {digit}."
    return None


def check_digit(digits: str) -> int:
    """GS1's check digit: weights 3 and 1 from the right (GS1 General Specifications, 7.9)."""
    total = sum(int(d) * (3 if n % 2 == 0 else 1) for n, d in enumerate(reversed(digits)))
    return -total % 10


class BulkResult(msgspec.Struct, frozen=True, omit_defaults=True):
    """What became of one entry of a bulk request."""

    status: Literal["created", "updated", "rejected"]
    sku: str | None = None
    location: str | None = None
    code: str | None = None
    detail: str | None = None
    pointer: str | None = None


def as_stored(body: Any) -> bytes:
    """A body as the database keeps it."""
    return msgspec.json.encode(body)
