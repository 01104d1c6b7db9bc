"""A valid request to each endpoint, and ways to spoil it."""

from collections.abc import Iterator
from typing import Any

import msgspec
from tests.api.shop import Json, Shop, ago, fresh

Path = tuple[str | int, ...]


class Example(msgspec.Struct):
    """A request that the service takes; its body may be spoilt."""

    method: str
    path: str
    body: Json = None
    params: dict[str, str] = {}
    status: int = 200

    @property
    def name(self) -> str:
        """How a test names it."""
        return f"{self.method} {self.path}"


DESTINATION = {"latitude": 59.9, "longitude": 10.7, "country": "NO", "postal_code": "0150"}

LOCATION = {
    "name": "Oslo S",
    "kind": "store",
    "latitude": 59.9,
    "longitude": 10.7,
    "address": {"street": "Jernbanetorget 1", "city": "Oslo"},
    "time_zone": "Europe/Oslo",
    "opening_hours": {"mon": [["09:00", "12:00"], ["13:00", "20:00"]]},
    "closures": [{"date": "2026-12-25"}, {"date": "2026-12-24", "hours": [["09:00", "13:00"]]}],
    "pickup": {
        "enabled": True,
        "lead_minutes": 60,
        "hold_days": 3,
        "slot_minutes": 30,
        "slot_capacity": 8,
    },
    "ship_from": {
        "enabled": True,
        "cut_off": "15:00",
        "daily_capacity": 40,
        "handling_cost": {"amount": 150, "currency": "NOK"},
        "cost_per_km": {"amount": 2, "currency": "NOK"},
    },
    "status": "active",
}

ITEM = {
    "name": "A tee",
    "gtin": "4006381333931",
    "category": "tops",
    "image_url": "https://example.com/tee.jpg",
    "weight_grams": 180,
    "price": {"amount": 1999, "currency": "EUR"},
    "status": "active",
}


def bodies(shop: Shop) -> list[Example]:
    """Requests with a body, one for each endpoint that takes one."""
    line = shop.line(1)
    near = {"latitude": 59.9, "longitude": 10.7, "radius_km": 5.5, "limit": 3}
    query = {
        "skus": [shop.sku],
        "locations": [shop.location],
        "groups": [],
        "channel": "web",
        "method": "pickup",
        "near": near,
        "horizon_days": 3,
        "consistency": "strong",
    }
    event = shop.event("receipt", 1, reason="why", reference="what")
    key = {
        "name": "key",
        "scopes": ["insight:read"],
        "sources": ["erp"],
        "locations": [shop.location],
        "expires_at": ago(-60),
    }
    buffer = {
        "channel": "none",
        "method": "pickup",
        "location": shop.location,
        "category": "tops",
        "sku": shop.sku,
        "safety_stock": 1,
        "max_sellable": 5,
    }
    return [
        Example("POST", "/v1/availability/query", query),
        *documents(shop, line),
        Example("POST", "/v1/stock/events", {"source": shop.source, "events": [event]}),
        Example("POST", "/v1/keys", key, status=201),
        Example("PUT", f"/v1/items/{shop.sku}", ITEM),
        Example("PUT", "/v1/items", {"items": [ITEM | {"sku": shop.sku}]}),
        Example("PUT", f"/v1/locations/{shop.locations[2]}", LOCATION),
        Example("PUT", "/v1/locations", {"locations": [LOCATION | {"location": fresh("place")}]}),
        Example("PUT", f"/v1/location-groups/{fresh('group')}", {"locations": [shop.location]}),
        Example("PUT", "/v1/buffers", [buffer]),
        Example(
            "PUT",
            f"/v1/sources/{fresh('source')}",
            {"locations": [shop.location], "expected_interval_seconds": 60},
        ),
    ]


def documents(shop: Shop, line: dict[str, Any]) -> list[Example]:
    """Requests about a reservation that stays `held`; confirm's order names lines not held."""
    path = "/v1/reservations/{reservation}"
    order = {
        "order_id": "never",
        "channel": "web",
        "reservation_id": "whatever",
        "lines": [line | {"quantity": 7}],
        "method": "pickup",
        "pickup_location": shop.location,
        "destination": DESTINATION,
        "needed_by": ago(-600),
        "customer": {"name": "Ada", "contact": "ada@example.com"},
        "max_splits": 1,
    }
    cart = shop.cart(
        line,
        customer_id="c1",
        ttl_seconds=60,
        method="ship",
        destination=DESTINATION,
        allow_partial=False,
    )
    return [
        Example("POST", "/v1/reservations", cart, status=201),
        Example("PUT", f"{path}/lines", {"lines": [line]}),
        Example("POST", f"{path}/extend", {"ttl_seconds": 60}),
        Example("POST", f"{path}/confirm", order, status=400),
    ]


