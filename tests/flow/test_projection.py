"""Several processes' memories over one Redis: each hears of every change, whoever published it."""

import asyncio
from collections.abc import AsyncIterator, Iterable

import pytest

from truestock.availability.projection import Projection
from truestock.model.stock import Figures, pack_figures

ITEM, PLACE = 4_711, 9


def level(version: int, on_hand: int) -> Figures:
    """A level at a version."""
    return Figures(ITEM, PLACE, on_hand, 0, 0, 0, 0, version)


class Process:
    """A process's end of the projection, and what it heard."""

    def __init__(self, redis_url: str) -> None:
        self.heard: list[int] = []
        self.dropped: list[int] = []
        self.projection = Projection(redis_url, self.hear, self.drop, lambda: None)

    def hear(self, levels: Iterable[Figures]) -> None:
        """Note the versions."""
        self.heard += [level.version for level in levels]

    def drop(self, item_ids: Iterable[int]) -> None:
        """Note the items."""
        self.dropped += item_ids

    async def until(self, version: int) -> None:
        """Wait until a version has been heard."""
        async with asyncio.timeout(5):
            while version not in self.heard:
                await asyncio.sleep(0.01)


@pytest.fixture
async def processes(redis_url: str) -> AsyncIterator[list[Process]]:
    """Three processes that trust their memories."""
    started = [Process(redis_url) for _ in range(3)]
    for process in started:
        await process.projection.open()
    async with asyncio.timeout(10):
        while not all(process.projection.trusted for process in started):
            await asyncio.sleep(0.01)
    yield started
    for process in started:
        await process.projection.close()


async def test_a_commit_is_heard_by_the_others(processes: list[Process]) -> None:
    processes[0].projection.send(pack_figures([level(1, 10)]))
    await processes[1].until(1)
    await processes[2].until(1)
    assert processes[0].heard == []


async def test_what_a_reader_fills_first_is_heard_too(processes: list[Process]) -> None:
    """The committer has not published yet; the relay will find that Redis has it already."""
    _, reader, other = processes
    now = asyncio.get_running_loop().time()
    await reader.projection.fill({ITEM: {PLACE: level(2, 5)}}, now)
    assert await reader.projection.relay([pack_figures([level(2, 5)])]) == 0
    await other.until(2)


async def test_an_older_level_never_replaces_a_newer_one(processes: list[Process]) -> None:
    one = processes[0].projection
    now = asyncio.get_running_loop().time()
    await one.fill({ITEM: {PLACE: level(7, 5)}}, now)
    await one.fill({ITEM: {PLACE: level(6, 9)}}, now)
    assert await one.relay([pack_figures([level(3, 1)])]) == 0
    assert (await one.read([ITEM]))[ITEM][PLACE].version == 7


async def test_a_dropped_item_is_gone_everywhere_and_not_filled_by_who_read_before(
    processes: list[Process],
) -> None:
    one, other, _ = processes
    now = asyncio.get_running_loop().time()
    await one.projection.fill({ITEM: {PLACE: level(1, 5)}}, now)
    await one.projection.drop([ITEM])
    await one.projection.fill({ITEM: {PLACE: level(1, 5)}}, now)
    assert await one.projection.read([ITEM]) == {}
    async with asyncio.timeout(5):
        while other.dropped != [ITEM]:
            await asyncio.sleep(0.01)
