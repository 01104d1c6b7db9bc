"""What the door takes and gives: commands, idempotency tokens and answers."""

import msgspec

from truestock.model.decision import Decision
from truestock.model.order import Confirm
from truestock.model.record import Record
from truestock.model.refusal import Refusal, as_problem
from truestock.model.reservation import ChangeLines, Expire, Extend, Release, Reserve

Command = Reserve | ChangeLines | Extend | Release | Expire | Confirm | Record

encode = msgspec.json.Encoder().encode

# Answers that are kept for their Idempotency-Key; the others are decided anew each time.
KEPT_STATUSES = frozenset({200, 201, 202, 409, 422, 423})


class Token(msgspec.Struct, frozen=True):
    """An Idempotency-Key: whose it is, and a fingerprint of the request that it came with."""

    key_id: str
    idempotency_key: str
    fingerprint: bytes


class Answer(msgspec.Struct, frozen=True):
    """What the caller gets: an HTTP status and the encoded body."""

    status: int
    body: bytes
    replayed: bool = False

    @property
    def kept(self) -> bool:
        """Whether the same key gets this answer again."""
        return self.status in KEPT_STATUSES


def answer_of(decision: Decision) -> Answer:
    """Encode a decision once: for the caller and for the record."""
    if isinstance(decision.outcome, Refusal):
        return refusal_answer(decision.outcome)
    return Answer(decision.status, encode(decision.outcome))


def refusal_answer(refusal: Refusal) -> Answer:
    """A refusal as an answer."""
    return Answer(refusal.status, encode(as_problem(refusal)))
