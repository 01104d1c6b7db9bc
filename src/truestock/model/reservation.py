"""Reservations: what a caller asks, what the ledger holds, and how each step is decided.

A decision is pure: `decide(command, view)` reads what the batch has locked and answers with the
levels, movements and documents as they would be. Nothing is changed until the ledger writes it.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from truestock.config import DEFAULT_TTL_SECONDS, MAX_RESERVATION_LINES, MAX_TTL_SECONDS
from truestock.model.buffers import sellable
from truestock.model.decision import Claim, Decision, Event, View, refuse
from truestock.model.place import Place, Want
from truestock.model.refusal import Code, Refusal, Shortage
from truestock.model.stock import Bucket, Draft, Key, Kind, Level, Name, Quantity, ShortText

Method = Literal["pickup", "ship"]
TtlSeconds = Annotated[int, Meta(ge=1, le=MAX_TTL_SECONDS)]


class Destination(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """Where the goods are to go; degrees."""

    latitude: Annotated[float, Meta(ge=-90, le=90)]
    longitude: Annotated[float, Meta(ge=-180, le=180)]
    country: ShortText | None = None
    postal_code: ShortText | None = None


class LineRequest(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """One line of a cart; without a location it is sourced for the caller."""

    line_id: Name
    sku: Name
    quantity: Quantity
    location: Name | None = None


Lines = Annotated[list[LineRequest], Meta(min_length=1, max_length=MAX_RESERVATION_LINES)]


class ReservationRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`POST /v1/reservations`."""

    reference: Name
    channel: Name
    lines: Lines
    reservation_id: Name | None = None
    customer_id: Name | None = None
    ttl_seconds: TtlSeconds = DEFAULT_TTL_SECONDS
    method: Method | None = None
    destination: Destination | None = None
    allow_partial: bool = False


class LinesRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`PUT /v1/reservations/{id}/lines`: the lines from now on, all or nothing."""

    lines: Lines


class ExtendRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`POST /v1/reservations/{id}/extend`: how long from now the hold shall last."""

    ttl_seconds: TtlSeconds


class ReservationStatus(StrEnum):
    """A hold is open once, and resolved once."""

    HELD = "held"
    CONFIRMED = "confirmed"
    RELEASED = "released"
    EXPIRED = "expired"


class HeldLine(msgspec.Struct, frozen=True):
    """A line as it is held, in base units at one location."""

    line_id: str
    sku: str
    quantity: int
    location: str


class Reservation(msgspec.Struct, omit_defaults=True):
    """The document: row and answer at once."""

    reservation_id: str
    status: ReservationStatus
    reference: str
    channel: str
    expires_at: datetime
    lines: list[HeldLine]
    created_at: datetime
    customer_id: str | None = None
    method: Method | None = None
    destination: Destination | None = None
    resolved_at: datetime | None = None

    def status_at(self, now: datetime) -> ReservationStatus:
        """The status by the clock: a hold whose time has run out is expired, swept up or not."""
        if self.status is ReservationStatus.HELD and self.expires_at <= now:
            return ReservationStatus.EXPIRED
        return self.status


class Reserve(msgspec.Struct, frozen=True):
    """Hold stock for a cart.

    fresh: the id was made here, so that nobody can have it yet.
    proposal: the wants name the likeliest places only; if they fail, all are to be looked at.
    """

    document_id: str
    request: ReservationRequest
    wants: tuple[Want, ...]
    fresh: bool = False
    proposal: bool = False


class ChangeLines(msgspec.Struct, frozen=True):
    """Hold other lines instead, all or nothing."""

    document_id: str
    wants: tuple[Want, ...]


class Extend(msgspec.Struct, frozen=True):
    """Hold on for longer."""

    document_id: str
    ttl_seconds: int


class Release(msgspec.Struct, frozen=True):
    """Give the held units back."""

    document_id: str


class Expire(msgspec.Struct, frozen=True):
    """Sweep up a hold that ran out; its movements happened at its expires_at."""

    document_id: str


