"""Levels and movements: what stock is, and the one way to change it."""

import copy
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated

import msgspec
from msgspec import Meta

from truestock.config import MAX_QUANTITY

# One item at one location, by the ledger's own numbers.
Key = tuple[int, int]

# The end of a text; `$` alone lets a line break pass behind it.
END = r"$(?!\n)"
NO_CONTROLS = r"^[^\x00-\x1f\x7f]+" + END

Name = Annotated[str, Meta(min_length=1, max_length=128, pattern=NO_CONTROLS)]
SourceName = Annotated[str, Meta(min_length=1, max_length=64, pattern=NO_CONTROLS)]
ShortText = Annotated[str, Meta(max_length=512, pattern=r"^[^\x00]*$")]
Quantity = Annotated[int, Meta(ge=1, le=MAX_QUANTITY)]
Instant = Annotated[datetime, Meta(tz=True)]


def in_utc(instant: datetime) -> datetime:
    """The same instant in UTC; what no year of UTC has is its first or last one."""
    try:
        return instant.astimezone(UTC)
    except OverflowError:
        first, last = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
        return first if instant.year == 1 else last


class Bucket(StrEnum):
    """What a unit at a location can be counted as."""

    ON_HAND = "on_hand"
    UNAVAILABLE = "unavailable"
    HELD = "held"
    ALLOCATED = "allocated"


class Kind(StrEnum):
    """What caused a movement: a fact that a source reported, or a step of ours."""

    COUNT = "count"
    RECEIPT = "receipt"
    SALE = "sale"
    RETURN = "return"
    DAMAGE = "damage"
    REPAIR = "repair"
    ADJUSTMENT = "adjustment"
    TRANSFER_OUT = "transfer_out"
    TRANSFER_IN = "transfer_in"
    RESERVE = "reserve"
    CHANGE = "change"
    RELEASE = "release"
    EXPIRE = "expire"
    CONFIRM = "confirm"
    CANCEL = "cancel"


def free_units(on_hand: int, held: int, allocated: int, safety_stock: int) -> int:
    """What a level could still promise; negative when facts undercut its promises."""
    return on_hand - held - allocated - safety_stock


class Figures(msgspec.Struct, array_like=True, gc=False):
    """A level as readers see it: held counts live holds alone, until valid_until.

    valid_until: Unix time in microseconds at which the next of the counted holds runs out.
    """

    item_id: int
    location_id: int
    on_hand: int
    unavailable: int
    held: int
    allocated: int
    safety_stock: int
    version: int
    valid_until: int | None = None

    @property
    def free(self) -> int:
        """on_hand − held − allocated − safety_stock, below zero too."""
        return free_units(self.on_hand, self.held, self.allocated, self.safety_stock)


encode = msgspec.json.Encoder().encode


def pack_figures(figures: list[Figures]) -> bytes:
    """Levels as Redis and the other processes get them: [item, location, version, "level"].

    JSON, since Redis's own msgpack knows no binary strings; a level is an array of whole numbers.
    """
    return encode([(f.item_id, f.location_id, f.version, encode(f).decode()) for f in figures])


class Level(msgspec.Struct, gc=False):
    """One item at one location, as the ledger stores it; quantities in base units.

    `held` still counts holds that ran out and were not swept up yet: `expired` says how many
    of them those are at the instant that the level was read for. `next_live` is when the
    next of the others runs out.
    """

    item_id: int
    location_id: int
    on_hand: int = 0
    unavailable: int = 0
    held: int = 0
    allocated: int = 0
    safety_stock: int = 0
    version: int = 0
    counted_at: datetime | None = None
    moved_at: datetime | None = None
    unavailable_counted_at: datetime | None = None
    next_expiry: datetime | None = None
    counted_by: str | None = None
    expired: int = 0
    next_live: datetime | None = None

    @property
    def key(self) -> Key:
        """Which item where."""
        return (self.item_id, self.location_id)

    @property
    def live_held(self) -> int:
        """Units promised to carts whose time has not run out."""
        return self.held - self.expired

    @property
    def free(self) -> int:
        """on_hand − held − allocated − safety_stock; negative when facts undercut promises."""
        return free_units(self.on_hand, self.live_held, self.allocated, self.safety_stock)

    @property
    def available(self) -> int:
        """What may still be promised."""
        return max(self.free, 0)

    @property
    def shortage(self) -> int:
        """Promised units that the shelf does not have."""
        return max(self.live_held + self.allocated - self.on_hand, 0)

    def figures(self) -> Figures:
        """The level as readers see it."""
        until = self.next_live
        return Figures(
            self.item_id,
            self.location_id,
            self.on_hand,
            self.unavailable,
            self.live_held,
            self.allocated,
            self.safety_stock,
            self.version,
            None if until is None else int(until.timestamp() * 1_000_000),
        )

    def counted_before(self, at: datetime, by: str) -> bool:
        """Whether a count of that instant (and of that source and event) would be the newest."""
        return self.counted_at is None or (self.counted_at, self.counted_by or "") < (at, by)


class Movement(msgspec.Struct, gc=False):
    """One immutable change of one bucket; its seq and recorded_at come when it is written."""

    item_id: int
    location_id: int
    bucket: Bucket
    kind: Kind
    delta: int
    balance: int
    occurred_at: datetime
    source_id: int | None = None
    reference: str | None = None
    seq: int = 0

    @property
    def key(self) -> Key:
        """Which item where."""
        return (self.item_id, self.location_id)


class Draft:
    """Levels as a command would leave them, and the movements that take them there."""

    def __init__(self, levels: dict[Key, Level]) -> None:
        self._before = levels
        self.levels: dict[Key, Level] = {}
        self.movements: list[Movement] = []

    def level(self, key: Key) -> Level:
        """This command's own copy of a level."""
        level = self.levels.get(key)
        if level is None:
            level = self.levels[key] = copy.copy(self._before[key])
        return level

    def move(
        self,
        key: Key,
        bucket: Bucket,
        kind: Kind,
        delta: int,
        occurred_at: datetime,
        reference: str | None = None,
        source_id: int | None = None,
    ) -> None:
        """Change one bucket of one level, and write the movement with its running balance."""
        level = self.level(key)
        balance = getattr(level, bucket) + delta
        setattr(level, bucket, balance)
        self.movements.append(
            Movement(
                key[0], key[1], bucket, kind, delta, balance, occurred_at, source_id, reference
            )
        )
