"""Bare Litestar handlers: the fastest that the framework does the same exchange in.

They answer ready bytes, or take and give the same Structs, and do nothing else.
"""

import itertools
import os
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from litestar import Litestar, MediaType, get, post

from truestock.model.reservation import HeldLine, Reservation, ReservationRequest, ReservationStatus

# The file of ready answers: a list of bodies, one for GET, the others for the query in turn.
ANSWERS = "LOAD_TESTS_ANSWERS"


def create_app() -> Litestar:
    """The handlers, with the answers that were fetched from the service before."""
    bodies: list[bytes] = msgspec.msgpack.decode(
        Path(os.environ[ANSWERS]).read_bytes(), type=list[bytes]
    )
    one_item, *many_items = bodies
    turns = itertools.cycle(many_items)
    numbers = itertools.count(1)
    now = datetime.now(UTC)

    @get("/health/ready", media_type=MediaType.TEXT)
    async def ready() -> str:
        return "ok"

    @get("/v1/availability/{sku:str}", media_type=MediaType.JSON)
    async def read_one(sku: str) -> bytes:
        return one_item

    @post("/v1/availability/query", media_type=MediaType.JSON, status_code=200)
    async def read_many() -> bytes:
        return next(turns)

    @post("/v1/reservations")
    async def reserve(data: ReservationRequest) -> Reservation:
        lines = [
            HeldLine(line.line_id, line.sku, line.quantity, line.location or "")
            for line in data.lines
        ]
        name = f"rsv_{next(numbers)}"
        held = ReservationStatus.HELD
        return Reservation(name, held, data.reference, data.channel, now, lines, now)

    routes = [ready, read_one, read_many, reserve]
    return Litestar(routes, openapi_config=None, logging_config=None)
