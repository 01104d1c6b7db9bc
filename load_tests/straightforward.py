"""The handler that a developer would write first: one transaction a request, rows locked in it.

It sells nothing twice and loses no answer, on the ledger's own tables. What it lacks is the group
commit.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Any

import asyncpg
import msgspec
from litestar import Litestar, MediaType, Request, Response, get, post
from litestar.datastructures import State

from load_tests.databases import queries
from truestock.ids import new_id
from truestock.model.reservation import HeldLine, Reservation, ReservationRequest, ReservationStatus

DATABASE = "LOAD_TESTS_DATABASE_URL"
POOL_SIZE = "LOAD_TESTS_POOL_SIZE"
SQL = queries("straightforward.sql")


class OutOfStockError(Exception):
    """A level has less than the lines ask."""


@get("/health/ready", media_type=MediaType.TEXT)
async def ready() -> str:
    """Answers once the pool is open."""
    return "ok"


@post("/v1/reservations")
async def reserve(
    request: Request[Any, Any, State], data: ReservationRequest, state: State
) -> Response[Any]:
    """Hold the lines, all or nothing."""
    key = request.headers["idempotency-key"]
    try:
        async with state.pool.acquire() as connection, connection.transaction():
            reservation = await hold(connection, data, key)
    except OutOfStockError:
        return Response({"code": "insufficient_stock"}, status_code=409)
    return Response(reservation, status_code=201)


async def hold(connection: Any, data: ReservationRequest, key: str) -> Reservation:
    """Lock, look, change, write down; inside the caller's transaction."""
    wanted: dict[tuple[str, str | None], int] = {}
    for line in data.lines:
        wanted[line.sku, line.location] = wanted.get((line.sku, line.location), 0) + line.quantity
    levels = await connection.fetch(
        SQL["lock_levels"], [sku for sku, _ in wanted], [location for _, location in wanted]
    )
    units = {level: wanted[level["sku"], level["location"]] for level in levels}
    if len(levels) < len(wanted) or any(level["available"] < units[level] for level in levels):
        raise OutOfStockError
    now = datetime.now(UTC)
    reservation = Reservation(
        new_id("rsv"),
        ReservationStatus.HELD,
        data.reference,
        data.channel,
        now + timedelta(seconds=data.ttl_seconds),
        [HeldLine(x.line_id, x.sku, x.quantity, x.location or "") for x in data.lines],
        now,
    )
    await write(connection, reservation, units, key)
    return reservation


async def write(connection: Any, reservation: Reservation, units: dict[Any, int], key: str) -> None:
    """Movements, levels, the document, its lines and the answer."""
    document_id, until = reservation.reservation_id, reservation.expires_at
    items = [level["item_id"] for level in units]
    places = [level["location_id"] for level in units]
    deltas = list(units.values())
    helds = [level["held"] + delta for level, delta in units.items()]
    moved = await connection.fetch(
        SQL["insert_movements"], document_id, items, places, deltas, helds
    )
    seqs = [row["seq"] for row in moved]
    await connection.execute(SQL["update_levels"], until, items, places, helds, seqs)
    await connection.execute(
        SQL["insert_reservation"],
        document_id,
        reservation.reference,
        reservation.channel,
        msgspec.json.encode(reservation.lines).decode(),
        until,
        reservation.created_at,
    )
    numbers = list(range(len(units)))
    await connection.execute(
        SQL["insert_lines"], document_id, until, numbers, items, places, deltas
    )
    await connection.execute(
        SQL["insert_answer"],
        key,
        blake2b(key.encode(), digest_size=16).digest(),
        msgspec.json.encode(reservation),
        reservation.created_at,
    )


def create_app() -> Litestar:
    """The handler with its pool."""

    @asynccontextmanager
    async def lifespan(app: Litestar) -> AsyncIterator[None]:
        size = int(os.environ[POOL_SIZE])
        pool = await asyncpg.create_pool(os.environ[DATABASE], min_size=size, max_size=size)
        app.state.pool = pool
        yield
        await pool.close()

    return Litestar([ready, reserve], lifespan=[lifespan], openapi_config=None, logging_config=None)
