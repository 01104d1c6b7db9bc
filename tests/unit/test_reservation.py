"""How each step of a reservation is decided."""

from datetime import timedelta

import pytest
from tests.unit.paper import NOW, SHOP, decide, key, moves, pass_time, refusal, view

from truestock.model.buffers import BufferRule
from truestock.model.place import Want
from truestock.model.refusal import Code, Shortage
from truestock.model.reservation import Expire, Extend, Release, ReservationStatus

TEN_MINUTES = timedelta(minutes=10)


# Reserve ------------------------------------------------------------------


def test_a_hold_takes_its_units_until_it_expires() -> None:
    seen = view(("tee", 5, "oslo"))
    decision = decide(SHOP.reserve("r", ("tee", 3, "oslo")), seen)
    assert decision.status == 201
    assert decision.outcome.status is ReservationStatus.HELD
    assert decision.outcome.expires_at == NOW + TEN_MINUTES
    assert moves(decision) == [("held", "reserve", 3, 3)]
    assert seen.levels[key()].available == 2
    assert [(c.quantity, c.expires_at) for c in decision.claims] == [(3, NOW + TEN_MINUTES)]


def test_the_last_unit_is_promised_once() -> None:
    seen = view(("tee", 1, "oslo"))
    assert decide(SHOP.reserve("first", ("tee", 1, "oslo")), seen).status == 201
    refusal(decide(SHOP.reserve("second", ("tee", 1, "oslo")), seen), Code.INSUFFICIENT_STOCK)


def test_duplicate_lines_share_what_the_level_has() -> None:
    seen = view(("tee", 5, "oslo"))
    no = decide(SHOP.reserve("r", ("tee", 3, "oslo"), ("tee", 3, "oslo")), seen)
    assert refusal(no, Code.INSUFFICIENT_STOCK).shortages == (Shortage("2", "tee", 3, 2, "oslo"),)
    yes = decide(SHOP.reserve("r", ("tee", 3, "oslo"), ("tee", 2, "oslo")), seen)
    assert moves(yes) == [("held", "reserve", 3, 3), ("held", "reserve", 2, 5)]
    assert [claim.claim_no for claim in yes.claims] == [0, 1]


def test_one_short_line_refuses_the_whole_cart_and_names_every_shortage() -> None:
    seen = view(("tee", 5, "oslo"), ("mug", 1, "oslo"))
    cart = SHOP.reserve("r", ("tee", 5, "oslo"), ("mug", 2, "oslo"), ("cap", 1, "rome"))
    assert refusal(decide(cart, seen), Code.INSUFFICIENT_STOCK).shortages == (
        Shortage("2", "mug", 2, 1, "oslo"),
        Shortage("3", "cap", 1, 0, "rome"),
    )


def test_allow_partial_holds_what_can_be_had() -> None:
    seen = view(("tee", 5, "oslo"), ("mug", 0, "oslo"))
    lines = (("tee", 3, "oslo"), ("tee", 4, "oslo"), ("mug", 1, "oslo"))
    held = decide(SHOP.reserve("r", *lines, allow_partial=True), seen).outcome.lines
    assert [(line.line_id, line.quantity) for line in held] == [("1", 3), ("2", 2)]


def test_allow_partial_with_nothing_at_all_is_refused() -> None:
    seen = view(("tee", 0, "oslo"))
    cart = SHOP.reserve("r", ("tee", 1, "oslo"), allow_partial=True)
    refusal(decide(cart, seen), Code.INSUFFICIENT_STOCK)


def test_a_line_takes_the_first_place_that_has_all_of_it() -> None:
    seen = view(("tee", 1, "oslo"), ("tee", 9, "rome"))
    places = (SHOP.place("tee", "oslo"), SHOP.place("tee", "rome"))
    cart = SHOP.reserve("r", ("tee", 2, "oslo"))
    cart = type(cart)("r", cart.request, (Want("1", "tee", 2, places),))
    assert [line.location for line in decide(cart, seen).outcome.lines] == ["rome"]


def test_an_id_is_taken_once() -> None:
    seen = view(("tee", 5, "oslo"))
    decide(SHOP.reserve("r", ("tee", 1, "oslo")), seen)
    refusal(decide(SHOP.reserve("r", ("tee", 1, "oslo")), seen), Code.ALREADY_EXISTS)


