"""The demo retailer's feeds: what they promise to whoever sends them to the service."""

import csv
import gzip
import json
import random
import re
from collections import Counter
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from truestock.demo import stock as shelves
from truestock.demo.retailer import (
    MAX_ITEMS,
    Feeds,
    Retailer,
    generate,
    gtin,
    snapshot_rows,
    write_feeds,
)

AS_OF = datetime(2026, 3, 2, 4, 0, tzinfo=UTC)
MONEY = {"amount", "currency"}


@pytest.fixture(scope="module")
def retailer() -> Retailer:
    return generate(7, as_of=AS_OF)


@pytest.fixture(scope="module")
def feeds(retailer: Retailer, tmp_path_factory: pytest.TempPathFactory) -> Feeds:
    return write_feeds(retailer, tmp_path_factory.mktemp("feeds"))


def small(seed: int = 7, **sizes: int) -> Retailer:
    return generate(seed, as_of=AS_OF, **{"stores": 3, "warehouses": 1, "items": 40} | sizes)


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def snapshot_of(feeds: Feeds) -> list[list[str]]:
    with gzip.open(feeds.snapshot, "rt", newline="") as text:
        return list(csv.reader(text))


def bulk_of(paths: tuple[Path, ...], noun: str) -> list[dict[str, Any]]:
    bodies = [json.loads(path.read_bytes()) for path in paths]
    assert all(list(body) == [noun] and len(body[noun]) <= 1_000 for body in bodies)
    return [entry for body in bodies for entry in body[noun]]


