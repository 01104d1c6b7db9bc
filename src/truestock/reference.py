"""Reference data in memory: items by sku, all locations, groups, buffers and API keys.

PostgreSQL tells every process what changed (a trigger and LISTEN); a process that lost that
connection reads everything anew when it is back. Items are never deleted and keep their numbers,
so those that are kept are only brought up to date.
"""

import asyncio
import contextlib
import hashlib
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import structlog

from truestock import db
from truestock.config import MAX_CACHED_ITEMS
from truestock.db import SQL, Connection, Pool, rows_as
from truestock.model.buffers import NO_BUFFER, BufferRule, choose, in_order
from truestock.model.caller import Caller
from truestock.model.place import ItemRef, LocationRef
from truestock.telemetry import describe

log = structlog.get_logger()

CHECK_SECONDS = 5.0
ITEM_OVERLAP = timedelta(minutes=2)
LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)
RECONNECT_SECONDS = 0.2
MAX_CACHED_KEYS = 10_000

decode_rules = msgspec.json.Decoder(tuple[BufferRule, ...]).decode


class _Enabled(msgspec.Struct, frozen=True):
    enabled: bool = True


class _LocationSwitches(msgspec.Struct):
    pickup: _Enabled = _Enabled()
    ship_from: _Enabled = _Enabled()


decode_switches = msgspec.json.Decoder(_LocationSwitches).decode


class Reference:
    """Reference data of one process. `generation` grows with every change that reads can show."""

    def __init__(self, database_url: str, pool: Pool) -> None:
        self._database_url = database_url
        self._pool = pool
        self._listener: Connection | None = None
        self._task: asyncio.Task[None] | None = None
        self._changed: asyncio.Queue[str] = asyncio.Queue()
        self._item_cache: dict[str, ItemRef] = {}
        self._items_read_at = LONG_AGO
        self._callers: dict[bytes, Caller | None] = {}
        self.locations: dict[str, LocationRef] = {}
        self.locations_by_id: dict[int, LocationRef] = {}
        self.groups: dict[str, tuple[int, ...]] = {}
        self.buffers: tuple[BufferRule, ...] = ()
        self.generation = 0
        # What flows made of reference data, until some of it changes.
        self.views: dict[tuple[object, ...], Any] = {}
        self._reloading = asyncio.Lock()

    async def open(self) -> None:
        """Listen first, then read, so that no change falls between."""
        await self._listen()
        await self.reload()
        self._task = asyncio.create_task(self._follow(), name="reference")

    async def close(self) -> None:
        """Stop listening."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        if self._listener is not None:
            self._listener.terminate()

    # What is known ----------------------------------------------------------

    async def items(self, skus: Iterable[str]) -> dict[str, ItemRef]:
        """The items among these skus that exist."""
        known = self._item_cache
        wanted = list(skus)
        found = {sku: known[sku] for sku in wanted if sku in known}
        if missing := [sku for sku in wanted if sku not in found]:
            for item in rows_as(ItemRef, await self._pool.fetch(SQL["find_items"], missing)):
                found[item.sku] = self._remember(item)
        return found

    def known_item(self, sku: str) -> ItemRef | None:
        """The item, if this process has met it: no question to the database."""
        return self._item_cache.get(sku)

    def buffer(
        self, item: ItemRef, location: str, channel: str | None, method: str | None
    ) -> BufferRule:
        """The buffer that binds one channel and method at one level."""
        if not self.buffers:
            return NO_BUFFER
        return choose(
            self.buffers,
            sku=item.sku,
            category=item.category,
            location=location,
            channel=channel,
            method=method,
        )

    async def caller(self, key: str) -> Caller | None:
        """Whose key this is, or None; only its hash is looked up."""
        digest = hashlib.sha256(key.encode()).digest()
        if digest not in self._callers:
            generation = self.generation
            row = await self._pool.fetchrow(SQL["find_key"], digest)
            caller = Caller.from_row(dict(row)) if row else None
            if len(self._callers) >= MAX_CACHED_KEYS:
                self._callers.clear()
            # A key that was revoked while this was read must not be remembered as good.
            if generation == self.generation:
                self._callers[digest] = caller
        else:
            caller = self._callers[digest]
        return caller if caller and caller.valid_at(datetime.now(UTC)) else None

    # Keeping up ----------------------------------------------------------------

    async def reload(self, tables: Sequence[str] = ()) -> None:
        """Read anew what the named tables hold (none named: all), one reload after the other."""
        async with self._reloading:
            everything = not tables
            if everything or "items" in tables:
                await self._bring_items_up_to_date()
            if everything or "locations" in tables:
                self._set_locations(await self._pool.fetch(SQL["list_location_refs"]))
            if everything or "location_groups" in tables:
                rows = await self._pool.fetch(SQL["list_location_groups"])
                self.groups = {row["location_group"]: tuple(row["location_ids"]) for row in rows}
            if everything or "buffer_rules" in tables:
                rules = decode_rules(await self._pool.fetchval(SQL["read_buffer_rules"]))
                self.buffers = in_order(rules)
            # In one step: who looks a key up meanwhile must see that it is not to be kept.
            if everything or "api_keys" in tables:
                self._callers.clear()
            self.generation += 1
            self.views.clear()

    async def _bring_items_up_to_date(self) -> None:
        # Looking back a little covers transactions that began before others were read.
        since = self._items_read_at - ITEM_OVERLAP
        self._items_read_at = datetime.now(UTC)
        rows = await self._pool.fetch(SQL["list_changed_items"], since, MAX_CACHED_ITEMS)
        for item in rows_as(ItemRef, rows):
            self._remember(item)

    def _set_locations(self, rows: Sequence[Any]) -> None:
        refs = []
        for row in rows:
            switches = decode_switches(row["body"])
            known = dict(row)
            known.pop("body")
            refs.append(
                LocationRef(
                    **known,
                    pickup_enabled=switches.pickup.enabled,
                    ship_enabled=switches.ship_from.enabled,
                )
            )
        self.locations = {ref.location: ref for ref in refs}
        self.locations_by_id = {ref.location_id: ref for ref in refs}

    def _remember(self, item: ItemRef) -> ItemRef:
        if len(self._item_cache) >= MAX_CACHED_ITEMS:
            self._item_cache.clear()
        self._item_cache[item.sku] = item
        return item

    async def _listen(self) -> None:
        connection = await db.connect(self._database_url, application_name="truestock-reference")
        await connection.add_listener(
            "truestock_reference", lambda *args: self._changed.put_nowait(args[3])
        )
        connection.add_termination_listener(lambda _: self._changed.put_nowait("lost"))
        self._listener = connection

    async def _follow(self) -> None:
        while True:
            tables = await self._next_changes()
            try:
                if self._listener is None or self._listener.is_closed():
                    await self._listen()
                    await self.reload()
                elif tables:
                    await self.reload(sorted(tables))
            except Exception as error:
                log.warning("reference_unreachable", error=describe(error))
                if self._listener is not None:
                    self._listener.terminate()
                await asyncio.sleep(RECONNECT_SECONDS)

    async def _next_changes(self) -> set[str]:
        """The tables that changed, as soon as one did; {} now and then to look after the line."""
        tables: set[str] = set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CHECK_SECONDS):
                tables.add(await self._changed.get())
        while not self._changed.empty():
            tables.add(self._changed.get_nowait())
        return tables