def test_safety_stock_is_not_promised() -> None:
    seen = view(("tee", 5, "oslo"))
    seen.levels[key()].safety_stock = 2
    no = decide(SHOP.reserve("r", ("tee", 4, "oslo")), seen)
    assert refusal(no, Code.INSUFFICIENT_STOCK).shortages[0].available == 3


def test_a_buffer_comes_off_after_the_safety_stock() -> None:
    seen = view(("tee", 5, "oslo"))
    seen.levels[key()].safety_stock = 2
    cart = SHOP.reserve("r", ("tee", 3, "oslo"), buffer=BufferRule(safety_stock=1))
    assert refusal(decide(cart, seen), Code.INSUFFICIENT_STOCK).shortages[0].available == 2


def test_max_sellable_binds_all_lines_of_a_cart_together() -> None:
    seen = view(("tee", 10, "oslo"))
    lines = (("tee", 3, "oslo"), ("tee", 1, "oslo"))
    cart = SHOP.reserve("r", *lines, buffer=BufferRule(max_sellable=3))
    shortages = refusal(decide(cart, seen), Code.INSUFFICIENT_STOCK).shortages
    assert shortages == (Shortage("2", "tee", 1, 0, "oslo"),)


def test_a_hold_that_ran_out_is_free_in_the_same_instant() -> None:
    seen = view(("tee", 1, "oslo"))
    decide(SHOP.reserve("old", ("tee", 1, "oslo")), seen)
    pass_time(seen, NOW + TEN_MINUTES - timedelta(microseconds=1))
    refusal(decide(SHOP.reserve("early", ("tee", 1, "oslo")), seen), Code.INSUFFICIENT_STOCK)
    pass_time(seen, NOW + TEN_MINUTES)
    assert decide(SHOP.reserve("new", ("tee", 1, "oslo")), seen).status == 201
    # Both are counted as held until the sweeper comes, and only one is live.
    level = seen.levels[key()]
    assert (level.held, level.live_held, level.available) == (2, 1, 0)


def test_next_expiry_is_the_first_of_the_holds() -> None:
    seen = view(("tee", 9, "oslo"))
    for ttl_seconds in (600, 60, 300):
        cart = SHOP.reserve(f"r{ttl_seconds}", ("tee", 1, "oslo"), ttl_seconds=ttl_seconds)
        decide(cart, seen)
    level = seen.levels[key()]
    assert level.next_expiry == level.next_live == NOW + timedelta(seconds=60)


# Change -------------------------------------------------------------------


def test_a_change_moves_each_level_by_the_difference_alone() -> None:
    seen = view(("tee", 5, "oslo"), ("mug", 5, "oslo"), ("cap", 5, "oslo"))
    decide(SHOP.reserve("r", ("tee", 3, "oslo"), ("mug", 1, "oslo")), seen)
    changed = SHOP.change("r", ("tee", 5, "oslo"), ("mug", 1, "oslo"), ("cap", 2, "oslo"))
    decision = decide(changed, seen)
    assert sorted(moves(decision)) == [("held", "change", 2, 2), ("held", "change", 2, 5)]
    assert [line.sku for line in decision.outcome.lines] == ["tee", "mug", "cap"]
    assert {c.expires_at for c in decision.claims} == {NOW + TEN_MINUTES}


def test_a_change_may_use_what_the_hold_itself_has() -> None:
    seen = view(("tee", 5, "oslo"))
    decide(SHOP.reserve("r", ("tee", 5, "oslo")), seen)
    split = SHOP.change("r", ("tee", 2, "oslo"), ("tee", 3, "oslo"))
    assert decide(split, seen).movements == []
    refusal(decide(SHOP.change("r", ("tee", 6, "oslo")), seen), Code.INSUFFICIENT_STOCK)


def test_a_change_gives_back_what_it_no_longer_wants() -> None:
    seen = view(("tee", 5, "oslo"), ("mug", 5, "oslo"))
    decide(SHOP.reserve("r", ("tee", 3, "oslo")), seen)
    decision = decide(SHOP.change("r", ("mug", 1, "oslo")), seen)
    assert sorted(moves(decision)) == [("held", "change", -3, 0), ("held", "change", 1, 1)]


def test_a_change_is_all_or_nothing() -> None:
    seen = view(("tee", 5, "oslo"), ("mug", 1, "oslo"))
    decide(SHOP.reserve("r", ("tee", 3, "oslo")), seen)
    refusal(
        decide(SHOP.change("r", ("tee", 1, "oslo"), ("mug", 2, "oslo")), seen),
        Code.INSUFFICIENT_STOCK,
    )
    assert seen.levels[key()].held == 3


