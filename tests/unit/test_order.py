"""How a hold becomes an order."""

from datetime import timedelta

import msgspec
import pytest
from tests.seeding import confirm
from tests.unit.paper import NOW, SHOP, decide, key, moves, pass_time, refusal, view

from truestock.model.decision import View
from truestock.model.order import Allocation
from truestock.model.refusal import Code
from truestock.model.reservation import HeldLine, Release, ReservationStatus
from truestock.model.stock import Bucket


@pytest.fixture
def held() -> View:
    """Two tees in Oslo and a mug in Rome, held by `r`."""
    seen = view(("tee", 5, "oslo"), ("mug", 5, "rome"))
    decide(SHOP.reserve("r", ("tee", 2, "oslo"), ("mug", 1, "rome")), seen)
    return seen


def test_confirming_moves_the_units_from_held_to_allocated(held: View) -> None:
    decision = decide(confirm("r", "o"), held)
    assert decision.status == 201
    assert moves(decision) == [
        ("held", "confirm", -2, 0),
        ("allocated", "confirm", 2, 2),
        ("held", "confirm", -1, 0),
        ("allocated", "confirm", 1, 1),
    ]
    assert held.levels[key()].available == 3
    assert decision.reservation.status is ReservationStatus.CONFIRMED
    assert decision.claims == []


def test_the_order_claims_what_the_hold_did_without_an_expiry(held: View) -> None:
    claims = decide(confirm("r", "o"), held).order_claims
    assert [(c.document_id, c.bucket, c.quantity, c.expires_at) for c in claims] == [
        ("o", Bucket.ALLOCATED, 2, None),
        ("o", Bucket.ALLOCATED, 1, None),
    ]


def test_each_location_gets_a_fulfilment_and_hears_of_it(held: View) -> None:
    decision = decide(confirm("r", "o"), held)
    order = decision.outcome
    assert [(f.fulfilment_id, f.location) for f in order.fulfilments] == [
        ("o-1", "oslo"),
        ("o-2", "rome"),
    ]
    assert [event.type for event in decision.events] == ["fulfilment.opened"] * 2


def test_a_line_held_at_two_locations_stands_once_in_the_order(held: View) -> None:
    lines = [HeldLine("1", "tee", 2, "oslo"), HeldLine("1", "tee", 1, "rome")]
    held.reservations["r"] = msgspec.structs.replace(held.reservations["r"], lines=lines)
    (line,) = decide(confirm("r", "o"), held).outcome.lines
    assert (line.quantity, line.allocations) == (
        3,
        [Allocation("oslo", 2), Allocation("rome", 1)],
    )


def test_an_order_takes_exactly_what_is_held(held: View) -> None:
    short = confirm("r", "o", ("tee", 2, "oslo"))
    more = confirm("r", "o", ("tee", 2, "oslo"), ("mug", 2, "rome"))
    for wrong in (short, more):
        no = refusal(decide(wrong, held), Code.VALIDATION_FAILED)
        assert [error.pointer for error in no.errors] == ["/lines"]
    same = confirm("r", "o", ("mug", 1, "rome"), ("tee", 1, "oslo"), ("tee", 1, "oslo"))
    assert decide(same, held).status == 201


def test_an_order_id_is_taken_once(held: View) -> None:
    held.orders.add("o")
    refusal(decide(confirm("r", "o"), held), Code.ALREADY_EXISTS)


def test_a_hold_becomes_an_order_once(held: View) -> None:
    decide(confirm("r", "o"), held)
    refusal(decide(confirm("r", "other"), held), Code.WRONG_STATUS)


def test_an_order_is_cancelled_not_released(held: View) -> None:
    decide(confirm("r", "o"), held)
    assert "cancel the order" in refusal(decide(Release("r"), held), Code.WRONG_STATUS).detail


def test_a_hold_that_ran_out_does_not_become_an_order(held: View) -> None:
    pass_time(held, NOW + timedelta(minutes=10))
    refusal(decide(confirm("r", "o"), held), Code.RESERVATION_EXPIRED)


def test_a_hold_that_is_not_there_does_not_become_an_order() -> None:
    refusal(decide(confirm("r", "o"), view()), Code.NOT_FOUND)
