"""Stock facts in, levels and movements out."""

import random
from datetime import UTC, datetime, timedelta
from itertools import permutations
from typing import Any

import pytest
from tests.api.shop import Api, Shop, ago, fresh, pointers

LEVEL = {
    "sku", "location", "on_hand", "unavailable", "held", "allocated", "safety_stock", "available",
    "shortage", "version", "counted_at",
}  # fmt: skip
MOVEMENT = {
    "seq", "sku", "location", "bucket", "delta", "balance", "kind", "source", "reference",
    "occurred_at", "recorded_at",
}  # fmt: skip


async def send(shop: Shop, *events: Any, source: str | None = None) -> dict[str, Any]:
    """The answer to these events."""
    body = {"source": source or shop.source, "events": events}
    return await shop.api.post("/v1/stock/events", body)


async def on_hand(shop: Shop) -> tuple[int, int]:
    """On hand and unavailable of the first level."""
    level = await shop.level()
    return level["on_hand"], level["unavailable"]


@pytest.mark.parametrize(
    ("kind", "units", "after"),
    [
        ("count", 4, (4, 0)),
        ("count", 0, (0, 0)),
        ("receipt", 3, (13, 0)),
        ("sale", 3, (7, 0)),
        ("return", 3, (13, 0)),
        ("damage", 3, (7, 3)),
        ("repair", 3, (13, -3)),
        ("adjustment", 3, (13, 0)),
        ("adjustment", -3, (7, 0)),
        ("transfer_out", 3, (7, 0)),
        ("transfer_in", 3, (13, 0)),
    ],
)
async def test_each_type_does_what_it_says(
    shop: Shop, kind: str, units: int, after: tuple[int, int]
) -> None:
    event = shop.event(kind, units)
    answer = await send(shop, event)
    assert answer == {
        "results": [{"event_id": event["event_id"], "status": "applied"}],
        "counts": {"applied": 1, "duplicate": 0, "superseded": 0, "rejected": 0},
    }
    assert await on_hand(shop) == after


async def test_one_bad_event_never_stops_its_neighbours(shop: Shop) -> None:
    good = [shop.event("receipt", 1) for _ in range(3)]
    bad: list[Any] = [
        shop.event("receipt", 1, sku="no-sku"),
        shop.event("receipt", 1, location="nowhere"),
        shop.event("receipt", 0),
        shop.event("sale", -1),
        shop.event("count", -1),
        shop.event("adjustment", 0),
        shop.event("receipt", 2**31),
        shop.event("receipt", 1.0),
        shop.event("receipt", True),
        shop.event("theft", 1),
        shop.event("receipt", 1, occurred_at="2026-11-20T10:00:00"),
        shop.event("receipt", 1, occurred_at="0001-01-01T00:00:00+14:00"),
        shop.event("receipt", 1, occurred_at=ago(-60)),
        shop.event("receipt", 1, occurred_at="9999-12-31T23:59:59-14:00"),
        shop.event("receipt", 1, colour="red"),
        {"event_id": "alone"},
        "nonsense",
        7,
        None,
        [],
    ]
    events = [good[0], *bad[:7], good[1], *bad[7:], good[2]]
    answer = await send(shop, *events)
    assert len(answer["results"]) == len(events)
    for event, result in zip(events, answer["results"], strict=True):
        name = event.get("event_id", "") if isinstance(event, dict) else ""
        assert result["event_id"] == name
        assert result["status"] == ("applied" if event in good else "rejected"), event
        if event not in good:
            assert result["code"] in ("validation_failed", "unknown_sku", "unknown_location")
            assert result["detail"]
    assert answer["counts"]["rejected"] == len(bad)
    assert await on_hand(shop) == (13, 0)


async def test_a_rejected_event_may_be_sent_again(api: Api, shop: Shop) -> None:
    """Nothing of it is on record: once its item is known, it counts."""
    sku = fresh("late")
    event = shop.event("receipt", 2, sku=sku)
    assert (await send(shop, event))["results"][0]["code"] == "unknown_sku"
    await api.put(f"/v1/items/{sku}", {}, expect=201)
    assert (await send(shop, event))["counts"]["applied"] == 1


async def test_the_same_event_again_is_a_duplicate(shop: Shop) -> None:
    event = shop.event("receipt", 5)
    assert await shop.record(event, event) == ["applied", "duplicate"]
    assert await shop.record(event | {"quantity": 9}) == ["duplicate"]
    assert await on_hand(shop) == (15, 0)


async def test_an_event_id_belongs_to_its_source(shop: Shop) -> None:
    event = shop.event("receipt", 5)
    await send(shop, event)
    assert (await send(shop, event, source=fresh("till")))["counts"]["applied"] == 1


