"""What the demo retailer has and sells: demand, levels as arrays, and the tills' events.

1. Demand: Zipf's law over the items, so that a few of them make most of the sales.
2. Levels: a store ranges the items that its shelves have room for, the popular ones more surely;
   most levels are a handful of units, warehouses are deep.
3. Tills: levels are drawn by demand, then the day is played in order, so that nothing is sold
   that is not there; last, some events are sent late and some are sent again.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

import msgspec
import numpy as np
from numpy.typing import NDArray

from truestock.demo.words import Json

Whole = NDArray[np.int64]
Share = NDArray[np.float64]

SHELF_ROOM = 2_600  # a store has no room for more items than this, however many there are
DEPTH = {"store": 2.0, "warehouse": 120.0, "ecommerce": 20.0}  # units of an item nobody asks for

MAX_EVENTS = 5_000
# Callers whose events must not lie in the future pass an `as_of` at least this far back.
TILL_SPAN = timedelta(hours=6)
TILL_TYPES = {"sale": 0.90, "return": 0.05, "receipt": 0.03, "damage": 0.02}
REFERENCES = {"sale": "T", "return": "RT", "receipt": "PO", "damage": "DR"}
LATE_EVERY = 23  # a till that was offline sends its event up to MAX_LATE_MS later
REPEAT_EVERY = 97  # a till that missed the answer sends the same event again
MAX_LATE_MS = 2_400_000


class Stock(msgspec.Struct, frozen=True, eq=False):
    """The levels, one entry a level in each array, by location and then by item.

    `location` and `item` are positions in the retailer's lists; the rest are units.
    """

    location: Whole
    item: Whole
    on_hand: Whole
    safety_stock: Whole
    unavailable: Whole


class Drawn(msgspec.Struct, frozen=True, eq=False):
    """What the tills will try, by time: a level's position, a type, units, ms after `as_of`."""

    level: Whole
    kind: list[str]
    quantity: Whole
    after_ms: Whole


def draw_demand(rng: np.random.Generator, items: int) -> Share:
    """Each item's share of the units sold: Zipf's law, in an order that has no meaning."""
    weights = 1.0 / np.arange(1, items + 1)
    return rng.permutation(weights / weights.sum())


def draw_stock(
    rng: np.random.Generator, kinds: Sequence[str], sizes: Sequence[float], demand: Share
) -> Stock:
    """The levels of locations of these kinds and sizes (1.0 is the usual store)."""
    ranges = [_range(rng, kind, demand) for kind in kinds]
    # Shelves hold more of what sells, but less than in proportion to how it sells.
    depth = 1.0 + 0.6 * np.sqrt(demand * len(demand))
    means = [
        DEPTH[kind] * size * depth[ranged]
        for kind, size, ranged in zip(kinds, sizes, ranges, strict=True)
    ]
    location = np.repeat(np.arange(len(kinds)), [len(ranged) for ranged in ranges])
    in_store = np.array([kind == "store" for kind in kinds])[location]
    levels = len(location)
    return Stock(
        location=location,
        item=np.concatenate(ranges),
        # A mean that itself varies gives the empty and the overfull shelves that stores have.
        on_hand=rng.poisson(rng.gamma(3.0, np.concatenate(means) / 3.0)),
        safety_stock=rng.choice(3, size=levels, p=(0.8, 0.14, 0.06)) * in_store,
        unavailable=rng.choice(3, size=levels, p=(0.99, 0.008, 0.002)),
    )


def draw_till_day(
    rng: np.random.Generator, stock: Stock, sizes: Sequence[float], demand: Share, stores: int
) -> Drawn:
    """What the tills of the first `stores` locations will try within TILL_SPAN, by time."""
    in_store = np.flatnonzero(stock.location < stores)
    weights = demand[stock.item[in_store]] * np.array(sizes)[stock.location[in_store]]
    # A small retailer has fewer events, or its few shelves would see nothing but restocking.
    events = min(MAX_EVENTS, max(1, len(in_store) // 2))
    span_ms = TILL_SPAN // timedelta(milliseconds=1)
    return Drawn(
        level=rng.choice(in_store, size=events, p=weights / weights.sum()),
        kind=rng.choice(list(TILL_TYPES), size=events, p=list(TILL_TYPES.values())).tolist(),
        quantity=rng.choice((1, 2, 3), size=events, p=(0.88, 0.09, 0.03)),
        after_ms=np.sort(rng.integers(1, span_ms, size=events)),
    )


def play_till_day(
    stock: Stock, drawn: Drawn, codes: Sequence[str], skus: Sequence[str], as_of: datetime
) -> list[Json]:
    """The day's events by the time they happened, none of which takes what is not there."""
    left: dict[int, int] = {}
    events = []
    for number, level in enumerate(drawn.level.tolist()):
        on_hand = left.setdefault(level, int(stock.on_hand[level]))
        kind, quantity = _fit(drawn.kind[number], int(drawn.quantity[number]), on_hand)
        left[level] = on_hand + (quantity if kind in ("return", "receipt") else -quantity)
        happened = as_of + timedelta(milliseconds=int(drawn.after_ms[number]))
        location = codes[stock.location[level]]
        events.append(
            {
                "event_id": f"{location}-{number:06d}",
                "type": kind,
                "sku": skus[stock.item[level]],
                "location": location,
                "quantity": quantity,
                "occurred_at": f"{happened:%Y-%m-%dT%H:%M:%S}.{happened.microsecond // 1000:03d}Z",
                "reference": f"{REFERENCES[kind]}-{number:06d}",
            }
        )
    return events


def as_sent(rng: np.random.Generator, events: list[Json], drawn: Drawn) -> list[Json]:
    """The events in the order in which the tills send them: some late, some twice."""
    late = rng.integers(1, MAX_LATE_MS, size=(2, len(events)))
    late[0, np.arange(len(events)) % LATE_EVERY != LATE_EVERY - 1] = 0
    first, again = drawn.after_ms + late
    sent = [(int(first[number]), event) for number, event in enumerate(events)]
    sent += [
        (int(max(first[number], again[number])), events[number])
        for number in range(REPEAT_EVERY // 2, len(events), REPEAT_EVERY)
    ]
    return [event for _, event in sorted(sent, key=lambda entry: entry[0])]


def _range(rng: np.random.Generator, kind: str, demand: Share) -> Whole:
    """The positions of the items that a location stocks, ascending: all, but not in stores.

    The largest of log weight plus Gumbel noise are a draw by weight without replacement.
    """
    items = len(demand)
    if kind != "store":
        return np.arange(items)
    room = min(SHELF_ROOM, round(items * rng.uniform(0.95, 0.99)))
    score = np.log(demand) + rng.gumbel(size=items)
    return np.sort(np.argpartition(-score, room - 1)[:room])


def _fit(kind: str, quantity: int, on_hand: int) -> tuple[str, int]:
    """What happens instead when the shelf has too little: it is restocked."""
    if kind == "receipt" or (kind in ("sale", "damage") and on_hand < quantity):
        return "receipt", 6 * quantity
    return kind, quantity
