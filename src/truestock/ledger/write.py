"""What a batch writes: decisions as the arrays that the statements take, column by column."""

from itertools import chain
from uuid import UUID, uuid4

import msgspec

from truestock.db import SQL, Connection
from truestock.ledger.arrays import (
    as_they_are,
    columns,
    instants,
    numbers,
    numbers_or_none,
    words,
)
from truestock.ledger.commands import Answer, Command, Token
from truestock.model.decision import Decision, View
from truestock.model.facts import FactStatus
from truestock.model.order import Order
from truestock.model.record import EventResults, Record
from truestock.model.reservation import Reservation, Reserve
from truestock.model.stock import Figures, Level, Movement, pack_figures

encode = msgspec.json.Encoder().encode


# How each set's columns go to PostgreSQL, in the order of `write_batch`.
MOVEMENT = (
    *(numbers, numbers, numbers, words, words),
    *(numbers, numbers, instants, numbers_or_none, as_they_are),
)
LEVEL = (*[numbers] * 8, *[instants] * 4, as_they_are)
RESERVATION = (*[as_they_are] * 7, instants)
CLAIM = (as_they_are, numbers, numbers, numbers, words, numbers, instants)
ANSWER = (as_they_are, as_they_are, as_they_are, numbers, as_they_are)


class Decided(msgspec.Struct):
    """A command of the batch with its decision and its answer."""

    command: Command
    token: Token | None
    decision: Decision
    answer: Answer


class Written(msgspec.Struct):
    """What was written: the levels as readers see them, packed for Redis, and the transaction."""

    levels: list[Figures]
    packed: bytes | None = None
    xid: str | None = None
    batch_id: UUID | None = None


async def write_decisions(connection: Connection, view: View, decided: list[Decided]) -> Written:
    """Write all that the decisions change, in as few statements as their kinds need."""
    made = [item for item in decided if not item.decision.refused]
    kept = [item for item in decided if item.token and item.answer.kept]
    if not made and not kept:
        return Written([])
    decisions = [item.decision for item in made]
    movements = list(chain.from_iterable(decision.movements for decision in decisions))
    levels = await number(connection, view, decisions, movements)
    figures = [level.figures() for level in levels]
    packed = pack_figures(figures) if figures else None
    await write_rare(connection, view, made)
    batch_id = uuid4()
    xid = await connection.fetchval(
        SQL["write_batch"],
        *movement_columns(view, movements),
        *level_columns(levels),
        *reservation_columns([item for item in made if isinstance(item.command, Reserve)]),
        *claim_columns(made),
        *answer_columns(kept),
        batch_id,
        packed,
        events_column(decisions),
    )
    return Written(figures, packed, xid, batch_id)


async def number(
    connection: Connection, view: View, decisions: list[Decision], movements: list[Movement]
) -> list[Level]:
    """Give each movement its seq, and each changed level the last of its own as version.

    Answers the changed levels as they are after the whole batch. A level that changes without a
    movement (its safety stock, its count) takes a seq of its own, so that readers see it as newer.
    """
    changed = {key: view.levels[key] for decision in decisions for key in decision.levels}
    moved = {(movement.item_id, movement.location_id) for movement in movements}
    silent = [level for key, level in changed.items() if key not in moved]
    if count := len(movements) + len(silent):
        seqs = [row["seq"] for row in await connection.fetch(SQL["take_seqs"], count)]
        for seq, movement in zip(seqs, movements, strict=False):
            movement.seq = seq
            changed[movement.item_id, movement.location_id].version = seq
        for seq, level in zip(seqs[len(movements) :], silent, strict=True):
            level.version = seq
    return list(changed.values())


def movement_columns(view: View, movements: list[Movement]) -> list[object]:
    """The batch's instant and its movements."""
    return [
        view.now,
        *columns(
            [
                (
                    m.seq,
                    m.item_id,
                    m.location_id,
                    m.bucket,
                    m.kind,
                    m.delta,
                    m.balance,
                    m.occurred_at,
                    m.source_id,
                    m.reference,
                )
                for m in movements
            ],
            MOVEMENT,
        ),
    ]


def level_columns(levels: list[Level]) -> list[object]:
    """Levels as they are from now on."""
    return columns(
        [
            (
                level.item_id,
                level.location_id,
                level.on_hand,
                level.unavailable,
                level.held,
                level.allocated,
                level.safety_stock,
                level.version,
                level.counted_at,
                level.moved_at,
                level.unavailable_counted_at,
                level.next_expiry,
                level.counted_by,
            )
            for level in levels
        ],
        LEVEL,
    )