# Extend, release, expire --------------------------------------------------


def test_extending_never_shortens() -> None:
    seen = view(("tee", 5, "oslo"))
    decide(SHOP.reserve("r", ("tee", 1, "oslo"), ttl_seconds=600), seen)
    assert decide(Extend("r", 60), seen).outcome.expires_at == NOW + TEN_MINUTES
    longer = decide(Extend("r", 900), seen)
    assert longer.outcome.expires_at == NOW + timedelta(minutes=15)
    assert {claim.expires_at for claim in longer.claims} == {NOW + timedelta(minutes=15)}
    assert longer.movements == []


def test_releasing_gives_every_unit_back_once() -> None:
    seen = view(("tee", 5, "oslo"))
    decide(SHOP.reserve("r", ("tee", 2, "oslo"), ("tee", 1, "oslo")), seen)
    decision = decide(Release("r"), seen)
    assert decision.outcome.status is ReservationStatus.RELEASED
    assert moves(decision) == [("held", "release", -2, 1), ("held", "release", -1, 0)]
    again = decide(Release("r"), seen)
    assert (again.outcome.status, again.movements) == (ReservationStatus.RELEASED, [])


def test_releasing_after_it_ran_out_changes_nothing() -> None:
    seen = view(("tee", 5, "oslo"))
    decide(SHOP.reserve("r", ("tee", 2, "oslo")), seen)
    pass_time(seen, NOW + TEN_MINUTES)
    decision = decide(Release("r"), seen)
    assert (decision.outcome.status, decision.movements) == (ReservationStatus.EXPIRED, [])


def test_sweeping_takes_the_units_at_the_instant_they_ran_out() -> None:
    seen = view(("tee", 5, "oslo"))
    decide(SHOP.reserve("r", ("tee", 2, "oslo")), seen)
    decide(SHOP.reserve("later", ("tee", 1, "oslo"), ttl_seconds=3600), seen)
    pass_time(seen, NOW + timedelta(minutes=30))
    decision = decide(Expire("r"), seen)
    assert moves(decision) == [("held", "expire", -2, 1)]
    assert decision.movements[0].occurred_at == NOW + TEN_MINUTES
    assert [event.type for event in decision.events] == ["reservation.expired"]
    level = seen.levels[key()]
    assert (level.held, level.expired, level.live_held) == (1, 0, 1)
    assert level.next_expiry == NOW + timedelta(hours=1)


def test_only_what_ran_out_is_swept_and_only_once() -> None:
    seen = view(("tee", 5, "oslo"))
    decide(SHOP.reserve("r", ("tee", 2, "oslo")), seen)
    refusal(decide(Expire("r"), seen), Code.WRONG_STATUS)
    pass_time(seen, NOW + TEN_MINUTES)
    decide(Expire("r"), seen)
    refusal(decide(Expire("r"), seen), Code.WRONG_STATUS)
    refusal(decide(Expire("nobody"), seen), Code.WRONG_STATUS)


STEPS = {"change": SHOP.change("r", ("tee", 1, "oslo")), "extend": Extend("r", 60)}


@pytest.mark.parametrize("step", STEPS)
def test_no_step_on_a_hold_that_ran_out(step: str) -> None:
    seen = view(("tee", 5, "oslo"))
    decide(SHOP.reserve("r", ("tee", 2, "oslo")), seen)
    pass_time(seen, NOW + TEN_MINUTES)
    refusal(decide(STEPS[step], seen), Code.RESERVATION_EXPIRED)
    decide(Expire("r"), seen)
    refusal(decide(STEPS[step], seen), Code.RESERVATION_EXPIRED)


@pytest.mark.parametrize("step", STEPS)
def test_no_step_on_a_hold_that_was_released(step: str) -> None:
    seen = view(("tee", 5, "oslo"))
    decide(SHOP.reserve("r", ("tee", 2, "oslo")), seen)
    decide(Release("r"), seen)
    refusal(decide(STEPS[step], seen), Code.WRONG_STATUS)


@pytest.mark.parametrize("command", [*STEPS.values(), Release("r")])
def test_no_step_on_a_hold_that_is_not_there(command: object) -> None:
    refusal(decide(command, view()), Code.NOT_FOUND)
