"""What a fact does to a level: the newest count, and what happened after it."""

from itertools import permutations

import pytest
from tests.seeding import at
from tests.unit.paper import SHOP, decide, key, moves, view

from truestock.model.decision import Decision, View
from truestock.model.facts import Fact, FactStatus, quantity_fault
from truestock.model.record import EventResult
from truestock.model.refusal import Code
from truestock.model.stock import Kind


def fact(kind: str, quantity: int, minute: float, event_id: str, source: str = "till") -> Fact:
    """A fact about tees in Oslo."""
    line = ("tee", quantity, "oslo")
    return SHOP.fact(kind, line, at(minute), event_id=event_id, source=source)


def record(seen: View, *facts: Fact) -> Decision:
    """Record facts as one request."""
    return decide(SHOP.record(*facts), seen)


def statuses(decision: Decision) -> list[str]:
    """What became of each event."""
    return [result.status.value for result in decision.outcome.results]


@pytest.mark.parametrize(
    ("kind", "quantity", "on_hand", "unavailable"),
    [
        ("receipt", 3, 13, 0),
        ("sale", 3, 7, 0),
        ("return", 3, 13, 0),
        ("damage", 3, 7, 3),
        ("repair", 3, 13, -3),
        ("adjustment", -3, 7, 0),
        ("transfer_out", 3, 7, 0),
        ("transfer_in", 3, 13, 0),
        ("count", 3, 3, 0),
    ],
)
def test_what_each_kind_does(kind: str, quantity: int, on_hand: int, unavailable: int) -> None:
    seen = view(("tee", 10, "oslo"))
    assert statuses(record(seen, fact(kind, quantity, 1, "e"))) == ["applied"]
    level = seen.levels[key()]
    assert (level.on_hand, level.unavailable) == (on_hand, unavailable)


def test_a_count_keeps_what_happened_after_it() -> None:
    seen = view(("tee", 10, "oslo"))
    record(seen, fact("sale", 1, 5, "before"), fact("sale", 2, 15, "after"))
    decision = record(seen, fact("count", 20, 10, "count"))
    assert moves(decision) == [("on_hand", "count", 11, 18)]


def test_what_happened_at_or_before_the_count_is_superseded_when_it_comes_late() -> None:
    seen = view(("tee", 10, "oslo"))
    record(seen, fact("count", 20, 10, "count"))
    decision = record(
        seen, fact("sale", 1, 5, "before"), fact("sale", 1, 10, "at"), fact("sale", 1, 11, "after")
    )
    assert statuses(decision) == ["superseded", "superseded", "applied"]
    assert seen.levels[key()].on_hand == 19


def test_what_happened_at_the_instant_of_the_count_is_in_it_whichever_came_first() -> None:
    seen = view(("tee", 10, "oslo"))
    record(seen, fact("sale", 1, 10, "at"))
    record(seen, fact("count", 20, 10, "count"))
    assert seen.levels[key()].on_hand == 20


def test_a_count_older_than_the_newest_is_superseded() -> None:
    seen = view(("tee", 10, "oslo"))
    record(seen, fact("count", 20, 10, "new"))
    assert statuses(record(seen, fact("count", 7, 9, "old"))) == ["superseded"]
    assert seen.levels[key()].on_hand == 20


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_of_two_counts_of_an_instant_the_greater_source_and_event_wins(order: tuple[int]) -> None:
    counts = [
        fact("count", 1, 10, "z", source="erp"),
        fact("count", 2, 10, "a", source="till"),
        fact("count", 3, 10, "b", source="till"),
    ]
    seen = view(("tee", 10, "oslo"))
    for position in order:
        record(seen, counts[position])
    assert seen.levels[key()].on_hand == 3


def test_damage_before_the_count_still_shows_as_unavailable() -> None:
    seen = view(("tee", 10, "oslo"))
    record(seen, fact("count", 8, 10, "count"))
    decision = record(seen, fact("damage", 2, 5, "damage"))
    assert statuses(decision) == ["applied"]
    assert moves(decision) == [("unavailable", "damage", 2, 2)]


def test_damage_before_the_snapshot_of_unavailable_is_superseded() -> None:
    seen = view(("tee", 10, "oslo"))
    level = seen.levels[key()]
    level.counted_at = level.unavailable_counted_at = at(10)
    assert statuses(record(seen, fact("damage", 2, 5, "damage"))) == ["superseded"]


def test_the_same_event_again_is_a_duplicate_in_one_request_or_two() -> None:
    seen = view(("tee", 10, "oslo"))
    sale = fact("sale", 1, 1, "e")
    assert statuses(record(seen, sale, sale)) == ["applied", "duplicate"]
    assert statuses(record(seen, sale)) == ["duplicate"]
    assert statuses(record(seen, fact("sale", 1, 1, "e", source="erp"))) == ["applied"]
    assert seen.levels[key()].on_hand == 8


def test_a_bad_event_does_not_stop_its_neighbours() -> None:
    seen = view(("tee", 10, "oslo"))
    bad = EventResult("bad", FactStatus.REJECTED, Code.UNKNOWN_SKU, "There is no sku x.")
    command = SHOP.record(fact("sale", 1, 1, "a"))
    command = type(command)(command.source_id, (bad, *command.entries))
    decision = decide(command, seen)
    assert statuses(decision) == ["rejected", "applied"]
    assert decision.outcome.counts["applied"] == 1


def test_facts_are_not_refused_because_of_promises_and_the_shortage_shows() -> None:
    seen = view(("tee", 10, "oslo"))
    decide(SHOP.reserve("r", ("tee", 8, "oslo")), seen)
    record(seen, fact("sale", 5, 1, "e"))
    level = seen.levels[key()]
    assert (level.on_hand, level.available, level.shortage) == (5, 0, 3)


def test_facts_that_cancel_out_leave_a_level_that_is_still_written() -> None:
    seen = view(("tee", 10, "oslo"))
    record(seen, fact("sale", 1, 10, "later"))
    decision = record(seen, fact("sale", 1, 5, "sold"), fact("return", 1, 5, "back"))
    # A movement without its level could not be numbered.
    assert {movement.key for movement in decision.movements} <= decision.levels.keys()


def test_late_twice_and_in_any_order_the_figure_is_the_same() -> None:
    facts = [
        fact("receipt", 10, 1, "receipt"),
        fact("count", 4, 2, "count"),
        fact("sale", 1, 3, "sale"),
        fact("count", 6, 4, "recount"),
        fact("damage", 2, 5, "damage"),
    ]
    for order in permutations(facts):
        seen = view(("tee", 0, "oslo"))
        for each in order:
            record(seen, each, each)
        level = seen.levels[key()]
        assert (level.on_hand, level.unavailable) == (4, 2), [f.event_id for f in order]


@pytest.mark.parametrize(
    ("kind", "quantity", "good"),
    [
        (Kind.COUNT, 0, True),
        (Kind.COUNT, -1, False),
        (Kind.ADJUSTMENT, -5, True),
        (Kind.ADJUSTMENT, 5, True),
        (Kind.ADJUSTMENT, 0, False),
        (Kind.SALE, 1, True),
        (Kind.SALE, 0, False),
        (Kind.RETURN, -1, False),
        (Kind.TRANSFER_OUT, 0, False),
    ],
)
def test_which_quantities_a_kind_can_have(kind: Kind, quantity: int, good: bool) -> None:
    assert (quantity_fault(kind, quantity) is None) is good
