"""Orders: a promise that no longer expires, and the parts of it that locations do."""

from datetime import datetime
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from truestock.model.decision import Claim, Decision, Event, View, refuse
from truestock.model.refusal import Code, Refusal, field_refusal
from truestock.model.reservation import (
    Destination,
    HeldLine,
    Lines,
    Reservation,
    ReservationStatus,
    open_reservation,
)
from truestock.model.stock import Bucket, Draft, Instant, Kind, Name, ShortText, in_utc


class Customer(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """Whom the order is for."""

    name: Annotated[str, Meta(min_length=1, max_length=200)]
    contact: ShortText | None = None


class ConfirmRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`POST /v1/reservations/{id}/confirm`: an order's body; what is left out the hold knows."""

    order_id: Name | None = None
    channel: Name | None = None
    reservation_id: Name | None = None
    lines: Lines | None = None
    method: Literal["pickup", "ship", "best"] | None = None
    pickup_location: Name | None = None
    destination: Destination | None = None
    needed_by: Instant | None = None
    customer: Customer | None = None
    max_splits: Annotated[int, Meta(ge=0, le=100)] | None = None


class Allocation(msgspec.Struct, frozen=True):
    """Units of a line that one location gives."""

    location: str
    quantity: int


class OrderLine(msgspec.Struct, frozen=True):
    """A line of an order and where its units come from."""

    line_id: str
    sku: str
    quantity: int
    allocations: list[Allocation]


class FulfilmentLine(msgspec.Struct, frozen=True):
    """Units of a line that one fulfilment handles."""

    line_id: str
    sku: str
    quantity: int


class Fulfilment(msgspec.Struct, frozen=True):
    """The part of an order that one location does."""

    fulfilment_id: str
    order_id: str
    location: str
    method: str
    status: str
    lines: list[FulfilmentLine]
    created_at: datetime


class Order(msgspec.Struct, frozen=True, omit_defaults=True):
    """The document: row and answer at once."""

    order_id: str
    status: str
    channel: str
    method: str
    lines: list[OrderLine]
    fulfilments: list[Fulfilment]
    created_at: datetime
    reservation_id: str | None = None
    customer: Customer | None = None
    destination: Destination | None = None
    needed_by: datetime | None = None


class Confirm(msgspec.Struct, frozen=True):
    """Turn a hold into an order, in one step."""

    document_id: str
    order_id: str
    request: ConfirmRequest


def decide_confirm(command: Confirm, view: View) -> Decision:
    """Move the held units to `allocated`; the hold is confirmed and the order is there."""
    reservation = open_reservation(command.document_id, view)
    if isinstance(reservation, Refusal):
        return Decision(reservation)
    if command.order_id in view.orders:
        return refuse(Code.ALREADY_EXISTS, f"Order {command.order_id} is there already.")
    if mismatch := lines_mismatch(command.request, reservation):
        return Decision(mismatch)
    order = order_of(command, reservation, view.now)
    draft = Draft(view.levels)
    for claim in view.claims[command.document_id]:
        for bucket, delta in ((Bucket.HELD, -claim.quantity), (Bucket.ALLOCATED, claim.quantity)):
            draft.move(claim.key, bucket, Kind.CONFIRM, delta, view.now, order.order_id)
    return Decision(
        order,
        201,
        draft.levels,
        draft.movements,
        reservation=msgspec.structs.replace(
            reservation, status=ReservationStatus.CONFIRMED, resolved_at=view.now
        ),
        claims=[],
        order=order,
        order_claims=[
            allocated(claim, order.order_id) for claim in view.claims[command.document_id]
        ],
        events=[opened(fulfilment) for fulfilment in order.fulfilments],
    )


def allocated(claim: Claim, order_id: str) -> Claim:
    """A hold's claim as the order has it: it no longer expires."""
    return msgspec.structs.replace(
        claim, document_id=order_id, bucket=Bucket.ALLOCATED, expires_at=None
    )


def lines_mismatch(request: ConfirmRequest, reservation: Reservation) -> Refusal | None:
    """Where the order contradicts what is held, or None; it takes what is held, no more."""
    if request.reservation_id not in (None, reservation.reservation_id):
        return field_refusal("/reservation_id", "The path names another reservation.")
    place = request.pickup_location
    if place is not None and any(line.location != place for line in reservation.lines):
        detail = f"Not all units are held at {place!r}: change the reservation's lines first."
        return field_refusal("/pickup_location", detail)
    if request.lines is None:
        return None
    wanted, held = units_by_sku(request.lines), units_by_sku(reservation.lines)
    if wanted == held:
        return None
    return field_refusal(
        "/lines", "The lines are not those that are held: change the reservation's lines first."
    )


def units_by_sku(lines: list[HeldLine] | Lines) -> dict[str, int]:
    """Units of each sku over all lines."""
    units: dict[str, int] = {}
    for line in lines:
        units[line.sku] = units.get(line.sku, 0) + line.quantity
    return units


def order_of(command: Confirm, reservation: Reservation, now: datetime) -> Order:
    """The order's document: its lines as held, and a fulfilment for each location."""
    request = command.request
    method = request.method if request.method not in (None, "best") else reservation.method
    method = method or "ship"
    return Order(
        command.order_id,
        "open",
        request.channel or reservation.channel,
        method,
        order_lines(reservation.lines),
        fulfilments_of(command.order_id, method, reservation.lines, now),
        now,
        reservation.reservation_id,
        request.customer,
        request.destination or reservation.destination,
        None if request.needed_by is None else in_utc(request.needed_by),
    )


def order_lines(held: list[HeldLine]) -> list[OrderLine]:
    """Lines by line_id; one that is held at several locations stands once, with all of them."""
    lines: dict[str, OrderLine] = {}
    for line in held:
        allocation = Allocation(line.location, line.quantity)
        known = lines.get(line.line_id)
        if known is None:
            lines[line.line_id] = OrderLine(line.line_id, line.sku, line.quantity, [allocation])
        else:
            lines[line.line_id] = OrderLine(
                line.line_id,
                line.sku,
                known.quantity + line.quantity,
                [*known.allocations, allocation],
            )
    return list(lines.values())


def fulfilments_of(
    order_id: str, method: str, held: list[HeldLine], now: datetime
) -> list[Fulfilment]:
    """One fulfilment a location, numbered in the order of the lines."""
    by_location: dict[str, list[FulfilmentLine]] = {}
    for line in held:
        by_location.setdefault(line.location, []).append(
            FulfilmentLine(line.line_id, line.sku, line.quantity)
        )
    return [
        Fulfilment(f"{order_id}-{number}", order_id, location, method, "open", lines, now)
        for number, (location, lines) in enumerate(by_location.items(), start=1)
    ]


def opened(fulfilment: Fulfilment) -> Event:
    """A location has something to do."""
    return Event("fulfilment.opened", msgspec.to_builtins(fulfilment))
