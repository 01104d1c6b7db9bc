"""Facts: what other systems report, and what a fact does to a level.

What on hand means: the newest count plus every movement that happened after it. So a fact may
come late, twice or out of order, and the figure is the same in the end. `unavailable` follows
the same rule with a base of its own, the newest snapshot that says a figure for it.
"""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from truestock.config import MAX_CLOCK_AHEAD_SECONDS, MAX_QUANTITY
from truestock.model.stock import Bucket, Draft, Instant, Key, Kind, Name, ShortText

CLOCK_AHEAD = timedelta(seconds=MAX_CLOCK_AHEAD_SECONDS)
# Before it no system of today recorded stock: such a time is a date that was never set.
EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)

# What one reported unit does to on hand and to unavailable.
EFFECTS: dict[Kind, tuple[int, int]] = {
    Kind.RECEIPT: (1, 0),
    Kind.SALE: (-1, 0),
    Kind.RETURN: (1, 0),
    Kind.DAMAGE: (-1, 1),
    Kind.REPAIR: (1, -1),
    Kind.ADJUSTMENT: (1, 0),
    Kind.TRANSFER_OUT: (-1, 0),
    Kind.TRANSFER_IN: (1, 0),
}


class ShelfMovement(msgspec.Struct, gc=False):
    """What happened to the shelf, other than being counted, after some instant."""

    bucket: Bucket
    delta: int
    occurred_at: datetime


class StockEvent(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A fact as a source reports it. quantity: base units; signed for adjustments alone."""

    event_id: Name
    type: Literal[
        "count",
        "receipt",
        "sale",
        "return",
        "damage",
        "repair",
        "adjustment",
        "transfer_out",
        "transfer_in",
    ]
    sku: Name
    location: Name
    quantity: Annotated[int, Meta(ge=-MAX_QUANTITY, le=MAX_QUANTITY)]
    occurred_at: Instant
    reason: ShortText | None = None
    reference: ShortText | None = None


class FactStatus(StrEnum):
    """What became of a reported fact."""

    APPLIED = "applied"
    DUPLICATE = "duplicate"
    SUPERSEDED = "superseded"
    REJECTED = "rejected"


class Fact(msgspec.Struct, gc=False):
    """A reported fact with the ledger's numbers for its item and location."""

    source_id: int
    source: str
    event_id: str
    kind: Kind
    item_id: int
    location_id: int
    quantity: int
    occurred_at: datetime
    reason: str | None = None
    reference: str | None = None

    @property
    def key(self) -> Key:
        """Which item where."""
        return (self.item_id, self.location_id)

    @property
    def order(self) -> str:
        """What decides between two counts of one instant: the greater (source, event_id)."""
        return count_order(self.source, self.event_id)


def count_order(source: str, event_id: str) -> str:
    """A text that sorts as (source, event_id) does; neither part can hold a control character."""
    return f"{source}\x1f{event_id}"


def quantity_fault(kind: Kind, quantity: int) -> str | None:
    """Why a fact of this kind cannot have this quantity, or None."""
    if kind is Kind.COUNT:
        return None if quantity >= 0 else "A count is zero or more units."
    if kind is Kind.ADJUSTMENT:
        return None if quantity != 0 else "An adjustment is not zero units."
    return None if quantity > 0 else f"A {kind} is at least one unit."


def instant_fault(at: datetime, now: datetime) -> str | None:
    """Why nothing can have been seen at this instant, or None."""
    if at > now + CLOCK_AHEAD:
        return "It lies in the future; check the sender's clock and time zone."
    if at < EARLIEST:
        return f"It lies before {EARLIEST:%Y-%m-%d}; the date was never set."
    return None


class RecordedFact(msgspec.Struct, gc=False):
    """A fact and what became of it."""

    fact: Fact
    status: FactStatus


def record_fact(draft: Draft, fact: Fact, shelf: list[ShelfMovement]) -> FactStatus:
    """Apply one fact to its level in the draft.

    shelf: the level's movements (other than counts) that happened after the oldest count in
    this batch; a count needs those after its own instant. The fact's own is added to it.
    """
    if fact.kind is Kind.COUNT:
        return _record_count(draft, fact, shelf)
    level = draft.level(fact.key)
    on_hand, unavailable = EFFECTS[fact.kind]
    applied = False
    if not _at_or_before(fact.occurred_at, level.counted_at):
        _record_effect(draft, fact, Bucket.ON_HAND, on_hand, shelf)
        applied = True
    if unavailable and not _at_or_before(fact.occurred_at, level.unavailable_counted_at):
        _record_effect(draft, fact, Bucket.UNAVAILABLE, unavailable, shelf)
        applied = True
    if not applied:
        return FactStatus.SUPERSEDED
    if level.moved_at is None or level.moved_at < fact.occurred_at:
        level.moved_at = fact.occurred_at
    return FactStatus.APPLIED


def _at_or_before(at: datetime, base: datetime | None) -> bool:
    return base is not None and at <= base


def _record_effect(
    draft: Draft, fact: Fact, bucket: Bucket, sign: int, shelf: list[ShelfMovement]
) -> None:
    delta = sign * fact.quantity
    reference = fact.reference or fact.event_id
    draft.move(fact.key, bucket, fact.kind, delta, fact.occurred_at, reference, fact.source_id)
    shelf.append(ShelfMovement(bucket, delta, fact.occurred_at))


def _record_count(draft: Draft, fact: Fact, shelf: list[ShelfMovement]) -> FactStatus:
    level = draft.level(fact.key)
    if not level.counted_before(fact.occurred_at, fact.order):
        return FactStatus.SUPERSEDED
    on_hand = fact.quantity + moved_since(shelf, Bucket.ON_HAND, fact.occurred_at)
    draft.move(
        fact.key,
        Bucket.ON_HAND,
        Kind.COUNT,
        on_hand - level.on_hand,
        fact.occurred_at,
        fact.reference or fact.event_id,
        fact.source_id,
    )
    level.counted_at, level.counted_by = fact.occurred_at, fact.order
    return FactStatus.APPLIED


def moved_since(shelf: Iterable[ShelfMovement], bucket: Bucket, at: datetime) -> int:
    """What happened to a bucket after an instant, in units."""
    return sum(step.delta for step in shelf if step.bucket is bucket and step.occurred_at > at)