async def test_what_happened_before_the_newest_count_is_superseded(shop: Shop) -> None:
    counted = ago(30)
    assert await shop.record(shop.event("count", 20, occurred_at=counted)) == ["applied"]
    assert await shop.record(
        shop.event("sale", 2, occurred_at=ago(31)),
        shop.event("sale", 2, occurred_at=counted),
        shop.event("count", 9, occurred_at=ago(31)),
        shop.event("sale", 2, occurred_at=ago(29)),
    ) == ["superseded", "superseded", "superseded", "applied"]
    assert await on_hand(shop) == (18, 0)


async def test_of_two_counts_of_one_instant_the_greater_name_wins(shop: Shop) -> None:
    instant = ago(20)
    names = sorted(fresh("count") for _ in range(2))
    events = [
        shop.event("count", units, occurred_at=instant, event_id=name)
        for name, units in zip(names, (3, 4), strict=True)
    ]
    assert await shop.record(*reversed(events)) == ["applied", "superseded"]
    assert await on_hand(shop) == (4, 0)


async def test_facts_come_to_the_same_in_every_order(api: Api, shop: Shop) -> None:
    outcomes = set()
    for number, order in enumerate(permutations(range(4))):
        sku = fresh("order")
        await api.put(f"/v1/items/{sku}", {}, expect=201)
        facts = [("count", 50, 40), ("sale", 7, 45), ("sale", 3, 30), ("count", 44, 20)]
        events = [
            shop.event(kind, units, sku=sku, occurred_at=instant(minutes))
            for kind, units, minutes in facts
        ]
        for position in order:
            # One request each, or all at once: no difference either.
            if number % 2:
                await shop.record(events[position])
        if not number % 2:
            await shop.record(*(events[position] for position in order))
        outcomes.add((await shop.level(sku))["on_hand"])
    assert outcomes == {44}


def instant(minutes: float) -> str:
    """So many minutes before a fixed instant."""
    return (datetime(2026, 11, 20, 12, tzinfo=UTC) - timedelta(minutes=minutes)).isoformat()


KINDS = ("count", "receipt", "sale", "adjustment", "damage", "repair")


