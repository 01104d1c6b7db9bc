"""A retailer to try the service with: its locations, items and stock, and its systems' feeds.

1. Places: US cities are drawn by how many postal codes they have, which is where people live.
2. Items: names are drawn from each category's words, none twice, with GTINs for internal use.
3. Demand: Zipf's law over the items, so that a few of them make most of the sales.
4. Stock: each store ranges the items that its shelves have room for, the popular ones first;
   most levels are a handful of units, warehouses are deep.
5. Tills: sales drawn by demand, in the hours after the snapshot, some late and some sent twice.

Everything follows from the seed and from `as_of`: no clock, no global randomness. Quantities are
units, money is US cents. The same seed gives the same bytes with the same numpy, zipcodes and zlib.
"""

import csv
import gzip
import io
import math
import random
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import numpy as np

from truestock.demo import locations as places
from truestock.demo import stock as shelves
from truestock.demo import words
from truestock.demo.words import Json

MAX_ITEMS = 50_000  # each of the twelve categories has words for 5,120 names
BULK_LIMIT = 1_000  # API.md: a bulk PUT takes this many entries
ROW_BLOCK = 65_536  # rows that are Python objects at the same time
SNAPSHOT_HEADER = ("sku", "location", "on_hand", "safety_stock", "unavailable")


class Retailer(msgspec.Struct, frozen=True, eq=False):
    """Everything that was made up, in API.md's own shapes where it goes over the wire.

    `demand` is each item's share of the units sold (sums to 1). `events` stand in the order in
    which the tills send them, repeats included.
    """

    as_of: datetime
    locations: list[Json]
    items: list[Json]
    demand: shelves.Share
    stock: shelves.Stock
    events: list[Json]


class Feeds(msgspec.Struct, frozen=True):
    """Where the feeds lie and how much is in them.

    Each file of `locations` and `items` holds at most BULK_LIMIT entries: it is one PUT's body.
    """

    as_of: datetime
    snapshot: Path
    events: Path
    locations: tuple[Path, ...]
    items: tuple[Path, ...]
    snapshot_rows: int
    event_lines: int
    location_count: int
    item_count: int


def generate(
    seed: int, *, as_of: datetime, stores: int = 120, warehouses: int = 4, items: int = 2000
) -> Retailer:
    """Make up a retailer whose stock was counted at `as_of`; closures are those of its year.

    There is always one e-commerce location more, `ecom-us`. Raises ValueError for an `as_of`
    without an offset, a negative seed, or a size outside 1 to its MAX_.
    """
    _check(seed, as_of, stores=stores, warehouses=warehouses, items=items)
    as_of = as_of.astimezone(UTC)
    located, sizes = places.draw_locations(_dice(seed, "locations"), stores, warehouses, as_of.year)
    goods = _items(_dice(seed, "items"), items)
    rng = np.random.default_rng(seed)
    demand = shelves.draw_demand(rng, items)
    stock = shelves.draw_stock(rng, [location["kind"] for location in located], sizes, demand)
    drawn = shelves.draw_till_day(rng, stock, sizes, demand, stores)
    codes = [location["location"] for location in located]
    skus = [item["sku"] for item in goods]
    played = shelves.play_till_day(stock, drawn, codes, skus, as_of)
    events = shelves.as_sent(rng, played, drawn)
    return Retailer(as_of, located, goods, demand, stock, events)


def snapshot_rows(retailer: Retailer) -> Iterator[tuple[str, str, int, int, int]]:
    """Each level as (sku, location, on_hand, safety_stock, unavailable), by location and sku."""
    skus = [item["sku"] for item in retailer.items]
    codes = [location["location"] for location in retailer.locations]
    stock = retailer.stock
    for start in range(0, len(stock.item), ROW_BLOCK):
        block = slice(start, start + ROW_BLOCK)
        yield from zip(
            map(skus.__getitem__, stock.item[block].tolist()),
            map(codes.__getitem__, stock.location[block].tolist()),
            stock.on_hand[block].tolist(),
            stock.safety_stock[block].tolist(),
            stock.unavailable[block].tolist(),
            strict=True,
        )


