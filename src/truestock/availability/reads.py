"""Availability: from the process's cache, else Redis, else PostgreSQL. Reads advise only.

What a process cannot vouch for (Redis lost, a counted hold that ran out, `strong`) it reads from
PostgreSQL, which has the truth.
"""

import contextlib
import time
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from redis.exceptions import RedisError

from truestock.availability.cache import Cache, CachedItem, Reading
from truestock.availability.projection import Projection
from truestock.config import Settings
from truestock.db import SQL, Pool
from truestock.model.stock import Figures
from truestock.telemetry import READS

FROM_PROCESS, FROM_REDIS, FROM_POSTGRESQL = map(READS.labels, ("process", "redis", "postgresql"))


class Availability:
    """The read side of one process."""

    def __init__(self, settings: Settings, pool: Pool) -> None:
        self._pool = pool
        self._cache = Cache()
        self.projection = Projection(
            settings.redis_url, self._cache.apply, self._cache.drop, self._cache.clear
        )

    async def open(self) -> None:
        """Connect to Redis in the background."""
        await self.projection.open()

    async def close(self) -> None:
        """Let go of Redis."""
        await self.projection.close()

    def committed(self, figures: list[Figures], packed: bytes) -> None:
        """The ledger committed: this process sees it at once, the others in a moment."""
        self._cache.apply(figures)
        self.projection.send(packed)

    async def imported(self, item_ids: list[int]) -> None:
        """A snapshot changed these items: nobody keeps what they were."""
        self._cache.drop(item_ids)
        # Where Redis does not answer, the relay says so again.
        with contextlib.suppress(RedisError, OSError, TimeoutError):
            await self.projection.drop(item_ids)

    def ready(self, item_id: int) -> CachedItem | None:
        """The item, if this process can vouch for what it keeps of it."""
        return self._kept((item_id,)).get(item_id)

    def _kept(self, item_ids: Iterable[int]) -> dict[int, CachedItem]:
        if not self.projection.trusted:
            return {}
        now, get = now_us(), self._cache.get
        kept: dict[int, CachedItem] = {}
        for item_id in item_ids:
            if (item := get(item_id)) is not None and item.valid_at(now):
                kept[item_id] = item
        return kept

    async def items(
        self, item_ids: Sequence[int], *, strong: bool = False
    ) -> dict[int, CachedItem]:
        """Every item's levels; strong reads them from PostgreSQL, whatever is kept."""
        if strong:
            FROM_POSTGRESQL.inc(len(item_ids))
            return {
                item_id: CachedItem(levels)
                for item_id, levels in (await self._from_postgresql(item_ids)).items()
            }
        found = self._kept(item_ids)
        FROM_PROCESS.inc(len(found))
        if missing := [item_id for item_id in item_ids if item_id not in found]:
            found.update(await self._read(missing))
            # A hold may have run out while other items were being read.
            now = now_us()
            if late := [item_id for item_id, item in found.items() if not item.valid_at(now)]:
                found.update(await self.items(late, strong=True))
        return found

    async def _read(self, item_ids: Sequence[int]) -> dict[int, CachedItem]:
        if not self.projection.trusted:
            FROM_POSTGRESQL.inc(len(item_ids))
            levels = await self._from_postgresql(item_ids)
            return {item_id: CachedItem(levels[item_id]) for item_id in item_ids}
        reading = self._cache.begin(item_ids)
        try:
            return await self._read_and_keep(item_ids, reading)
        finally:
            self._cache.end(reading)

    async def _read_and_keep(
        self, item_ids: Sequence[int], reading: Reading
    ) -> dict[int, CachedItem]:
        now = now_us()
        projected = {
            item_id: levels
            for item_id, levels in (await self.projection.read(item_ids)).items()
            if CachedItem(levels).valid_at(now)
        }
        FROM_REDIS.inc(len(projected))
        if rest := [item_id for item_id in item_ids if item_id not in projected]:
            FROM_POSTGRESQL.inc(len(rest))
            read_at = time.monotonic()
            read = await self._from_postgresql(rest)
            await self.projection.fill(read, read_at)
            projected.update(read)
        if not self.projection.trusted:
            return {item_id: CachedItem(levels) for item_id, levels in projected.items()}
        return {
            item_id: self._cache.put(reading, item_id, levels)
            for item_id, levels in projected.items()
        }

    async def _from_postgresql(self, item_ids: Iterable[int]) -> dict[int, dict[int, Figures]]:
        wanted = list(item_ids)
        items: dict[int, dict[int, Figures]] = {item_id: {} for item_id in wanted}
        rows = await self._pool.fetch(SQL["read_figures"], datetime.now(UTC), wanted)
        for row in rows:
            level = Figures(*row)
            items[level.item_id][level.location_id] = level
        return items


def now_us() -> int:
    """The clock, in Unix microseconds."""
    return time.time_ns() // 1000