def queries(shop: Shop) -> list[Example]:
    """Requests with query parameters."""
    place = {"latitude": "59.9", "longitude": "10.7", "radius_km": "5.5", "limit": "3"}
    terms = {"locations": shop.location, "groups": "", "channel": "web", "method": "pickup"}
    more = {"horizon_days": "3", "consistency": "cached"}
    page = {"cursor": "a", "limit": "5"}
    ledger = {"sku": shop.sku, "location": shop.location, "limit": "5"}
    return [
        Example("GET", f"/v1/availability/{shop.sku}", params=terms | place | more),
        Example("GET", "/v1/stock/levels", params=ledger),
        Example("GET", "/v1/ledger/movements", params=ledger | {"after": "0"}),
        Example("GET", "/v1/ledger/movements", params=ledger | {"cursor": "0"}),
        Example("GET", "/v1/items", params=page),
        Example("GET", "/v1/locations", params=page),
        Example("GET", "/v1/keys", params=page),
        Example("GET", "/v1/sources", params=page),
    ]


# Spoiling -------------------------------------------------------------------

# Whatever a field takes, most of these are wrong for it; as JSON text.
POISONS: dict[str, bytes] = {
    "null": b"null",
    "true": b"true",
    "a fraction": b"1.5",
    "a float": b"1.0",
    "minus one": b"-1",
    "zero": b"0",
    "2^31": b"2147483648",
    "2^63": b"9223372036854775808",
    "400 digits": b"1" + b"0" * 400,
    "5000 digits": b"9" * 5000,
    "1e400": b"1e400",
    "an empty text": b'""',
    "NUL": b'"a\\u0000b"',
    "a line break": b'"a\\n"',
    "DEL": b'"\\u007f"',
    "a long text": b'"' + b"x" * 9000 + b'"',
    "a number as text": b'"5"',
    "an empty list": b"[]",
    "a list of lists": b"[[[]]]",
    "an object": b"{}",
    "a foreign object": b'{"a":{"b":[null]}}',
    "a date without offset": b'"2026-11-22T10:00:00"',
    "a day": b'"2026-11-22"',
    "the year 1": b'"0001-01-01T00:00:00+14:00"',
    "the year 9999": b'"9999-12-31T23:59:59-14:00"',
    "deep lists": b"[" * 100_000 + b"]" * 100_000,
    "deep objects": b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
    "broken UTF-8": b'"a\xffb"',
    "a surrogate in UTF-8": b'"\xed\xa0\x80"',
    "half a surrogate pair": b'"\\ud800"',
    "the other half": b'"\\udc00"',
    "ten thousand": b'["x"' + b',"x"' * 9_999 + b"]",
    "an emoji": '"🧦"'.encode(),
}


def places(body: Json, path: Path = ()) -> Iterator[Path]:
    """Every place in a body, the whole of it too."""
    yield path
    if isinstance(body, dict):
        for name, value in body.items():
            yield from places(value, (*path, name))
    elif isinstance(body, list):
        for number, value in enumerate(body):
            yield from places(value, (*path, number))


def spoilt(body: Json, path: Path, poison: bytes) -> bytes:
    """The body's JSON with something else at one place."""
    if not path:
        return poison
    head, *rest = path
    if isinstance(body, dict):
        parts = [
            msgspec.json.encode(name)
            + b":"
            + (spoilt(value, tuple(rest), poison) if name == head else msgspec.json.encode(value))
            for name, value in body.items()
        ]
        return b"{" + b",".join(parts) + b"}"
    parts = [
        spoilt(value, tuple(rest), poison) if number == head else msgspec.json.encode(value)
        for number, value in enumerate(body)
    ]
    return b"[" + b",".join(parts) + b"]"


def objects(body: Json) -> Iterator[Path]:
    """The places of all objects in a body."""
    for path in places(body):
        if isinstance(at(body, path), dict):
            yield path


def at(body: Json, path: Path) -> Json:
    """What is at a place."""
    for part in path:
        body = body[part]
    return body


def pointer(path: Path) -> str:
    """A place as a JSON pointer."""
    return "".join(f"/{part}" for part in path)