def happened(event: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(event["occurred_at"])


def test_the_same_seed_gives_the_same_bytes(feeds: Feeds, tmp_path: Path) -> None:
    random.seed(1)
    write_feeds(generate(7, as_of=AS_OF.astimezone(timezone(timedelta(hours=9)))), tmp_path)
    assert files_of(tmp_path) == files_of(feeds.snapshot.parent)


def test_another_seed_gives_another_retailer(tmp_path: Path) -> None:
    write_feeds(small(1), tmp_path / "one")
    write_feeds(small(2), tmp_path / "two")
    one, two = files_of(tmp_path / "one"), files_of(tmp_path / "two")
    assert one.keys() == two.keys()
    assert all(one[name] != two[name] for name in one)


def test_more_stores_leave_the_items_as_they_were() -> None:
    assert small(stores=3).items == small(stores=5).items


def test_the_counts_are_those_of_the_files(retailer: Retailer, feeds: Feeds) -> None:
    kinds = Counter(location["kind"] for location in retailer.locations)
    assert kinds == {"store": 120, "warehouse": 4, "ecommerce": 1}
    assert len(bulk_of(feeds.locations, "locations")) == feeds.location_count == 125
    assert len(bulk_of(feeds.items, "items")) == feeds.item_count == 2_000
    assert len(feeds.events.read_bytes().splitlines()) == feeds.event_lines
    assert len(snapshot_of(feeds)) == feeds.snapshot_rows + 1
    assert [path.name for path in feeds.items] == ["items.json", "items-2.json"]
    assert feeds.as_of == AS_OF


def test_a_location_has_the_contracts_fields_and_no_other(feeds: Feeds) -> None:
    for location in bulk_of(feeds.locations, "locations"):
        assert location.keys() == {
            *("location", "name", "kind", "latitude", "longitude", "address", "time_zone"),
            *("opening_hours", "closures", "pickup", "ship_from", "status"),
        }
        assert location["pickup"].keys() == {
            *("enabled", "lead_minutes", "hold_days", "slot_minutes", "slot_capacity")
        }
        assert location["ship_from"].keys() == {
            *("enabled", "cut_off", "daily_capacity", "handling_cost", "cost_per_km")
        }
        assert location["ship_from"]["handling_cost"].keys() == MONEY
        assert location["ship_from"]["cost_per_km"].keys() == MONEY
        assert all(closure.keys() <= {"date", "hours"} for closure in location["closures"])


def test_an_item_has_the_contracts_fields_and_no_other(feeds: Feeds) -> None:
    for item in bulk_of(feeds.items, "items"):
        assert item.keys() == {
            *("sku", "name", "gtin", "category", "weight_grams", "price", "status")
        }
        assert item["price"].keys() == MONEY
        assert item["weight_grams"] > 0
        assert item["price"]["amount"] > 0


def test_codes_skus_names_and_gtins_are_unique(retailer: Retailer) -> None:
    codes = [location["location"] for location in retailer.locations]
    assert len(set(codes)) == 125
    assert all(re.fullmatch(r"[a-z0-9-]+", code) for code in codes)
    assert {"wh-reno-nv", "ecom-us"} <= set(codes)
    for field in ("sku", "name", "gtin"):
        assert len({item[field] for item in retailer.items}) == 2_000
    assert len({item["category"] for item in retailer.items}) == 12


def test_gtins_have_their_check_digit_and_an_in_house_prefix(retailer: Retailer) -> None:
    for item in retailer.items:
        digits = [int(digit) for digit in item["gtin"]]
        assert len(digits) == 13
        assert (sum(digits[::2]) + 3 * sum(digits[1::2])) % 10 == 0
        assert 20 <= int(item["gtin"][:2]) <= 29
    assert gtin(9_999_999_999) == "2099999999998"


def test_locations_are_spread_over_the_country_with_valid_time_zones(retailer: Retailer) -> None:
    stores = [place for place in retailer.locations if place["kind"] == "store"]
    towns = {place["address"].split(", ", 1)[1].rsplit(" ", 1)[0] for place in stores}
    assert len(towns) == 120
    assert len({town.rsplit(", ", 1)[1] for town in towns}) >= 25
    for place in retailer.locations:
        assert ZoneInfo(place["time_zone"])
        assert 18 < place["latitude"] < 72
        assert -180 < place["longitude"] < -66


def test_stores_keep_shorter_sundays_and_close_on_holidays(retailer: Retailer) -> None:
    stores = [place for place in retailer.locations if place["kind"] == "store"]
    assert {"sun" in store["opening_hours"] for store in stores} == {True, False}
    for store in stores:
        days = [closure["date"] for closure in store["closures"] if "hours" not in closure]
        assert days == ["2026-11-26", "2026-12-25"]
        for hours in store["opening_hours"].values():
            assert all(opens < closes for opens, closes in hours)


def test_the_snapshot_has_a_row_a_level(retailer: Retailer, feeds: Feeds) -> None:
    header, *rows = snapshot_of(feeds)
    assert header == ["sku", "location", "on_hand", "safety_stock", "unavailable"]
    assert 240_000 <= len(rows) <= 260_000
    assert len({(row[0], row[1]) for row in rows}) == len(rows)
    assert [(row[0], row[1], *map(int, row[2:])) for row in rows] == list(snapshot_rows(retailer))


def test_most_levels_are_small_and_warehouses_are_deep(retailer: Retailer) -> None:
    stock = retailer.stock
    in_store = stock.location < 120
    on_hand = stock.on_hand[in_store]
    assert stock.on_hand.min() >= 0
    assert np.mean(on_hand <= 6) > 0.75
    assert 0.05 < np.mean(on_hand == 0) < 0.25
    assert np.median(stock.on_hand[(stock.location >= 120) & (stock.location < 124)]) > 100
    assert set(np.unique(stock.safety_stock)) == {0, 1, 2}
    assert 0 < np.mean(stock.unavailable > 0) < 0.03


def test_no_store_ranges_every_item(retailer: Retailer) -> None:
    ranged = np.bincount(retailer.stock.location)
    assert ranged[:120].max() < 2_000
    assert (ranged[120:] == 2_000).all()


def test_a_fifth_of_the_items_makes_most_of_the_sales(retailer: Retailer) -> None:
    assert retailer.demand.sum() == pytest.approx(1.0)
    assert np.sort(retailer.demand)[-400:].sum() >= 0.6
    units = Counter[str]()
    for event in retailer.events:
        units[event["sku"]] += event["quantity"] if event["type"] == "sale" else 0
    assert sum(sold for _, sold in units.most_common(400)) >= 0.6 * units.total()


def test_events_are_the_contracts_and_happen_after_the_snapshot(
    retailer: Retailer, feeds: Feeds
) -> None:
    skus = {item["sku"] for item in retailer.items}
    codes = {place["location"] for place in retailer.locations if place["kind"] == "store"}
    for line in feeds.events.read_bytes().splitlines():
        event = json.loads(line)
        assert event.keys() == {
            *("event_id", "type", "sku", "location", "quantity", "occurred_at", "reference")
        }
        assert event["sku"] in skus
        assert event["location"] in codes
        assert event["quantity"] > 0
        assert event["occurred_at"].endswith("Z")
        assert AS_OF < happened(event) < AS_OF + shelves.TILL_SPAN


def test_most_events_are_sales(retailer: Retailer) -> None:
    kinds = Counter(event["type"] for event in retailer.events)
    assert kinds.keys() == {"sale", "return", "receipt", "damage"}
    assert 4_900 <= kinds.total() <= 5_100
    assert kinds["sale"] > 0.7 * kinds.total()


def test_some_events_come_twice_and_some_late(retailer: Retailer) -> None:
    first = {event["event_id"]: event for event in reversed(retailer.events)}
    assert 20 <= len(retailer.events) - len(first) <= 100
    assert all(event == first[event["event_id"]] for event in retailer.events)
    times = [happened(event) for event in retailer.events]
    assert times != sorted(times)


def test_nothing_is_sold_that_is_not_there(retailer: Retailer) -> None:
    left = {(row[0], row[1]): row[2] for row in snapshot_rows(retailer)}
    once = {event["event_id"]: event for event in retailer.events}
    for event in sorted(once.values(), key=lambda event: event["event_id"][-6:]):
        takes = event["type"] in ("sale", "damage")
        key = event["sku"], event["location"]
        left[key] += -event["quantity"] if takes else event["quantity"]
        assert left[key] >= 0


def test_small_retailers_are_whole() -> None:
    tiny = small(stores=1, warehouses=1, items=1)
    assert [place["kind"] for place in tiny.locations] == ["store", "warehouse", "ecommerce"]
    assert len(list(snapshot_rows(tiny))) == 3
    assert {event["type"] for event in small().events} > {"sale"}


def test_a_city_gets_a_second_store_when_every_city_has_one() -> None:
    codes = [place["location"] for place in small(stores=2_000).locations]
    assert len(set(codes)) == 2_002
    assert any(code.endswith("-2") for code in codes)


def test_a_store_has_room_for_so_many_items_only() -> None:
    ranged = np.bincount(small(items=20_000).stock.location)
    assert ranged.tolist() == [shelves.SHELF_ROOM] * 3 + [20_000] * 2


@pytest.mark.parametrize(
    "sizes", [{"stores": 0}, {"stores": 2_001}, {"warehouses": 9}, {"items": MAX_ITEMS + 1}]
)
def test_sizes_out_of_range_are_refused(sizes: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must be 1 to"):
        small(**sizes)


def test_a_seed_below_zero_and_a_time_without_offset_are_refused() -> None:
    with pytest.raises(ValueError, match="seed"):
        small(-1)
    with pytest.raises(ValueError, match="offset"):
        generate(7, as_of=AS_OF.replace(tzinfo=None))
