"""Reservations: hold stock for a cart, change it, keep it, give it back, make it an order."""

from typing import Any

from truestock.flows import reserve as flow
from truestock.http.endpoint import Call, endpoint
from truestock.ids import new_id
from truestock.ledger.commands import Answer
from truestock.model.caller import Scope
from truestock.model.order import Confirm, ConfirmRequest, Order
from truestock.model.refusal import Code
from truestock.model.reservation import (
    Extend,
    ExtendRequest,
    LinesRequest,
    Release,
    Reservation,
    ReservationRequest,
)

SCOPE = Scope.RESERVATIONS_WRITE
UNKNOWN = (Code.UNKNOWN_SKU, Code.UNKNOWN_LOCATION)
CLOSED = (Code.NOT_FOUND, Code.RESERVATION_EXPIRED, Code.WRONG_STATUS)


@endpoint(
    "POST",
    "/v1/reservations",
    SCOPE,
    body=ReservationRequest,
    answer=Reservation,
    status=201,
    refuses=(*UNKNOWN, Code.INSUFFICIENT_STOCK, Code.ALREADY_EXISTS),
    ledger=True,
)
async def create_reservation(call: Call) -> Answer:
    """Hold stock for a cart.

    201 means that the hold is on disk. A line without a location goes to the best single one.
    """
    return await flow.reserve(call.services, call.body, call.token)


@endpoint(
    "GET",
    "/v1/reservations/{reservation_id}",
    SCOPE,
    answer=Reservation,
    refuses=(Code.NOT_FOUND,),
)
async def get_reservation(call: Call) -> Any:
    """Read a reservation; one whose time has run out is expired, swept up or not."""
    return await flow.read_reservation(call.services, call.path("reservation_id"))


@endpoint(
    "PUT",
    "/v1/reservations/{reservation_id}/lines",
    SCOPE,
    body=LinesRequest,
    answer=Reservation,
    refuses=(*UNKNOWN, Code.INSUFFICIENT_STOCK, *CLOSED),
)
async def change_reservation_lines(call: Call) -> Answer:
    """Hold these lines instead, all or nothing."""
    return await flow.change_lines(call.services, call.path("reservation_id"), call.body)


@endpoint(
    "POST",
    "/v1/reservations/{reservation_id}/extend",
    SCOPE,
    body=ExtendRequest,
    answer=Reservation,
    refuses=CLOSED,
    ledger=True,
)
async def extend_reservation(call: Call) -> Answer:
    """Hold on until ttl_seconds from now; a hold never gets shorter by it."""
    command = Extend(call.path("reservation_id"), call.body.ttl_seconds)
    return await call.services.ledger.submit(command, call.token)


@endpoint(
    "POST",
    "/v1/reservations/{reservation_id}/release",
    SCOPE,
    answer=Reservation,
    refuses=(Code.NOT_FOUND, Code.WRONG_STATUS),
    ledger=True,
)
async def release_reservation(call: Call) -> Answer:
    """Give back what is held; again, or after it ran out, nothing changes."""
    return await call.services.ledger.submit(Release(call.path("reservation_id")), call.token)


@endpoint(
    "POST",
    "/v1/reservations/{reservation_id}/confirm",
    SCOPE,
    body=ConfirmRequest,
    answer=Order,
    status=201,
    refuses=(*CLOSED, Code.ALREADY_EXISTS),
    ledger=True,
)
async def confirm_reservation(call: Call) -> Answer:
    """Turn the hold into an order: the same units, from the same places, no longer expiring."""
    order_id = call.body.order_id or new_id("ord")
    command = Confirm(call.path("reservation_id"), order_id, call.body)
    return await call.services.ledger.submit(command, call.token)


ENDPOINTS = [
    create_reservation,
    get_reservation,
    change_reservation_lines,
    extend_reservation,
    release_reservation,
    confirm_reservation,
]
