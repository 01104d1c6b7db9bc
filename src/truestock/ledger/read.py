"""What a batch reads and locks before it decides: documents by id, then levels by key."""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

import msgspec

from truestock.db import SQL, Connection, rows_as
from truestock.ledger.commands import Command, Refuse
from truestock.model.decision import Claim, View
from truestock.model.facts import Fact, ShelfMovement
from truestock.model.order import Confirm
from truestock.model.record import Record, oldest_counts
from truestock.model.reservation import (
    ChangeLines,
    Destination,
    HeldLine,
    Reservation,
    ReservationStatus,
    Reserve,
)
from truestock.model.stock import Bucket, Key, Level

# Stands in a view until its levels are locked and the clock is read behind them.
NOT_READ = datetime.min.replace(tzinfo=UTC)

Clock = Callable[[datetime], datetime]


class MissingLevelsError(Exception):
    """Facts name levels that are not there yet; they have to be made outside the batch."""

    def __init__(self, keys: list[Key]) -> None:
        super().__init__(f"{len(keys)} levels to be made")
        self.keys = keys


async def read_view(
    connection: Connection,
    commands: list[Command],
    clock: Clock,
) -> View:
    """Read and lock what the commands name: documents first, then levels."""
    view = View(NOT_READ)
    await read_documents(connection, commands, view)
    keys = {claim.key for claims in view.claims.values() for claim in claims}
    facts = [fact for command in commands if isinstance(command, Record) for fact in command.facts]
    keys.update(fact.key for fact in facts)
    for command in commands:
        if isinstance(command, Reserve | ChangeLines):
            keys.update(place.key for want in command.wants for place in want.places)
    await read_levels(connection, keys, view, clock)
    if facts:
        await read_fact_context(connection, facts, view)
    return view


async def read_documents(connection: Connection, commands: list[Command], view: View) -> None:
    """Lock the reservations that the commands name, and read what they hold."""
    ids = [
        command.document_id
        for command in commands
        if not isinstance(command, Record | Refuse)
        and not (isinstance(command, Reserve) and command.fresh)
    ]
    if not ids:
        return
    for row in await connection.fetch(SQL["lock_reservations"], ids):
        view.reservations[row["reservation_id"]] = reservation_from(row)
    for claim in rows_as(Claim, await connection.fetch(SQL["read_claims"], ids)):
        claim.bucket = Bucket(claim.bucket)
        view.claims.setdefault(claim.document_id, []).append(claim)
    for reservation_id in view.reservations:
        view.claims.setdefault(reservation_id, [])
    if order_ids := [command.order_id for command in commands if isinstance(command, Confirm)]:
        rows = await connection.fetch(SQL["read_taken_orders"], order_ids)
        view.orders.update(row["order_id"] for row in rows)


decode_lines = msgspec.json.Decoder(list[HeldLine]).decode
decode_destination = msgspec.json.Decoder(Destination).decode


def reservation_from(row: Any) -> Reservation:
    """A reservation's row as its document."""
    reservation = Reservation(*row)
    reservation.status = ReservationStatus(row["status"])
    reservation.lines = decode_lines(row["lines"])
    if row["destination"] is not None:
        reservation.destination = decode_destination(row["destination"])
    return reservation


async def read_levels(
    connection: Connection,
    keys: Iterable[Key],
    view: View,
    clock: Clock,
) -> None:
    """Lock the levels; the batch's instant is read behind the last lock."""
    # Sorted: the one lock order.
    item_ids, location_ids = split(sorted(keys))
    rows = await connection.fetch(SQL["lock_levels"], item_ids, location_ids) if item_ids else []
    read_at = rows[-1]["read_at"] if rows else await connection.fetchval(SQL["read_clock"])
    view.now = clock(read_at)
    due: list[Key] = []
    for row in rows:
        level = Level(*row[:-1])
        view.levels[level.key] = level
        if level.next_expiry is not None and level.next_expiry <= view.now:
            due.append(level.key)
        else:
            level.next_live = level.next_expiry
    if due:
        for row in await connection.fetch(SQL["read_expired_holds"], view.now, *split(due)):
            level = view.levels[row["item_id"], row["location_id"]]
            level.expired, level.next_live = row["expired"], row["next_live"]


async def read_fact_context(connection: Connection, facts: list[Fact], view: View) -> None:
    """What facts are decided against: what is on record, and newer counts and movements."""
    if missing := sorted({fact.key for fact in facts} - view.levels.keys()):
        raise MissingLevelsError(missing)
    sources, events = [fact.source_id for fact in facts], [fact.event_id for fact in facts]
    known = await connection.fetch(SQL["read_known_facts"], sources, events)
    view.facts.update((row["source_id"], row["event_id"]) for row in known)
    oldest: dict[Key, datetime] = {}
    for fact in facts:
        oldest[fact.key] = min(oldest.get(fact.key, fact.occurred_at), fact.occurred_at)
    confirmed = await connection.fetch(
        SQL["read_confirmed_counts"], *split(oldest), list(oldest.values())
    )
    for row in confirmed:
        confirm_count(view.levels[row["item_id"], row["location_id"]], row)
    counted = {
        key: at
        for key, at in oldest_counts(facts).items()
        if (moved_at := view.levels[key].moved_at) is not None and moved_at > at
    }
    if counted:
        rows = await connection.fetch(SQL["read_shelf"], *split(counted), list(counted.values()))
        for row in rows:
            view.shelf.setdefault((row["item_id"], row["location_id"]), []).append(
                ShelfMovement(Bucket(row["bucket"]), row["delta"], row["occurred_at"])
            )


def confirm_count(level: Level, row: Any) -> None:
    """Take over a count that a snapshot confirmed without touching the level."""
    if level.counted_before(row["as_of"], row["counted_by"]):
        level.counted_at, level.counted_by = row["as_of"], row["counted_by"]
    if row["with_unavailable"] and (
        level.unavailable_counted_at is None or level.unavailable_counted_at < row["as_of"]
    ):
        level.unavailable_counted_at = row["as_of"]


def split(keys: Iterable[Key]) -> tuple[list[int], list[int]]:
    """Keys as the two arrays that queries take."""
    pairs = list(keys)
    return [item_id for item_id, _ in pairs], [location_id for _, location_id in pairs]
