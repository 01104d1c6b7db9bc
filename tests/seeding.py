"""Small shops to test in: items, locations and sources, stock by facts, and commands on them."""

import asyncio
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from itertools import count
from typing import Any

import msgspec

from truestock import db
from truestock.db import Connection
from truestock.ledger.check import check
from truestock.ledger.commands import Answer, Token
from truestock.ledger.writer import Ledger
from truestock.model.buffers import NO_BUFFER, BufferRule
from truestock.model.facts import Fact
from truestock.model.order import Confirm, ConfirmRequest
from truestock.model.place import Place, Want
from truestock.model.record import Record
from truestock.model.reservation import ChangeLines, LineRequest, ReservationRequest, Reserve
from truestock.model.stock import Kind

# A line as tests write it: sku, quantity, location.
Line = tuple[str, int, str]

SKUS = ("tee", "mug", "cap")
LOCATIONS = ("oslo", "rome")
SOURCES = ("erp", "till")
MORNING = datetime(2026, 11, 2, 8, tzinfo=UTC)

event_numbers = count(1)


def at(minute: float) -> datetime:
    """An instant, in minutes from the morning of the tests."""
    return MORNING + timedelta(minutes=minute)


class Shop(msgspec.Struct, frozen=True):
    """The ledger's numbers of what is there by name, and builders of commands."""

    items: dict[str, int]
    locations: dict[str, int]
    sources: dict[str, int]

    def place(self, sku: str, location: str, buffer: BufferRule = NO_BUFFER) -> Place:
        """A location that a line may be held at."""
        return Place(self.items[sku], self.locations[location], location, buffer)

    def wants(self, lines: tuple[Line, ...], buffer: BufferRule = NO_BUFFER) -> tuple[Want, ...]:
        """Lines to be held, with line ids 1, 2, …"""
        return tuple(
            Want(str(number), sku, quantity, (self.place(sku, location, buffer),), location)
            for number, (sku, quantity, location) in enumerate(lines, start=1)
        )

    def reserve(
        self,
        document_id: str,
        *lines: Line,
        ttl_seconds: int = 600,
        allow_partial: bool = False,
        buffer: BufferRule = NO_BUFFER,
        fresh: bool = False,
    ) -> Reserve:
        """Hold these lines."""
        wants = self.wants(lines, buffer)
        request = ReservationRequest(
            reference=f"cart of {document_id}",
            channel="web",
            lines=[LineRequest(w.line_id, w.sku, w.quantity, w.location) for w in wants],
            ttl_seconds=ttl_seconds,
            allow_partial=allow_partial,
        )
        return Reserve(document_id, request, wants, fresh)

    def change(self, document_id: str, *lines: Line) -> ChangeLines:
        """Hold these lines instead."""
        return ChangeLines(document_id, self.wants(lines))

    def fact(
        self,
        kind: Kind | str,
        line: Line,
        occurred_at: datetime = MORNING,
        *,
        event_id: str | None = None,
        source: str = "till",
    ) -> Fact:
        """What a source reports; a new event unless it is named."""
        sku, quantity, location = line
        return Fact(
            self.sources[source],
            source,
            event_id or f"event-{next(event_numbers)}",
            Kind(kind),
            self.items[sku],
            self.locations[location],
            quantity,
            occurred_at,
        )

    def record(self, *facts: Fact) -> Record:
        """Record facts of one source, as one request."""
        return Record(facts[0].source_id, facts)


def confirm(document_id: str, order_id: str | None = None, *lines: Line) -> Confirm:
    """Turn a hold into an order, with the lines that it is thought to have."""
    asked = [
        LineRequest(str(number), sku, quantity, location)
        for number, (sku, quantity, location) in enumerate(lines, start=1)
    ]
    request = ConfirmRequest(lines=asked or None, method="ship")
    return Confirm(document_id, order_id or f"order of {document_id}", request)


def token(key: str, content: str = "", key_id: str = "caller") -> Token:
    """An Idempotency-Key with a request of that content."""
    return Token(key_id, key, sha256(content.encode()).digest())


async def seed_shop(
    connection: Connection,
    skus: tuple[str, ...] = SKUS,
    locations: tuple[str, ...] = LOCATIONS,
    sources: tuple[str, ...] = SOURCES,
) -> Shop:
    """Make items, locations and sources."""
    items = await connection.fetch(
        "INSERT INTO items (sku) SELECT unnest($1::text[]) RETURNING sku, item_id", list(skus)
    )
    places = await connection.fetch(
        "INSERT INTO locations (location, kind) SELECT unnest($1::text[]), 'store'"
        " RETURNING location, location_id",
        list(locations),
    )
    systems = await connection.fetch(
        "INSERT INTO sources (source) SELECT unnest($1::text[]) RETURNING source, source_id",
        list(sources),
    )
    return Shop(dict(items), dict(places), dict(systems))


async def stock(ledger: Ledger, shop: Shop, *lines: Line) -> None:
    """Bring goods in, by receipts of the morning."""
    facts = [shop.fact(Kind.RECEIPT, line) for line in lines]
    answer = await ledger.submit(shop.record(*facts))
    assert body(answer)["counts"]["applied"] == len(lines)


def body(answer: Answer) -> Any:
    """What an answer says."""
    return msgspec.json.decode(answer.body)


async def figures(connection: Connection, shop: Shop, sku: str, location: str) -> dict[str, int]:
    """A level's four buckets, as they are stored."""
    row = await connection.fetchrow(
        "SELECT on_hand, unavailable, held, allocated FROM levels"
        " WHERE item_id = $1 AND location_id = $2",
        shop.items[sku],
        shop.locations[location],
    )
    return dict(row) if row else {}


async def status_of(connection: Connection, reservation_id: str) -> str | None:
    """A reservation's stored status."""
    status: str | None = await connection.fetchval(
        "SELECT status FROM reservations WHERE reservation_id = $1", reservation_id
    )
    return status


class Clock:
    """A clock that only tests move: give it to a Ledger, and every batch is at its instant."""

    def __init__(self, now: datetime = MORNING) -> None:
        self.now = now

    def __call__(self, read_at: datetime) -> datetime:
        return self.now

    def forward(self, seconds: float) -> None:
        """Let time pass."""
        self.now += timedelta(seconds=seconds)


async def together(ledger: Ledger, *submissions: tuple[Any, Token | None]) -> list[Answer]:
    """Submit commands at once, and wait for all answers."""
    return await asyncio.gather(*(ledger.submit(*submission) for submission in submissions))


async def assert_no_drift(database_url: str) -> None:
    """The books of a database agree, to the last unit."""
    connection = await db.connect(database_url)
    try:
        assert (await check(connection)).drifts == []
    finally:
        await connection.close()