def write_feeds(retailer: Retailer, folder: Path) -> Feeds:
    """Write what the ERP and the tills would send into `folder`, over what is there."""
    folder.mkdir(parents=True, exist_ok=True)
    snapshot, events = folder / "snapshot.csv.gz", folder / "till-events.ndjson"
    _write_snapshot(retailer, snapshot)
    events.write_bytes(msgspec.json.Encoder().encode_lines(retailer.events))
    return Feeds(
        as_of=retailer.as_of,
        snapshot=snapshot,
        events=events,
        locations=_write_bulk(folder, "locations", retailer.locations),
        items=_write_bulk(folder, "items", retailer.items),
        snapshot_rows=len(retailer.stock.item),
        event_lines=len(retailer.events),
        location_count=len(retailer.locations),
        item_count=len(retailer.items),
    )


def _write_snapshot(retailer: Retailer, path: Path) -> None:
    # Neither the time nor the name goes into gzip's header, so the bytes follow from the rows.
    with (
        path.open("wb") as raw,
        gzip.GzipFile("", "wb", compresslevel=6, fileobj=raw, mtime=0) as packed,
        io.TextIOWrapper(packed, encoding="ascii", newline="") as text,
    ):
        rows = csv.writer(text, lineterminator="\n")
        rows.writerow(SNAPSHOT_HEADER)
        rows.writerows(snapshot_rows(retailer))


def _write_bulk(folder: Path, noun: str, entries: list[Json]) -> tuple[Path, ...]:
    """Write `noun`.json, and `noun`-2.json and so on for what one bulk PUT cannot take."""
    paths = []
    for start in range(0, len(entries), BULK_LIMIT):
        nth = start // BULK_LIMIT + 1
        path = folder / (f"{noun}.json" if nth == 1 else f"{noun}-{nth}.json")
        path.write_bytes(msgspec.json.encode({noun: entries[start : start + BULK_LIMIT]}) + b"\n")
        paths.append(path)
    return tuple(paths)


def gtin(number: int) -> str:
    """GTIN-13 of the retailer's own `number` (10 digits), with its check digit.

    The prefix 20 is one that GS1 leaves to use inside a company, so no real product has it.
    """
    digits = f"20{number:010d}"
    total = sum(int(digit) * (3 if place % 2 else 1) for place, digit in enumerate(digits))
    return f"{digits}{-total % 10}"


def _check(seed: int, as_of: datetime, **sizes: int) -> None:
    if seed < 0:
        raise ValueError(f"seed must be 0 or more, not {seed}")
    if as_of.utcoffset() is None:
        raise ValueError("as_of needs an offset: pass an aware datetime")
    most = {"stores": places.MAX_STORES, "warehouses": places.MAX_WAREHOUSES, "items": MAX_ITEMS}
    for name, size in sizes.items():
        if not 1 <= size <= most[name]:
            raise ValueError(f"{name} must be 1 to {most[name]}, not {size}")


def _dice(seed: int, purpose: str) -> random.Random:
    # Each purpose has its own dice, so that one store more leaves every item as it was.
    return random.Random(f"{seed}:{purpose}")  # noqa: S311 - demo data, not secrets


def _items(dice: random.Random, items: int) -> list[Json]:
    """The items, with each category in turn; no two have the same name."""
    turns = len(words.CATEGORIES)
    names = [
        iter(_names(dice, category, math.ceil(items / turns))) for category in words.CATEGORIES
    ]
    return [
        _item(dice, number, words.CATEGORIES[number % turns], next(names[number % turns]))
        for number in range(items)
    ]


def _item(dice: random.Random, number: int, category: words.Category, name: str) -> Json:
    dollars = _between(dice, category.cents) // 100
    return {
        "sku": f"TS-{number + 1:06d}",
        "name": name,
        "gtin": gtin(number + 1),
        "category": category.name,
        "weight_grams": _between(dice, category.grams),
        "price": places.usd(dollars * 100 + 99),
        "status": "active",
    }


def _names(dice: random.Random, category: words.Category, wanted: int) -> list[str]:
    """`wanted` different names: each number below the product of the lists is one combination."""
    lists = (words.LINES, category.materials, category.nouns, category.variants)
    numbers = dice.sample(range(math.prod(map(len, lists))), wanted)
    return [_name(number, lists) for number in numbers]


def _name(number: int, lists: Sequence[Sequence[str]]) -> str:
    parts = []
    for choices in lists:
        number, at = divmod(number, len(choices))
        parts.append(choices[at])
    return f"{' '.join(parts[:-1])}, {parts[-1]}"


def _between(dice: random.Random, limits: tuple[int, int]) -> int:
    # Even in the logarithm: cheap and light items are the more common ones.
    return round(math.exp(dice.uniform(math.log(limits[0]), math.log(limits[1]))))
