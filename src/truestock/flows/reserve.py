"""Reservations: source the lines, then ask the ledger.

A line that names no location goes to the best single one that has it: the nearest to the
destination, else the one with most left. The read side proposes a few; if the ledger finds none
of them good enough, every level of the item is locked and the answer is final.
"""

from datetime import UTC, datetime

from truestock.db import SQL
from truestock.flows.services import Services
from truestock.ids import new_id
from truestock.ledger.commands import Answer, Refuse, Token
from truestock.ledger.read import reservation_from
from truestock.model.buffers import sellable
from truestock.model.place import ItemRef, LocationRef, Place, Want, distance_km
from truestock.model.refusal import Code, FieldError, Refusal, field_refusal
from truestock.model.reservation import (
    ChangeLines,
    Destination,
    LineRequest,
    LinesRequest,
    Reservation,
    ReservationRequest,
    Reserve,
    unknown_reservation,
)
from truestock.model.stock import Figures

MAX_PROPOSALS = 6


async def reserve(services: Services, request: ReservationRequest, token: Token | None) -> Answer:
    """Hold stock for a cart; 201 means that it is on disk."""
    items = await known_items(services, request.lines)
    if isinstance(items, Refusal):
        return await services.ledger.submit(Refuse(items), token)
    document_id = request.reservation_id or new_id("rsv")
    sourced = any(line.location is None for line in request.lines)
    wants = await wants_for(services, request.lines, items, request, strong=False)
    command = Reserve(
        document_id, request, wants, fresh=request.reservation_id is None, proposal=sourced
    )
    answer = await services.ledger.submit(command, token)
    if not answer.provisional:
        return answer
    wants = await wants_for(services, request.lines, items, request, strong=True)
    final = Reserve(document_id, request, wants, fresh=request.reservation_id is None)
    return await services.ledger.submit(final, token)


async def change_lines(services: Services, document_id: str, request: LinesRequest) -> Answer:
    """Hold other lines instead, all or nothing."""
    reservation = await read_reservation(services, document_id)
    if isinstance(reservation, Refusal):
        return await services.ledger.submit(Refuse(reservation), None)
    items = await known_items(services, request.lines)
    if isinstance(items, Refusal):
        return await services.ledger.submit(Refuse(items), None)
    wants = await wants_for(services, request.lines, items, reservation, strong=True)
    return await services.ledger.submit(ChangeLines(document_id, wants), None)


async def read_reservation(services: Services, document_id: str) -> Reservation | Refusal:
    """The document, its status by the clock."""
    row = await services.pool.fetchrow(SQL["get_reservation"], document_id)
    if row is None:
        return unknown_reservation(document_id)
    reservation = reservation_from(row)
    reservation.status = reservation.status_at(datetime.now(UTC))
    return reservation


async def known_items(services: Services, lines: list[LineRequest]) -> dict[str, ItemRef] | Refusal:
    """The lines' items, or a refusal that points at each sku and location nobody knows."""
    if ambiguous := line_id_fault(lines):
        return ambiguous
    reference = services.reference
    items = await reference.items({line.sku for line in lines})
    faults: list[FieldError] = []
    for number, line in enumerate(lines):
        if line.sku not in items:
            detail = f"There is no item {line.sku!r}: PUT it under /v1/items first."
            faults.append(FieldError(f"/lines/{number}/sku", Code.UNKNOWN_SKU, detail))
        if line.location is not None and line.location not in reference.locations:
            detail = f"There is no location {line.location!r}: PUT it under /v1/locations first."
            faults.append(FieldError(f"/lines/{number}/location", Code.UNKNOWN_LOCATION, detail))
    if not faults:
        return items
    return Refusal(faults[0].code, faults[0].detail, errors=tuple(faults))


def line_id_fault(lines: list[LineRequest]) -> Refusal | None:
    """One line may stand several times, as when it is split; but always for the same item."""
    skus: dict[str, str] = {}
    for number, line in enumerate(lines):
        if skus.setdefault(line.line_id, line.sku) != line.sku:
            detail = f"The line_id {line.line_id!r} is another item's already."
            return field_refusal(f"/lines/{number}/line_id", detail)
    return None


async def wants_for(
    services: Services,
    lines: list[LineRequest],
    items: dict[str, ItemRef],
    terms: ReservationRequest | Reservation,
    *,
    strong: bool,
) -> tuple[Want, ...]:
    """The lines with the places that each may be held at, best first."""
    unplaced = {items[line.sku].item_id for line in lines if line.location is None}
    levels = await services.availability.items(list(unplaced), strong=strong) if unplaced else {}
    wants = []
    for line in lines:
        item = items[line.sku]
        if line.location is not None:
            location = services.reference.locations[line.location]
            places = [place_at(services, item, location, terms)]
        else:
            found = list(levels[item.item_id].levels.values())
            places = proposals(services, item, found, line.quantity, terms)
            places = places if strong else places[:MAX_PROPOSALS]
        wants.append(Want(line.line_id, line.sku, line.quantity, tuple(places), line.location))
    return tuple(wants)


def place_at(
    services: Services,
    item: ItemRef,
    location: LocationRef,
    terms: ReservationRequest | Reservation,
) -> Place:
    """A place with the buffer that binds these terms there."""
    buffer = services.reference.buffer(item, location.location, terms.channel, terms.method)
    return Place(item.item_id, location.location_id, location.location, buffer)


def proposals(
    services: Services,
    item: ItemRef,
    levels: list[Figures],
    quantity: int,
    terms: ReservationRequest | Reservation,
) -> list[Place]:
    """Every place that has a level of the item and serves the method, the best first."""
    ranked: list[tuple[tuple[bool, float, str], Place]] = []
    for level in levels:
        location = services.reference.locations_by_id.get(level.location_id)
        if location is None or not location.serves(terms.method):
            continue
        place = place_at(services, item, location, terms)
        left = sellable(level.free, place.buffer)
        far = distance_from(terms.destination, location)
        ranked.append(((left < quantity, -left if far is None else far, place.location), place))
    return [place for _, place in sorted(ranked, key=lambda entry: entry[0])]


def distance_from(destination: Destination | None, location: LocationRef) -> float | None:
    """Kilometres from a destination, None where there is none; unplaced locations come last."""
    if destination is None:
        return None
    if location.latitude is None or location.longitude is None:
        return float("inf")
    return distance_km(
        destination.latitude, destination.longitude, location.latitude, location.longitude
    )