def decide_reserve(command: Reserve, view: View) -> Decision:
    """Hold each line at the first of its places that has enough, or refuse as a whole."""
    if command.document_id in view.reservations:
        return refuse(Code.ALREADY_EXISTS, f"Reservation {command.document_id} is there already.")
    request = command.request
    partial = request.allow_partial and not command.proposal
    picked = pick(command.wants, view, {}, partial=partial)
    if isinstance(picked, Refusal):
        return Decision(picked, provisional=command.proposal)
    expires_at = view.now + timedelta(seconds=request.ttl_seconds)
    reservation = Reservation(
        command.document_id,
        ReservationStatus.HELD,
        request.reference,
        request.channel,
        expires_at,
        held_lines(picked),
        view.now,
        request.customer_id,
        request.method,
        request.destination,
    )
    draft = Draft(view.levels)
    for _, place, quantity in picked:
        draft.move(place.key, Bucket.HELD, Kind.RESERVE, quantity, view.now, command.document_id)
        note_expiry(draft.levels[place.key], expires_at)
    return Decision(
        reservation,
        201,
        draft.levels,
        draft.movements,
        reservation,
        claims_for(command.document_id, picked, expires_at),
    )


def decide_change(command: ChangeLines, view: View) -> Decision:
    """Hold the new lines instead of the old; each level moves by the difference alone."""
    reservation = open_reservation(command.document_id, view)
    if isinstance(reservation, Refusal):
        return Decision(reservation)
    before = units_by_level(view.claims[command.document_id])
    picked = pick(command.wants, view, before, partial=False)
    if isinstance(picked, Refusal):
        return Decision(picked)
    claims = claims_for(command.document_id, picked, reservation.expires_at)
    after = units_by_level(claims)
    draft = Draft(view.levels)
    for key in before.keys() | after.keys():
        if delta := after.get(key, 0) - before.get(key, 0):
            draft.move(key, Bucket.HELD, Kind.CHANGE, delta, view.now, command.document_id)
            note_expiry(draft.levels[key], reservation.expires_at)
    changed = msgspec.structs.replace(reservation, lines=held_lines(picked))
    return Decision(changed, 200, draft.levels, draft.movements, changed, claims)


def decide_extend(command: Extend, view: View) -> Decision:
    """Let the hold run until ttl_seconds from now; it never gets shorter."""
    reservation = open_reservation(command.document_id, view)
    if isinstance(reservation, Refusal):
        return Decision(reservation)
    expires_at = max(reservation.expires_at, view.now + timedelta(seconds=command.ttl_seconds))
    extended = msgspec.structs.replace(reservation, expires_at=expires_at)
    claims = [
        msgspec.structs.replace(claim, expires_at=expires_at)
        for claim in view.claims[command.document_id]
    ]
    return Decision(extended, reservation=extended, claims=claims)


def decide_release(command: Release, view: View) -> Decision:
    """Give back what is held; releasing twice, or after it ran out, changes nothing."""
    reservation = view.reservations.get(command.document_id)
    if reservation is None:
        return Decision(unknown_reservation(command.document_id))
    status = reservation.status_at(view.now)
    if status is ReservationStatus.CONFIRMED:
        return refuse(Code.WRONG_STATUS, "The reservation is an order now: cancel the order.")
    if status is not ReservationStatus.HELD:
        return Decision(msgspec.structs.replace(reservation, status=status))
    return resolve(reservation, view, ReservationStatus.RELEASED, Kind.RELEASE, view.now)


def decide_expire(command: Expire, view: View) -> Decision:
    """Sweep up a hold, if it is still open and its time has run out."""
    reservation = view.reservations.get(command.document_id)
    if reservation is None or reservation.status is not ReservationStatus.HELD:
        return refuse(Code.WRONG_STATUS, "The reservation is not held any more.")
    if reservation.expires_at > view.now:
        return refuse(Code.WRONG_STATUS, "The reservation has not run out yet.")
    decision = resolve(
        reservation, view, ReservationStatus.EXPIRED, Kind.EXPIRE, reservation.expires_at
    )
    for claim in view.claims[command.document_id]:
        level = decision.levels[claim.key]
        level.expired -= claim.quantity
        if level.expired == 0:
            level.next_expiry = level.next_live
    decision.events.append(Event("reservation.expired", expired_data(reservation)))
    return decision


def expired_data(reservation: Reservation) -> dict[str, Any]:
    """What the outside learns of a hold that ran out."""
    return {
        "reservation_id": reservation.reservation_id,
        "reference": reservation.reference,
        "channel": reservation.channel,
        "expires_at": reservation.expires_at,
        "lines": reservation.lines,
    }


# Parts --------------------------------------------------------------------

Picked = list[tuple[Want, Place, int]]