def reservation_columns(made: list[Decided]) -> list[object]:
    """New reservations."""
    rows: list[tuple[object, ...]] = []
    for item in made:
        r: Reservation = item.decision.reservation
        destination = None if r.destination is None else encode(r.destination)
        rows.append(
            (
                r.reservation_id,
                r.reference,
                r.channel,
                r.customer_id,
                r.method,
                destination,
                encode(r.lines),
                r.expires_at,
            )
        )
    return columns(rows, RESERVATION)


def claim_columns(made: list[Decided]) -> list[object]:
    """New claims; a document that had some has let go of them by now."""
    rows: list[tuple[object, ...]] = [
        (
            claim.document_id,
            claim.claim_no,
            claim.item_id,
            claim.location_id,
            claim.bucket,
            claim.quantity,
            claim.expires_at,
        )
        for item in made
        for claim in chain(item.decision.claims or (), item.decision.order_claims)
    ]
    return columns(rows, CLAIM)


def answer_columns(kept: list[Decided]) -> list[object]:
    """First answers to idempotency keys."""
    return columns(
        [
            (
                item.token.key_id,
                item.token.idempotency_key,
                item.token.fingerprint,
                item.answer.status,
                item.answer.body,
            )
            for item in kept
            if item.token
        ],
        ANSWER,
    )


def events_column(decisions: list[Decision]) -> bytes | None:
    """What the outside will hear of, or None."""
    events = [event for decision in decisions for event in decision.events]
    return encode(events) if events else None


# What not every batch has --------------------------------------------------


async def write_rare(connection: Connection, view: View, made: list[Decided]) -> None:
    """Documents that change, orders and facts, each if there are any."""
    changed = [
        item.decision
        for item in made
        if item.decision.reservation is not None and not isinstance(item.command, Reserve)
    ]
    if changed:
        await connection.execute(SQL["change_documents"], *change_columns(changed))
    if orders := [item.decision.order for item in made if item.decision.order is not None]:
        await connection.execute(SQL["write_orders"], view.now, *order_columns(orders))
    if records := [item for item in made if isinstance(item.command, Record)]:
        await connection.execute(SQL["write_facts"], view.now, *fact_columns(records))


def change_columns(decisions: list[Decision]) -> list[object]:
    """Documents that lose their claims, and documents with their new state."""
    without = [d.reservation.reservation_id for d in decisions if d.claims is not None]
    rows: list[tuple[object, ...]] = [
        (r.reservation_id, r.status, encode(r.lines), r.expires_at, r.resolved_at)
        for r in (decision.reservation for decision in decisions)
    ]
    return [without, *columns(rows, [as_they_are] * 5)]


def order_columns(orders: list[Order]) -> list[object]:
    """Orders, then their fulfilments."""
    order_rows: list[tuple[object, ...]] = [
        (o.order_id, o.reservation_id, o.channel, o.status, o.method, encode(o)) for o in orders
    ]
    fulfilment_rows: list[tuple[object, ...]] = [
        (f.fulfilment_id, f.order_id, f.location, f.method, f.status, encode(f.lines))
        for order in orders
        for f in order.fulfilments
    ]
    return [*columns(order_rows, [as_they_are] * 6), *columns(fulfilment_rows, [as_they_are] * 6)]


def fact_columns(records: list[Decided]) -> list[object]:
    """How each source did, then its facts."""
    heard: list[tuple[object, ...]] = []
    for item in records:
        answer: EventResults = item.decision.outcome
        latest = max((r.fact.occurred_at for r in item.decision.facts), default=None)
        heard.append((item.command.source_id, latest, *(answer.counts[s] for s in FactStatus)))  # type: ignore[union-attr]
    facts: list[tuple[object, ...]] = [
        (
            recorded.fact.source_id,
            recorded.fact.event_id,
            recorded.fact.kind,
            recorded.fact.item_id,
            recorded.fact.location_id,
            recorded.fact.quantity,
            recorded.status,
            recorded.fact.occurred_at,
            recorded.fact.reference,
            recorded.fact.reason,
        )
        for item in records
        for recorded in item.decision.facts
    ]
    # Sorted: the order in which sources are locked.
    heard.sort(key=lambda row: int(str(row[0])))
    return [*columns(heard, [as_they_are] * 6), *columns(facts, [as_they_are] * 10)]
