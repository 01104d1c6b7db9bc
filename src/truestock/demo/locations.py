"""Where the demo retailer is: real postal codes, and locations in API.md's shape at them.

Cities are drawn by how many postal codes they have, which is where people live.
"""

import random
import re
from collections import defaultdict
from datetime import date, timedelta
from functools import cache
from typing import Any

import msgspec
import zipcodes

from truestock.demo import words
from truestock.demo.words import Hours, Json

MAX_STORES = 2_000
MAX_WAREHOUSES = len(words.HUBS)

NOT_SERVED = {"PR", "VI", "GU", "AS", "MP", "FM", "PW", "MH", "AA", "AE", "AP"}


class Place(msgspec.Struct, frozen=True):
    """One real postal code. `zips` is how many its city has, which stands in for its people."""

    city: str
    state: str
    zip_code: str
    latitude: float
    longitude: float
    time_zone: str
    zips: int


def draw_locations(
    dice: random.Random, stores: int, warehouses: int, year: int
) -> tuple[list[Json], list[float]]:
    """Stores, then warehouses, then `ecom-us`; and each one's size, 1.0 being the usual store's.

    `year` is the year whose holidays are closures.
    """
    chosen = _store_places(dice, stores)
    hubs = [_cities()[hub][0] for hub in words.HUBS[:warehouses]]
    return [
        *(_store(dice, code, place, year) for code, place in chosen.items()),
        *(_warehouse(dice, place, year) for place in hubs),
        _ecommerce(hubs[0]),
    ], [*_store_sizes(dice, list(chosen.values())), *[1.0] * (warehouses + 1)]


def usd(cents: int) -> Json:
    """Money in API.md's shape."""
    return {"amount": cents, "currency": "USD"}


@cache
def _cities() -> dict[tuple[str, str], tuple[Place, ...]]:
    """Every (city, state) with two postal codes or more, and its places by postal code.

    A city with one is as often a hamlet as a suburb, so it gets no store.
    """
    found: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    records = zipcodes.filter_by(  # type: ignore[no-untyped-call]  # it ships no types
        zip_code_type="STANDARD", active=True, country="US"
    )
    for record in sorted(records, key=lambda record: record["zip_code"]):
        # A few records have no coordinates: theirs are zero.
        if record["state"] not in NOT_SERVED and float(record["lat"]):
            found[record["city"], record["state"]].append(record)
    return {
        city: tuple(_place(record, len(records)) for record in records)
        for city, records in sorted(found.items())
        if len(records) > 1
    }


def _place(record: dict[str, Any], zips: int) -> Place:
    return Place(
        city=record["city"],
        state=record["state"],
        zip_code=record["zip_code"],
        latitude=float(record["lat"]),
        longitude=float(record["long"]),
        time_zone=record["timezone"],
        zips=zips,
    )


def _store_places(dice: random.Random, stores: int) -> dict[str, Place]:
    """Where the stores stand, by location code: a second store of a city comes after every first.

    Sorting by an exponential draw with a city's weight as its rate picks cities in proportion to
    their weight, none twice (Efraimidis and Spirakis, 2006).
    """
    cities = sorted(_cities().values(), key=lambda city: dice.expovariate(len(city)))
    shuffled = [dice.sample(city, len(city)) for city in cities]
    chosen: dict[str, Place] = {}
    for nth in range(max(map(len, shuffled))):
        for place in [city[nth] for city in shuffled if nth < len(city)]:
            if len(chosen) == stores:
                return chosen
            chosen[_code("store", place) + (f"-{nth + 1}" if nth else "")] = place
    return chosen


def _store_sizes(dice: random.Random, chosen: list[Place]) -> list[float]:
    # A store in a large city is larger, but nothing like as much larger as the city.
    usual = sum(place.zips**0.35 for place in chosen) / len(chosen)
    return [place.zips**0.35 / usual * dice.lognormvariate(0.0, 0.25) for place in chosen]


def _code(prefix: str, place: Place) -> str:
    return re.sub(r"[^a-z0-9]+", "-", f"{prefix} {place.city} {place.state}".lower())


def _store(dice: random.Random, code: str, place: Place, year: int) -> Json:
    street = dice.choice(words.STREETS)
    hours = dice.choice(words.STORE_HOURS)
    located = _located(place, f"{dice.randrange(100, 4_000)} {street}")
    return located | {
        "location": code,
        "name": f"{place.city} {street}",
        "kind": "store",
        "opening_hours": hours,
        "closures": _closures(year, hours),
        "pickup": {
            "enabled": dice.random() < 0.95,
            "lead_minutes": dice.choice((60, 120, 180)),
            "hold_days": dice.choice((3, 5, 7)),
            "slot_minutes": dice.choice((30, 60)),
            "slot_capacity": dice.randrange(6, 21),
        },
        "ship_from": _ship_from(
            enabled=dice.random() < 0.7,
            daily_capacity=dice.randrange(20, 61, 5),
            handling_cents=dice.randrange(250, 451, 25),
        ),
    }


def _warehouse(dice: random.Random, place: Place, year: int) -> Json:
    located = _located(place, f"{dice.randrange(100, 4_000)} Commerce Street")
    return located | {
        "location": _code("wh", place),
        "name": f"{place.city} Warehouse",
        "kind": "warehouse",
        "opening_hours": words.WAREHOUSE_HOURS,
        "closures": _closures(year, words.WAREHOUSE_HOURS),
        "pickup": _no_pickup(),
        "ship_from": _ship_from(enabled=True, daily_capacity=5_000, handling_cents=140),
    }


def _ecommerce(hub: Place) -> Json:
    # The web shop's own stock lies in a reserved part of the first warehouse.
    return _located(hub, "1 Commerce Street") | {
        "location": "ecom-us",
        "name": "Web Shop",
        "kind": "ecommerce",
        "opening_hours": words.ECOMMERCE_HOURS,
        "closures": [],
        "pickup": _no_pickup(),
        "ship_from": _ship_from(enabled=True, daily_capacity=2_000, handling_cents=160),
    }


def _located(place: Place, street: str) -> Json:
    return {
        "latitude": place.latitude,
        "longitude": place.longitude,
        "address": f"{street}, {place.city}, {place.state} {place.zip_code}",
        "time_zone": place.time_zone,
        "status": "active",
    }


def _no_pickup() -> Json:
    return {
        "enabled": False,
        "lead_minutes": 0,
        "hold_days": 1,
        "slot_minutes": 60,
        "slot_capacity": 1,
    }


def _ship_from(*, enabled: bool, daily_capacity: int, handling_cents: int) -> Json:
    return {
        "enabled": enabled,
        "cut_off": "15:00",
        "daily_capacity": daily_capacity,
        "handling_cost": usd(handling_cents),
        "cost_per_km": usd(1),
    }


def _closures(year: int, hours: Hours) -> list[Json]:
    first = date(year, 11, 1)
    thanksgiving = first + timedelta(days=(3 - first.weekday()) % 7 + 21)  # the fourth Thursday
    closures: list[Json] = [{"date": thanksgiving.isoformat()}, {"date": f"{year}-12-25"}]
    # Christmas Eve ends at four, but opens no door that is shut on that weekday anyway.
    if today := hours.get(words.WEEKDAYS[date(year, 12, 24).weekday()]):
        closures.insert(1, {"date": f"{year}-12-24", "hours": [[today[0][0], "16:00"]]})
    return closures
