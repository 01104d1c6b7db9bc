"""A process's memory: what was read is kept only with all that changed since the read began."""

from truestock.availability.cache import Cache
from truestock.model.stock import Figures

ITEM, PLACE = 7, 1


def level(version: int, valid_until: int | None = None) -> Figures:
    """A level at a version."""
    return Figures(ITEM, PLACE, 10, 0, 0, 0, 0, version, valid_until)


def test_a_change_during_a_read_is_merged_into_it() -> None:
    cache = Cache()
    reading = cache.begin([ITEM])
    cache.apply([level(2)])
    assert cache.put(reading, ITEM, {PLACE: level(1)}).levels[PLACE].version == 2


def test_a_late_reader_misses_no_change_that_others_have_seen() -> None:
    """A reads and keeps, the item changes, B begins anew; C has been reading all the while."""
    cache = Cache()
    first, last = cache.begin([ITEM]), cache.begin([ITEM])
    cache.put(first, ITEM, {PLACE: level(1)})
    cache.end(first)
    cache.apply([level(2)])
    cache.begin([ITEM])
    cache.put(last, ITEM, {PLACE: level(1)})
    kept = cache.get(ITEM)
    assert kept is not None
    assert kept.levels[PLACE].version == 2


def test_what_was_dropped_during_a_read_is_not_kept() -> None:
    cache = Cache()
    reading = cache.begin([ITEM])
    cache.drop([ITEM])
    cache.put(reading, ITEM, {PLACE: level(1)})
    assert cache.get(ITEM) is None


def test_what_nobody_can_vouch_for_is_not_kept() -> None:
    cache = Cache()
    reading = cache.begin([ITEM])
    cache.clear()
    cache.put(reading, ITEM, {PLACE: level(1)})
    assert cache.get(ITEM) is None


def test_an_item_is_good_until_the_first_hold_runs_out() -> None:
    cache = Cache()
    item = cache.put(cache.begin([ITEM]), ITEM, {PLACE: level(1, valid_until=100)})
    assert item.valid_at(99)
    assert not item.valid_at(100)
    cache.apply([level(2, valid_until=200)])
    assert item.valid_at(100)
