"""The process's own cache: decoded levels by item, with the answers that were made from them."""

from collections.abc import Iterable

import msgspec

from truestock.config import MAX_CACHED_FRAGMENTS, MAX_CACHED_LEVELS
from truestock.model.stock import Figures


class Fragment(msgspec.Struct, gc=False):
    """An encoded part of an answer: one item under one view; good as long as its item is."""

    body: bytes
    version: int


FOREVER = 2**63


class CachedItem(msgspec.Struct):
    """All levels of one item, by location, and the answers made from them, by their view.

    valid_until: when the first hold that the levels count runs out, in Unix microseconds; None
    until somebody asks.
    """

    levels: dict[int, Figures]
    fragments: dict[int, Fragment] = {}
    valid_until: int | None = None

    def valid_at(self, now: int) -> bool:
        """Whether no hold that the levels count has run out (now: Unix microseconds)."""
        if self.valid_until is None:
            ends = (level.valid_until for level in self.levels.values())
            self.valid_until = min((end for end in ends if end is not None), default=FOREVER)
        return self.valid_until > now

    def merge(self, levels: Iterable[Figures]) -> None:
        """Take over what is newer; answers made from older figures are dropped."""
        for level in levels:
            known = self.levels.get(level.location_id)
            if known is None or known.version < level.version:
                self.levels[level.location_id] = level
                self.fragments.clear()
                self.valid_until = None

    def keep(self, view: int, fragment: Fragment) -> None:
        """Keep an answer's part for the next who asks the same."""
        if len(self.fragments) >= MAX_CACHED_FRAGMENTS:
            self.fragments.clear()
        self.fragments[view] = fragment


class Reading:
    """Items that are being read from elsewhere, each with what changed since that began.

    None for an item that was dropped meanwhile: what was read of it must not be kept.
    """

    def __init__(self, item_ids: Iterable[int]) -> None:
        self.changes: dict[int, list[Figures] | None] = {item_id: [] for item_id in item_ids}

    def taint(self, item_ids: Iterable[int]) -> None:
        """These items changed in a way that nobody says in full."""
        for item_id in item_ids:
            if item_id in self.changes:
                self.changes[item_id] = None


class Cache:
    """Items by number, the longest kept dropped once MAX_CACHED_LEVELS are there.

    Not the least recently used: to note each use costs more than to read an item again.
    """

    def __init__(self) -> None:
        self._items: dict[int, CachedItem] = {}
        self._levels = 0
        self._readings: list[Reading] = []

    def get(self, item_id: int) -> CachedItem | None:
        """The item, if it is kept."""
        return self._items.get(item_id)

    def apply(self, levels: Iterable[Figures]) -> None:
        """Merge changed levels into the items that are kept or being read."""
        for level in levels:
            if (item := self._items.get(level.item_id)) is not None:
                before = len(item.levels)
                item.merge((level,))
                self._levels += len(item.levels) - before
            for reading in self._readings:
                if (changes := reading.changes.get(level.item_id)) is not None:
                    changes.append(level)

    def begin(self, item_ids: Iterable[int]) -> Reading:
        """Note changes of these items from now on: they are about to be read."""
        reading = Reading(item_ids)
        self._readings.append(reading)
        return reading

    def end(self, reading: Reading) -> None:
        """The reading is over, whatever came of it."""
        self._readings.remove(reading)

    def put(self, reading: Reading, item_id: int, levels: dict[int, Figures]) -> CachedItem:
        """Keep an item that was read, with what changed meanwhile."""
        item = CachedItem(levels)
        changes = reading.changes.get(item_id)
        if changes is None:
            return item
        item.merge(changes)
        self._let_go(item_id)
        self._items[item_id] = item
        self._levels += len(item.levels)
        while self._levels > MAX_CACHED_LEVELS and len(self._items) > 1:
            self._let_go(next(iter(self._items)))
        return item

    def drop(self, item_ids: Iterable[int]) -> None:
        """Let go of items that changed in a way that nobody says in full."""
        dropped = list(item_ids)
        for item_id in dropped:
            self._let_go(item_id)
        for reading in self._readings:
            reading.taint(dropped)

    def _let_go(self, item_id: int) -> None:
        if (item := self._items.pop(item_id, None)) is not None:
            self._levels -= len(item.levels)

    def clear(self) -> None:
        """Let go of everything: nobody can vouch for it."""
        self._items.clear()
        self._levels = 0
        for reading in self._readings:
            reading.taint(list(reading.changes))
