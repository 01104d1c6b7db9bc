"""The ledger's rules once more, as plainly as they can be said: facts and holds, summed anew.

It keeps what was reported and who holds what, and no running figures. It shares no rule with
`truestock.model`: only the commands' own shapes.
"""

from collections import Counter
from datetime import datetime, timedelta
from typing import Any

import msgspec

from truestock.model.facts import Fact
from truestock.model.order import Confirm
from truestock.model.place import Want
from truestock.model.record import Record
from truestock.model.reservation import ChangeLines, Expire, Extend, Release, Reserve

# What a caller must see: the status, and the parts of the body that the rules decide.
Expected = tuple[int, dict[str, Any]]
Level = tuple[str, str]

ON_HAND = {
    "receipt": 1,
    "return": 1,
    "repair": 1,
    "adjustment": 1,
    "transfer_in": 1,
    "sale": -1,
    "damage": -1,
    "transfer_out": -1,
}
UNAVAILABLE = {"damage": 1, "repair": -1}


class Line(msgspec.Struct, frozen=True):
    """A line that is held."""

    line_id: str
    sku: str
    quantity: int
    location: str


class Hold(msgspec.Struct):
    """A reservation."""

    lines: list[Line]
    expires_at: datetime
    status: str = "held"


class Oracle:
    """What a shop's books must say, by level names (sku, location)."""

    def __init__(self, now: datetime, names: dict[tuple[int, int], Level]) -> None:
        self.now = now
        self.names = names
        self.safety_stock: Counter[Level] = Counter()
        self.facts: dict[tuple[str, str], Fact] = {}
        self.effective: list[Fact] = []
        self.holds: dict[str, Hold] = {}
        self.orders: dict[str, list[Line]] = {}

    # What is -------------------------------------------------------------

    def on_hand(self, level: Level) -> int:
        """The newest count and every movement that happened after it."""
        facts = self.facts_of(level)
        count = max((f for f in facts if f.kind == "count"), key=count_order, default=None)
        base = count.quantity if count else 0
        return base + sum(
            ON_HAND[f.kind] * f.quantity
            for f in facts
            if f.kind != "count" and (count is None or f.occurred_at > count.occurred_at)
        )

    def unavailable(self, level: Level) -> int:
        """Damage less repair; no snapshot ever says another figure here."""
        return sum(UNAVAILABLE.get(f.kind, 0) * f.quantity for f in self.facts_of(level))

    def facts_of(self, level: Level) -> list[Fact]:
        """What was reported of a level."""
        return [f for f in self.facts.values() if self.names[f.key] == level]

    def held(self, level: Level, *, live: bool, besides: str | None = None) -> int:
        """Units of holds that nobody resolved, or only of those whose time has not run out."""
        return sum(
            line.quantity
            for name, hold in self.holds.items()
            if hold.status == "held" and name != besides and not (live and self.ran_out(hold))
            for line in hold.lines
            if (line.sku, line.location) == level
        )

    def allocated(self, level: Level) -> int:
        """Units of orders."""
        lines = (line for order in self.orders.values() for line in order)
        return sum(line.quantity for line in lines if (line.sku, line.location) == level)

    def free(self, level: Level, besides: str | None = None) -> int:
        """What a level could promise, if the hold `besides` were not there."""
        promised = self.held(level, live=True, besides=besides) + self.allocated(level)
        return self.on_hand(level) - promised - self.safety_stock[level]

    def first_expiry(self, level: Level) -> datetime | None:
        """When the next live hold on a level runs out."""
        return min(
            (
                hold.expires_at
                for hold in self.holds.values()
                if hold.status == "held"
                and not self.ran_out(hold)
                and any((line.sku, line.location) == level for line in hold.lines)
            ),
            default=None,
        )

    def ran_out(self, hold: Hold) -> bool:
        """Whether its time is over."""
        return hold.expires_at <= self.now

    def due(self) -> list[str]:
        """The holds that wait for the sweeper."""
        return [
            name
            for name, hold in self.holds.items()
            if hold.status == "held" and self.ran_out(hold)
        ]

    # What happens --------------------------------------------------------

    def expect(self, command: Any) -> Expected:
        """Let a command happen, and say what its caller must see."""
        expected: Expected = STEPS[type(command)](self, command)
        return expected

    def reserve(self, command: Reserve) -> Expected:
        """A hold of all lines, or of what can be had, or none."""
        if command.document_id in self.holds:
            return problem(409, "already_exists")
        lines, shortages = self.choose(command.wants)
        if shortages and not (command.request.allow_partial and lines):
            return problem(409, "insufficient_stock", shortages=shortages)
        expires_at = self.now + timedelta(seconds=command.request.ttl_seconds)
        self.holds[command.document_id] = Hold(lines, expires_at)
        return 201, picture(self.holds[command.document_id])

    def change(self, command: ChangeLines) -> Expected:
        """Other lines, which may use what the hold has itself."""
        hold, refused = self.open_hold(command.document_id)
        if refused:
            return refused
        lines, shortages = self.choose(command.wants, besides=command.document_id)
        if shortages:
            return problem(409, "insufficient_stock", shortages=shortages)
        hold.lines = lines
        return 200, picture(hold)

    def extend(self, command: Extend) -> Expected:
        """A later expiry, never an earlier one."""
        hold, refused = self.open_hold(command.document_id)
        if refused:
            return refused
        later = self.now + timedelta(seconds=command.ttl_seconds)
        hold.expires_at = max(hold.expires_at, later)
        return 200, picture(hold)

    def release(self, command: Release) -> Expected:
        """Free, unless it was an order already."""
        hold = self.holds.get(command.document_id)
        if hold is None:
            return problem(404, "not_found")
        if hold.status == "confirmed":
            return problem(409, "wrong_status")
        if hold.status == "held" and not self.ran_out(hold):
            hold.status = "released"
        return 200, picture(hold, "expired" if hold.status == "held" else hold.status)

    def expire(self, command: Expire) -> Expected:
        """Swept up, if it ran out and nobody did so before."""
        hold = self.holds.get(command.document_id)
        if hold is None or hold.status != "held" or not self.ran_out(hold):
            return problem(409, "wrong_status")
        hold.status = "expired"
        return 200, picture(hold)

    def confirm(self, command: Confirm) -> Expected:
        """An order of exactly what is held."""
        hold, refused = self.open_hold(command.document_id)
        if refused:
            return refused
        if command.order_id in self.orders:
            return problem(409, "already_exists")
        if command.request.lines and units(command.request.lines) != units(hold.lines):
            return problem(400, "validation_failed")
        hold.status = "confirmed"
        self.orders[command.order_id] = hold.lines
        places = dict.fromkeys(line.location for line in hold.lines)
        return 201, {"order_id": command.order_id, "locations": list(places)}

    def record(self, command: Record) -> Expected:
        """Each fact once, whatever is promised."""
        return 200, {"results": [self.report(fact) for fact in command.facts]}

    def report(self, fact: Fact) -> str:
        """What becomes of one fact, by what is known when it comes."""
        if (fact.source, fact.event_id) in self.facts:
            return "duplicate"
        counts = [f for f in self.facts_of(self.names[fact.key]) if f.kind == "count"]
        self.facts[fact.source, fact.event_id] = fact
        if fact.kind == "count":
            newest = all(count_order(fact) > count_order(count) for count in counts)
            return "applied" if newest else "superseded"
        after = all(fact.occurred_at > count.occurred_at for count in counts)
        return "applied" if after or fact.kind in UNAVAILABLE else "superseded"

    # Parts ---------------------------------------------------------------

    def choose(
        self, wants: tuple[Want, ...], besides: str | None = None
    ) -> tuple[list[Line], list[dict[str, Any]]]:
        """Each line's first place with enough, else the one with most; and what lacks.

        Lines with the fewest places choose first, then the larger ones, unless none has a choice.
        """
        taken: Counter[Level] = Counter()
        lines: dict[int, Line] = {}
        shortages: dict[int, dict[str, Any]] = {}
        numbered = list(enumerate(wants))
        if any(len(want.places) != 1 for want in wants):
            numbered.sort(key=lambda entry: (len(entry[1].places), -entry[1].quantity))
        for number, want in numbered:
            options = [(self.left(want, n, besides, taken), -n) for n in range(len(want.places))]
            enough = [option for option in options if option[0] >= want.quantity]
            left, place = max(enough, key=lambda option: option[1]) if enough else max(options)
            quantity = min(left, want.quantity)
            if quantity < want.quantity:
                shortages[number] = {"line_id": want.line_id, "available": left}
            if quantity:
                location = want.places[-place].location
                taken[want.sku, location] += quantity
                lines[number] = Line(want.line_id, want.sku, quantity, location)
        return [lines[n] for n in sorted(lines)], [shortages[n] for n in sorted(shortages)]

    def left(self, want: Want, place: int, besides: str | None, taken: Counter[Level]) -> int:
        """What a place has for a line, under its buffer and after the lines before."""
        level, buffer = (want.sku, want.places[place].location), want.places[place].buffer
        free = max(self.free(level, besides) - buffer.safety_stock, 0)
        capped = free if buffer.max_sellable is None else min(free, buffer.max_sellable)
        return max(capped, self.own(level, besides)) - taken[level]

    def own(self, level: Level, name: str | None) -> int:
        """What a hold has of a level already, and may keep whatever undercut it since."""
        if name is None:
            return 0
        lines = self.holds[name].lines
        return sum(line.quantity for line in lines if (line.sku, line.location) == level)

    def open_hold(self, name: str) -> tuple[Hold, Expected | None]:
        """A hold that may still be changed, or why not."""
        hold = self.holds.get(name)
        if hold is None:
            return Hold([], self.now), problem(404, "not_found")
        if hold.status in ("released", "confirmed"):
            return hold, problem(409, "wrong_status")
        # Swept up or not, that is no difference to its owner.
        return hold, problem(409, "reservation_expired") if self.ran_out(hold) else None


STEPS: dict[type, Any] = {
    Reserve: Oracle.reserve,
    ChangeLines: Oracle.change,
    Extend: Oracle.extend,
    Release: Oracle.release,
    Expire: Oracle.expire,
    Confirm: Oracle.confirm,
    Record: Oracle.record,
}


def count_order(fact: Fact) -> tuple[datetime, str, str]:
    """Which count is the newest; between those of one instant, the greater source and event."""
    return fact.occurred_at, fact.source, fact.event_id


def units(lines: Any) -> Counter[str]:
    """Units by sku."""
    total: Counter[str] = Counter()
    for line in lines:
        total[line.sku] += line.quantity
    return total


def picture(hold: Hold, status: str | None = None) -> dict[str, Any]:
    """A reservation as its caller sees it."""
    seen = {"status": status or hold.status, "expires_at": hold.expires_at, "lines": hold.lines}
    return dict(msgspec.to_builtins(seen))


def problem(status: int, code: str, **fields: Any) -> Expected:
    """A refusal."""
    return status, {"code": code, **fields}
