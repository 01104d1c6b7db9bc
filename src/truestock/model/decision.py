"""What a batch of commands sees, and what each of them comes to."""

from datetime import datetime
from typing import Any

import msgspec

from truestock.model.facts import RecordedFact, ShelfMovement
from truestock.model.refusal import Code, Refusal
from truestock.model.stock import Bucket, Key, Level, Movement


class Claim(msgspec.Struct, gc=False):
    """What a document has of a level."""

    document_id: str
    claim_no: int
    item_id: int
    location_id: int
    bucket: Bucket
    quantity: int
    expires_at: datetime | None

    @property
    def key(self) -> Key:
        """Which item where."""
        return (self.item_id, self.location_id)


class Event(msgspec.Struct, frozen=True):
    """Something that others want to hear of, in the words of the contract."""

    type: str
    data: dict[str, Any]


class View(msgspec.Struct):
    """What a batch has read and locked, at one instant.

    levels: every level that the batch's commands name and that exists.
    reservations, claims: the documents that the commands name. orders: ids that are taken.
    facts: (source_id, event_id) that are on record.
    shelf: by level, what happened since the oldest count of the batch.
    """

    now: datetime
    levels: dict[Key, Level] = {}
    reservations: dict[str, Any] = {}
    claims: dict[str, list[Claim]] = {}
    orders: set[str] = set()
    facts: set[tuple[int, str]] = set()
    shelf: dict[Key, list[ShelfMovement]] = {}


class Decision(msgspec.Struct):
    """What a command comes to: an answer, and all that is written if it is not a refusal.

    reservation, order: the document as it will be.
    claims: the document's claims from now on; None leaves them as they are.
    provisional: a proposal was refused, and there may be other places.
    """

    outcome: Any
    status: int = 200
    levels: dict[Key, Level] = {}
    movements: list[Movement] = []
    reservation: Any = None
    claims: list[Claim] | None = None
    order: Any = None
    order_claims: list[Claim] = []
    facts: list[RecordedFact] = []
    events: list[Event] = []
    provisional: bool = False

    @property
    def refused(self) -> bool:
        """Whether the answer is an expected no."""
        return isinstance(self.outcome, Refusal)


def refuse(code: Code, detail: str) -> Decision:
    """A decision that changes nothing."""
    return Decision(Refusal(code, detail))
