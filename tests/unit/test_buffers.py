"""Which buffer binds, and what it leaves."""

from itertools import combinations

import pytest

from truestock.model.buffers import NO_BUFFER, BufferRule, choose, in_order, sellable

ASKED = {
    "sku": "tee",
    "category": "shirts",
    "location": "oslo",
    "method": "pickup",
    "channel": "web",
}


def test_the_most_specific_rule_wins_sku_before_category_before_location_and_so_on() -> None:
    rules = [
        BufferRule(**{name: ASKED[name] for name in chosen})
        for size in range(len(ASKED) + 1)
        for chosen in combinations(ASKED, size)
    ]
    ordered = in_order(rules)
    # Each selector outweighs all that come after it, so ranks count down as binary numbers do.
    assert [rule.rank for rule in ordered] == sorted((r.rank for r in rules), reverse=True)
    assert choose(ordered, **ASKED) == BufferRule(**ASKED)
    assert choose(
        in_order([BufferRule(sku="tee"), BufferRule(**ASKED | {"sku": None})]), **ASKED
    ) == (BufferRule(sku="tee"))


@pytest.mark.parametrize("name", ASKED)
def test_a_rule_for_something_else_does_not_bind(name: str) -> None:
    rules = in_order([BufferRule(**{name: "other"}, safety_stock=9), BufferRule(safety_stock=1)])
    assert choose(rules, **ASKED) == BufferRule(safety_stock=1)
    assert choose(rules[:1], **ASKED) is NO_BUFFER


def test_one_whole_rule_wins_nothing_is_mixed() -> None:
    rules = in_order(
        [BufferRule(channel="web", safety_stock=5), BufferRule(sku="tee", max_sellable=2)]
    )
    assert choose(rules, **ASKED).safety_stock == 0


def test_between_equals_the_earlier_rule_stays_first() -> None:
    first, second = BufferRule(sku="tee", safety_stock=1), BufferRule(sku="tee", safety_stock=2)
    assert choose(in_order([first, second]), **ASKED) is first


@pytest.mark.parametrize(
    ("free", "safety_stock", "max_sellable", "left"),
    [
        (10, 0, None, 10),
        (10, 3, None, 7),
        (10, 3, 5, 5),
        (6, 3, 5, 3),
        (10, 0, 0, 0),
        (2, 3, None, 0),
        (-4, 0, 5, 0),
    ],
)
def test_what_a_buffer_leaves(
    free: int, safety_stock: int, max_sellable: int | None, left: int
) -> None:
    assert sellable(free, BufferRule(safety_stock=safety_stock, max_sellable=max_sellable)) == left
