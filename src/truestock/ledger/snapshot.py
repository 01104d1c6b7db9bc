"""The ledger's path for a snapshot: a chunk of counts, set by set, in one transaction.

1. Lock the levels that the chunk counts, in the one lock order.
2. Compare, number and write them in one statement (`apply_counts`).
3. Move the import's mark, so that a crash neither loses a row nor applies one twice.
A chunk holds all of an item's counts, so that those who hold copies hear of an item once.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from datetime import datetime

import asyncpg
import msgspec
import numpy as np
from numpy.typing import NDArray

from truestock.config import COMMIT_ATTEMPTS, IMPORT_CHUNK_ROWS
from truestock.db import SQL, Connection

# Called after each commit with the items whose levels changed.
OnChange = Callable[[list[int]], Awaitable[None]]


class UnlockedLevelError(Exception):
    """A level was made between the chunk's lock and its look: somebody may be changing it."""


# Another transaction held the levels the other way round, or made one of them meanwhile.
COLLISIONS = (
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
    asyncpg.UniqueViolationError,
    UnlockedLevelError,
)
RETRY_SECONDS = 0.02


class Snapshot(msgspec.Struct, frozen=True):
    """What all counts of an import have in common. counted_by: its place among counts."""

    import_id: int
    source_id: int
    as_of: datetime
    counted_by: str


class Counts(msgspec.Struct):
    """Counts by (item, location), column by column and in that order; -1 is "not given".

    stated: whether the file has the row, or leaves it out and so says zero.
    """

    item_ids: NDArray[np.int32]
    location_ids: NDArray[np.int32]
    on_hand: NDArray[np.int32]
    safety_stock: NDArray[np.int32]
    unavailable: NDArray[np.int32]
    stated: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.item_ids)

    def take(self, places: "slice | NDArray[np.intp] | NDArray[np.bool_]") -> "Counts":
        """Some of them."""
        return Counts(*(getattr(self, name)[places] for name in self.__struct_fields__))


class RunElsewhereError(Exception):
    """The import's mark is not where this process left it: another process runs it."""


async def apply_lane(
    connection: Connection,
    snapshot: Snapshot,
    lane: int,
    counts: Counts,
    after_item_id: int,
    on_change: OnChange,
) -> None:
    """Apply a lane's counts from the item after the given one on, chunk by chunk.

    lane: counted from 1. Raises RunElsewhereError, and asyncpg's errors.
    """
    for chunk in chunks(counts.take(counts.item_ids > after_item_id)):
        through_item_id = int(chunk.item_ids[-1])
        item_ids = await apply_until_committed(
            connection, snapshot, chunk, (lane, after_item_id, through_item_id)
        )
        after_item_id = through_item_id
        if item_ids:
            await on_change(item_ids)


def chunks(counts: Counts) -> Iterator[Counts]:
    """Cut counts into chunks of whole items, of IMPORT_CHUNK_ROWS rows or a little more."""
    start = 0
    while start < len(counts):
        last = min(start + IMPORT_CHUNK_ROWS, len(counts)) - 1
        end = int(np.searchsorted(counts.item_ids, counts.item_ids[last], side="right"))
        yield counts.take(slice(start, end))
        start = end


async def apply_until_committed(
    connection: Connection, snapshot: Snapshot, chunk: Counts, mark: tuple[int, int, int]
) -> list[int]:
    """Apply a chunk, again if it collides; answers the items that changed."""
    for attempt in range(1, COMMIT_ATTEMPTS + 1):
        try:
            async with connection.transaction():
                await connection.execute(SQL["set_up_chunk"])
                return await apply_chunk(connection, snapshot, chunk, mark)
        except COLLISIONS:
            if attempt == COMMIT_ATTEMPTS:
                raise
            await asyncio.sleep(RETRY_SECONDS * attempt)
    raise AssertionError("the last attempt answers or raises")


async def apply_chunk(
    connection: Connection, snapshot: Snapshot, chunk: Counts, mark: tuple[int, int, int]
) -> list[int]:
    """Apply a chunk inside the caller's transaction. mark: the lane, and its items before, after.

    Answers the items that changed.
    """
    item_ids, location_ids = chunk.item_ids.tolist(), chunk.location_ids.tolist()
    locked = await connection.fetchval(SQL["lock_counted_levels"], item_ids, location_ids)
    [done] = await connection.fetch(
        SQL["apply_counts"],
        location_ids,
        snapshot.as_of,
        item_ids[0],
        item_ids[-1],
        snapshot.counted_by,
        item_ids,
        chunk.on_hand.tolist(),
        or_null(chunk.safety_stock),
        or_null(chunk.unavailable),
        [] if chunk.stated.all() else chunk.stated.tolist(),
        snapshot.source_id,
        snapshot.import_id,
    )
    if done["known"] != locked:
        raise UnlockedLevelError
    lane, after_item_id, through_item_id = mark
    moved = await connection.fetchval(
        SQL["advance_import"],
        done["applied"],
        done["unchanged"],
        done["superseded"],
        done["zeroed"],
        lane,
        through_item_id,
        snapshot.import_id,
        after_item_id,
    )
    if moved is None:
        raise RunElsewhereError(f"import {snapshot.import_id}")
    changed: list[int] = done["item_ids"]
    return changed


def or_null(figures: NDArray[np.int32]) -> list[int | None]:
    """A column as PostgreSQL takes it. Most files give none: `unnest` fills up with nulls."""
    if len(figures) and figures.max() < 0:
        return []
    return [None if figure < 0 else figure for figure in figures.tolist()]
