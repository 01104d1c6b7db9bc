"""Recording facts: one command a request, each fact decided in the order it was sent."""

from collections import Counter
from datetime import datetime

import msgspec

from truestock.model.decision import Decision, View
from truestock.model.facts import Fact, FactStatus, RecordedFact, record_fact
from truestock.model.refusal import Code
from truestock.model.stock import Draft


class EventResult(msgspec.Struct, frozen=True, omit_defaults=True):
    """What became of one event of a request."""

    event_id: str
    status: FactStatus
    code: Code | None = None
    detail: str | None = None


class EventResults(msgspec.Struct, frozen=True):
    """The answer to `POST /v1/stock/events`, in the order sent."""

    results: list[EventResult]
    counts: dict[FactStatus, int]


class Record(msgspec.Struct, frozen=True):
    """Record the facts of one request.

    entries: in the order sent, a fact or, where the event itself was no good, its result.
    """

    source_id: int
    entries: tuple[Fact | EventResult, ...]

    @property
    def facts(self) -> list[Fact]:
        """The events that can be recorded."""
        return [entry for entry in self.entries if isinstance(entry, Fact)]


def decide_record(command: Record, view: View) -> Decision:
    """Record each fact that is not on record yet; reality is never refused."""
    draft = Draft(view.levels)
    seen: set[str] = set()
    results: list[EventResult] = []
    recorded: list[RecordedFact] = []
    for entry in command.entries:
        if isinstance(entry, EventResult):
            results.append(entry)
            continue
        if entry.event_id in seen or (entry.source_id, entry.event_id) in view.facts:
            results.append(EventResult(entry.event_id, FactStatus.DUPLICATE))
            continue
        seen.add(entry.event_id)
        status = record_fact(draft, entry, view.shelf.setdefault(entry.key, []))
        recorded.append(RecordedFact(entry, status))
        results.append(EventResult(entry.event_id, status))
    counted = Counter(result.status for result in results)
    counts = {status: counted[status] for status in FactStatus}
    # Without a movement nothing changed; with movements that cancel out, the level has a version.
    levels = {key: draft.levels[key] for key in {movement.key for movement in draft.movements}}
    return Decision(EventResults(results, counts), 200, levels, draft.movements, facts=recorded)


def oldest_counts(facts: list[Fact]) -> dict[tuple[int, int], datetime]:
    """By level, the oldest instant at which one of these facts counts it."""
    oldest: dict[tuple[int, int], datetime] = {}
    for fact in facts:
        if fact.kind == "count":
            known = oldest.get(fact.key)
            oldest[fact.key] = fact.occurred_at if known is None else min(known, fact.occurred_at)
    return oldest
