"""What the door takes and gives: commands, idempotency tokens and answers."""

import msgspec

from truestock.model.decision import Decision
from truestock.model.order import Confirm
from truestock.model.record import Record
from truestock.model.refusal import Refusal, as_problem
from truestock.model.reservation import ChangeLines, Expire, Extend, Release, Reserve


class Refuse(msgspec.Struct, frozen=True):
    """Say no for a reason that needs no stock, and keep it for its Idempotency-Key."""

    refusal: Refusal


Command = Reserve | ChangeLines | Extend | Release | Expire | Confirm | Record | Refuse

encode = msgspec.json.Encoder().encode

# Answers that are kept for their Idempotency-Key; the others are decided anew each time.
KEPT_STATUSES = frozenset({200, 201, 202, 409, 422, 423})


class Token(msgspec.Struct, frozen=True):
    """An Idempotency-Key: whose it is, and a fingerprint of the request that it came with."""

    key_id: str
    idempotency_key: str
    fingerprint: bytes


class Answer(msgspec.Struct, frozen=True):
    """What the caller gets: an HTTP status and the encoded body.

    retry_after: seconds. media_type: JSON, or problem+json, unless it says otherwise.
    provisional: only a proposal was refused; the flow looks further before it answers.
    headers: what else the answer says, by lower-case name.
    """

    status: int
    body: bytes
    replayed: bool = False
    provisional: bool = False
    retry_after: int | None = None
    media_type: str | None = None
    headers: dict[str, str] = {}

    @property
    def kept(self) -> bool:
        """Whether the same key gets this answer again."""
        return self.status in KEPT_STATUSES and not self.provisional


def answer_of(decision: Decision) -> Answer:
    """Encode a decision once: for the caller and for the record."""
    if isinstance(decision.outcome, Refusal):
        return refusal_answer(decision.outcome, provisional=decision.provisional)
    return Answer(decision.status, encode(decision.outcome))


def refusal_answer(refusal: Refusal, *, provisional: bool = False) -> Answer:
    """A refusal as an answer."""
    return Answer(
        refusal.status,
        encode(as_problem(refusal)),
        provisional=provisional,
        retry_after=refusal.retry_after,
    )