def pick(
    wants: tuple[Want, ...], view: View, given_back: dict[Key, int], *, partial: bool
) -> Picked | Refusal:
    """Choose a place for each line, lines of one request sharing what a level has.

    Lines that can only be at one place choose first, then the larger ones; the answer is in the
    order of the request. given_back: units by level that its own document would let go.
    """
    taken: dict[Key, int] = {}
    picked: dict[int, tuple[Want, Place, int]] = {}
    short: dict[int, Shortage] = {}
    for position in choosing_order(wants):
        want = wants[position]
        place, left = best_place(want, view, given_back, taken)
        quantity = min(left, want.quantity)
        if quantity < want.quantity:
            short[position] = Shortage(want.line_id, want.sku, want.quantity, left, want.location)
        if place is not None and quantity > 0:
            taken[place.key] = taken.get(place.key, 0) + quantity
            picked[position] = (want, place, quantity)
    if short and not (partial and picked):
        return Refusal(
            Code.INSUFFICIENT_STOCK,
            "Nothing is held: ask for what is available, or set allow_partial.",
            shortages=tuple(short[position] for position in sorted(short)),
        )
    return [picked[position] for position in sorted(picked)]


def choosing_order(wants: tuple[Want, ...]) -> Iterable[int]:
    """The lines' positions: those with the fewest places first, then those with most units."""
    if all(len(want.places) == 1 for want in wants):
        return range(len(wants))
    return sorted(range(len(wants)), key=lambda n: (len(wants[n].places), -wants[n].quantity))


def best_place(
    want: Want, view: View, given_back: dict[Key, int], taken: dict[Key, int]
) -> tuple[Place | None, int]:
    """The first place that has all of the line, else the one with most; and what it has.

    What a document holds already it may keep, also where facts or a buffer undercut it since.
    """
    best, most = None, 0
    for place in want.places:
        key = place.key
        level = view.levels.get(key)
        if level is None:
            continue
        own = given_back.get(key, 0)
        left = max(sellable(level.free + own, place.buffer), own) - taken.get(key, 0)
        if left >= want.quantity:
            return place, left
        if left > most:
            best, most = place, left
    return best, most


def resolve(
    reservation: Reservation,
    view: View,
    status: ReservationStatus,
    kind: Kind,
    occurred_at: datetime,
) -> Decision:
    """End a hold: its units leave `held`, its document gets its last status."""
    draft = Draft(view.levels)
    document_id = reservation.reservation_id
    for claim in view.claims[document_id]:
        draft.move(claim.key, Bucket.HELD, kind, -claim.quantity, occurred_at, document_id)
    ended = msgspec.structs.replace(reservation, status=status, resolved_at=view.now)
    return Decision(ended, 200, draft.levels, draft.movements, ended, [], events=[])


def open_reservation(document_id: str, view: View) -> Reservation | Refusal:
    """The reservation if it can still be changed, else why not."""
    reservation: Reservation | None = view.reservations.get(document_id)
    if reservation is None:
        return unknown_reservation(document_id)
    status = reservation.status_at(view.now)
    if status is ReservationStatus.EXPIRED:
        return Refusal(
            Code.RESERVATION_EXPIRED,
            f"The hold ran out at {reservation.expires_at.isoformat()}: reserve again.",
        )
    if status is not ReservationStatus.HELD:
        return Refusal(Code.WRONG_STATUS, f"The reservation is {status} and cannot be changed.")
    return reservation


def unknown_reservation(document_id: str) -> Refusal:
    """There is no such reservation."""
    return Refusal(Code.NOT_FOUND, f"There is no reservation {document_id}.")


def note_expiry(level: Level, expires_at: datetime) -> None:
    """Keep next_expiry a lower bound of when a hold on the level runs out."""
    if level.next_expiry is None or expires_at < level.next_expiry:
        level.next_expiry = expires_at
    if level.next_live is None or expires_at < level.next_live:
        level.next_live = expires_at


def claims_for(document_id: str, picked: Picked, expires_at: datetime) -> list[Claim]:
    """The claims that hold these lines."""
    return [
        Claim(document_id, number, *place.key, Bucket.HELD, quantity, expires_at)
        for number, (_, place, quantity) in enumerate(picked)
    ]


def units_by_level(claims: list[Claim]) -> dict[Key, int]:
    """Claimed units, summed by level."""
    units: dict[Key, int] = {}
    for claim in claims:
        units[claim.key] = units.get(claim.key, 0) + claim.quantity
    return units


def held_lines(picked: Picked) -> list[HeldLine]:
    """Lines as the document names them."""
    return [
        HeldLine(want.line_id, want.sku, quantity, place.location)
        for want, place, quantity in picked
    ]
