"""A shop on paper: views and levels for decisions, without a database."""

from datetime import datetime
from typing import Any

from tests.seeding import LOCATIONS, MORNING, SKUS, SOURCES, Line, Shop

from truestock.ledger.batch import DECIDERS, evolve
from truestock.model.decision import Claim, Decision, View
from truestock.model.refusal import Code, Refusal
from truestock.model.stock import Bucket, Key, Level

NOW = MORNING
SHOP = Shop(
    {sku: number for number, sku in enumerate(SKUS, start=1)},
    {location: number for number, location in enumerate(LOCATIONS, start=1)},
    {source: number for number, source in enumerate(SOURCES, start=1)},
)


def key(sku: str = "tee", location: str = "oslo") -> Key:
    """A level's key by names."""
    return (SHOP.items[sku], SHOP.locations[location])


def view(*stocked: Line, **fields: Any) -> View:
    """A view of levels that have so many units on hand and nothing promised."""
    levels = {
        key(sku, location): Level(*key(sku, location), on_hand=quantity)
        for sku, quantity, location in stocked
    }
    return View(fields.pop("now", NOW), levels, **fields)


def decide(command: Any, seen: View) -> Decision:
    """Decide a command and let the view see what it did, as the next batch would read it."""
    decision = DECIDERS[type(command)](command, seen)
    if not decision.refused:
        evolve(seen, decision)
        if decision.reservation is not None and decision.claims is not None:
            seen.claims[decision.reservation.reservation_id] = decision.claims
    return decision


def pass_time(seen: View, now: datetime) -> None:
    """Move the view to a later instant: holds that ran out by then no longer count."""
    seen.now = now
    for level in seen.levels.values():
        holds = [claim for claim in every_claim(seen) if claim.key == level.key]
        level.expired = sum(claim.quantity for claim in holds if claim.expires_at <= now)
        live = [claim.expires_at for claim in holds if claim.expires_at > now]
        level.next_live = min(live, default=None)


def every_claim(seen: View) -> list[Claim]:
    """All claims of holds."""
    return [
        claim for claims in seen.claims.values() for claim in claims if claim.bucket is Bucket.HELD
    ]


def refusal(decision: Decision, code: Code) -> Refusal:
    """The decision's refusal, which changes nothing."""
    assert isinstance(decision.outcome, Refusal)
    assert decision.outcome.code is code
    assert not decision.levels
    assert not decision.movements
    assert decision.reservation is None
    return decision.outcome


def moves(decision: Decision) -> list[tuple[str, str, int, int]]:
    """A decision's movements, as bucket, kind, delta and balance."""
    return [(m.bucket.value, m.kind.value, m.delta, m.balance) for m in decision.movements]
