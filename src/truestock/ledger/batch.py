"""One batch of commands: read and lock what they name, decide them in order, write it all.

1. What has been answered before is answered again.
2. Documents are locked by id, then levels by (item, location).
3. Each command is decided, in the order of arrival, against the levels as the last one left them.
4. One statement writes movements, levels, documents, answers and the outbox.
The caller opens and commits the transaction.
"""

from collections.abc import Callable
from typing import Any
from uuid import UUID

import msgspec

from truestock.db import SQL, Connection
from truestock.ledger.commands import Answer, Command, Refuse, Token, answer_of, refusal_answer
from truestock.ledger.read import Clock, read_view
from truestock.ledger.write import Decided, write_decisions
from truestock.model.decision import Decision, View
from truestock.model.order import Confirm, decide_confirm
from truestock.model.record import Record, decide_record
from truestock.model.refusal import Code, Refusal
from truestock.model.reservation import (
    ChangeLines,
    Expire,
    Extend,
    Release,
    Reserve,
    decide_change,
    decide_expire,
    decide_extend,
    decide_release,
    decide_reserve,
)
from truestock.model.stock import Figures

DECIDERS: dict[type, Callable[[Any, View], Decision]] = {
    Reserve: decide_reserve,
    ChangeLines: decide_change,
    Extend: decide_extend,
    Release: decide_release,
    Expire: decide_expire,
    Confirm: decide_confirm,
    Record: decide_record,
    Refuse: lambda command, _: Decision(command.refusal),
}


# The status of a key that is claimed while its first request is still under way.
UNDER_WAY = 0

IN_FLIGHT = Refusal(
    Code.IDEMPOTENCY_IN_FLIGHT,
    "The first request with this Idempotency-Key is still under way: try again in a moment.",
)


class Outcome(msgspec.Struct):
    """What a batch came to. xid, batch_id: what wrote it, None if there was nothing."""

    answers: list[Answer | Exception]
    levels: list[Figures]
    packed: bytes | None = None
    xid: str | None = None
    batch_id: UUID | None = None


async def run_batch(
    connection: Connection,
    batch: list[tuple[Command, Token | None]],
    clock: Clock,
) -> Outcome:
    """Run a batch inside the caller's transaction; nothing is final until it commits.

    Raises MissingLevelsError, and asyncpg's errors (a unique violation means that another
    process took a key or an id meanwhile: the batch can be run again).
    """
    answers: list[Answer | Exception | None] = await read_answers(
        connection, [token for _, token in batch]
    )
    waiting = [command for (command, _), answer in zip(batch, answers, strict=True) if not answer]
    if not waiting:
        return Outcome([answer for answer in answers if answer], [])
    view = await read_view(connection, waiting, clock)
    decided: list[Decided] = []
    for position, (command, token) in enumerate(batch):
        if answers[position] is None:
            try:
                decision = DECIDERS[type(command)](command, view)
                answer = answer_of(decision)
            except Exception as error:
                answers[position] = error
                continue
            evolve(view, decision)
            decided.append(Decided(command, token, decision, answer))
            answers[position] = answer
    written = await write_decisions(connection, view, decided)
    return Outcome(
        [answer for answer in answers if answer],
        written.levels,
        written.packed,
        written.xid,
        written.batch_id,
    )


def evolve(view: View, decision: Decision) -> None:
    """Let the next command of the batch see what this one did."""
    view.levels.update(decision.levels)
    if decision.reservation is not None:
        view.reservations[decision.reservation.reservation_id] = decision.reservation
    if decision.order is not None:
        view.orders.add(decision.order.order_id)
    view.facts.update((item.fact.source_id, item.fact.event_id) for item in decision.facts)


async def read_answers(
    connection: Connection, tokens: list[Token | None]
) -> list[Answer | Exception | None]:
    """The first answers to keys that have been used before, by position."""
    asked = [token for token in tokens if token]
    if not asked:
        return [None] * len(tokens)
    rows = await connection.fetch(
        SQL["read_answers"],
        [token.key_id for token in asked],
        [token.idempotency_key for token in asked],
    )
    known = {(row["key_id"], row["idempotency_key"]): row for row in rows}
    return [
        replay(token, known[token.key_id, token.idempotency_key])
        if token and (token.key_id, token.idempotency_key) in known
        else None
        for token in tokens
    ]


def replay(token: Token, row: Any) -> Answer:
    """The first answer again, unless the request is another one or has no answer yet."""
    if row["status"] == UNDER_WAY:
        return refusal_answer(IN_FLIGHT)
    if row["fingerprint"] != token.fingerprint:
        return refusal_answer(
            Refusal(
                Code.IDEMPOTENCY_MISMATCH,
                "This Idempotency-Key came with another request before: use a new key.",
            )
        )
    return Answer(row["status"], row["body"], replayed=True)