@pytest.mark.parametrize("seed", range(25))
async def test_any_facts_come_to_the_same_shuffled_repeated_and_split(
    shop: Shop, seed: int
) -> None:
    """On hand is the newest count plus what happened after it."""
    chance = random.Random(seed)
    sku = fresh("any")
    await shop.api.put(f"/v1/items/{sku}", {}, expect=201)
    events = [
        shop.event(
            chance.choice(KINDS),
            chance.randint(1, 50),
            sku=sku,
            occurred_at=instant(chance.randint(0, 12)),
        )
        for _ in range(chance.randint(1, 10))
    ]
    sent = [*events, *events[: len(events) // 2]]
    chance.shuffle(sent)
    half = len(sent) // 2
    for part in (sent[:half], sent[half:]):
        if part:
            await shop.record(*part)
    assert (await shop.level(sku))["on_hand"] == expected(events)


def expected(events: list[dict[str, Any]]) -> int:
    """The newest count plus every movement that happened after it."""
    counts = [e for e in events if e["type"] == "count"]
    newest = max(counts, key=lambda e: (e["occurred_at"], e["event_id"]), default=None)
    total = newest["quantity"] if newest else 0
    for event in events:
        if event["type"] == "count" or (newest and event["occurred_at"] <= newest["occurred_at"]):
            continue
        sign = -1 if event["type"] in ("sale", "damage") else 1
        total += sign * event["quantity"]
    return total


async def test_facts_are_never_refused_because_stock_is_promised(api: Api, shop: Shop) -> None:
    await api.post("/v1/reservations", shop.cart(shop.line(10)), expect=201)
    assert await shop.record(shop.event("sale", 4)) == ["applied"]
    level = await shop.level()
    assert (level["on_hand"], level["available"], level["shortage"]) == (6, 0, 4)


async def test_1000_events_are_taken_and_no_more(api: Api, shop: Shop) -> None:
    events = [shop.event("receipt", 1) for _ in range(1001)]
    assert (await send(shop, *events[:1000]))["counts"]["applied"] == 1000
    body = {"source": shop.source, "events": events}
    assert pointers(await api.post("/v1/stock/events", body, expect=400)) == ["/events"]
    body = {"source": shop.source, "events": []}
    assert pointers(await api.post("/v1/stock/events", body, expect=400)) == ["/events"]


# Levels and movements ---------------------------------------------------------------


async def test_a_level_has_all_its_figures(api: Api, shop: Shop) -> None:
    await shop.record(shop.event("damage", 2))
    held = await api.post("/v1/reservations", shop.cart(shop.line(3)), expect=201)
    level = await shop.level()
    assert level.keys() == LEVEL
    assert (level["on_hand"], level["unavailable"], level["held"], level["available"]) == (
        8, 2, 3, 5
    )  # fmt: skip
    assert level["counted_at"].endswith("Z")
    await api.post(f"/v1/reservations/{held['reservation_id']}/release")
    assert (await shop.level())["version"] > level["version"]


async def test_levels_are_listed_by_sku_and_location(api: Api, shop: Shop) -> None:
    levels = (await api.get("/v1/stock/levels", sku=",".join(shop.skus)))["levels"]
    names = [(level["sku"], level["location"]) for level in levels]
    assert names == sorted((s, p) for s in shop.skus for p in shop.locations[:2])
    levels = (await api.get("/v1/stock/levels", sku=shop.skus, location=shop.location))["levels"]
    assert {level["location"] for level in levels} == {shop.location}
    assert await api.get("/v1/stock/levels", sku="nobody") == {"levels": []}


async def test_a_movement_says_what_changed_and_why(api: Api, shop: Shop) -> None:
    event = shop.event("sale", 2, reference="receipt 17")
    await shop.record(event)
    movements = (await api.get("/v1/ledger/movements", sku=shop.sku, location=shop.location))[
        "movements"
    ]
    count, sale = movements
    assert count.keys() == sale.keys() == MOVEMENT
    assert (sale["kind"], sale["bucket"], sale["delta"], sale["balance"]) == (
        "sale", "on_hand", -2, 8
    )  # fmt: skip
    assert (sale["source"], sale["reference"]) == (shop.source, "receipt 17")
    assert datetime.fromisoformat(sale["occurred_at"]) == datetime.fromisoformat(
        event["occurred_at"]
    )
    assert sale["seq"] > count["seq"]


async def test_movements_go_on_after_a_seq(api: Api, shop: Shop) -> None:
    for _ in range(5):
        await shop.record(shop.event("receipt", 1))
    asked = {"sku": shop.sku, "location": shop.location}
    everything = (await api.get("/v1/ledger/movements", **asked))["movements"]
    seqs = [movement["seq"] for movement in everything]
    assert seqs == sorted(seqs)
    page = await api.get("/v1/ledger/movements", **asked, after=seqs[0], limit=2)
    assert [movement["seq"] for movement in page["movements"]] == seqs[1:3]
    seen, page = [], await api.get("/v1/ledger/movements", **asked, limit=2)
    while True:
        seen += page["movements"]
        if "cursor" not in page:
            break
        page = await api.get("/v1/ledger/movements", **asked, limit=2, cursor=page["cursor"])
    assert seen == everything
    last = await api.get("/v1/ledger/movements", **asked, after=seqs[-1])
    assert last == {"movements": []}


async def test_movements_add_up_to_the_level(api: Api, shop: Shop) -> None:
    await shop.record(shop.event("sale", 2), shop.event("damage", 1), shop.event("count", 7))
    held = await api.post("/v1/reservations", shop.cart(shop.line(3)), expect=201)
    await api.post(f"/v1/reservations/{held['reservation_id']}/confirm", {}, expect=201)
    asked = {"sku": shop.sku, "location": shop.location}
    movements = (await api.get("/v1/ledger/movements", **asked))["movements"]
    level = await shop.level()
    for bucket in ("on_hand", "unavailable", "held", "allocated"):
        assert sum(m["delta"] for m in movements if m["bucket"] == bucket) == level[bucket]


# Sources -----------------------------------------------------------------------------


async def test_a_source_comes_into_being_on_first_use(api: Api, shop: Shop) -> None:
    await shop.record(shop.event("receipt", 1), shop.event("receipt", 0))
    sources = {s["source"]: s for s in (await api.get("/v1/sources", limit=1000))["sources"]}
    mine = sources[shop.source]
    assert mine.keys() >= {
        "last_heard_at", "lag_seconds", "applied", "duplicate", "superseded", "rejected", "stale"
    }  # fmt: skip
    assert (mine["applied"], mine["rejected"], mine["stale"]) == (7, 1, False)


async def test_a_source_may_be_bound_to_locations(api: Api, shop: Shop) -> None:
    body = {"locations": [shop.location], "expected_interval_seconds": 1}
    answer = await api.put(f"/v1/sources/{shop.source}", body)
    assert answer == {"source": shop.source} | body
    answer = await send(
        shop, shop.event("receipt", 1), shop.event("receipt", 1, location=shop.locations[1])
    )
    assert [(r["status"], r.get("code")) for r in answer["results"]] == [
        ("applied", None),
        ("rejected", "forbidden"),
    ]
    problem = await api.put(
        f"/v1/sources/{shop.source}", {"locations": [shop.location, "nowhere"]}, expect=422
    )
    assert pointers(problem) == ["/locations/1"]
