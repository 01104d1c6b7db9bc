"""Levels, movements and sources as they are read by those who compare figures."""

import asyncio
import base64
from datetime import UTC, datetime
from typing import Any

import msgspec

from truestock.db import SQL, rows_as
from truestock.flows.entries import UNREADABLE
from truestock.flows.expire import expire_due
from truestock.flows.services import Services
from truestock.model.caller import Caller
from truestock.model.insight import (
    LevelAnswer,
    LevelList,
    LevelQuery,
    MovementAnswer,
    MovementList,
    MovementQuery,
    SourceAnswer,
    SourceBody,
    SourceList,
)
from truestock.model.keys import PageQuery
from truestock.model.refusal import Code, FieldError, Refusal, field_refusal
from truestock.model.stock import Level, Name, encode

decode_cursor = msgspec.json.Decoder(tuple[Name, Name]).decode


SETTLE_LOOKS = 100
SETTLE_SECONDS = 0.01


async def list_levels(services: Services, caller: Caller, query: LevelQuery) -> LevelList | Refusal:
    """Levels as they are now, by (sku, location)."""
    try:
        after_sku, after_location = ("", "") if query.cursor is None else read_cursor(query.cursor)
    except UNREADABLE:
        return field_refusal("/cursor", "It is not a cursor of this list.")
    rows = await services.pool.fetch(
        SQL["list_levels"],
        datetime.now(UTC),
        query.sku,
        bounded(caller, query.location),
        after_sku,
        after_location,
        query.limit + 1,
    )
    levels = [level_answer(row) for row in rows[: query.limit]]
    cursor = None
    if len(rows) > query.limit:
        cursor = base64.urlsafe_b64encode(encode((levels[-1].sku, levels[-1].location))).decode()
    return LevelList(levels, cursor)


def read_cursor(cursor: str) -> tuple[str, str]:
    """The sku and location that a page ended with; raises what UNREADABLE lists."""
    return decode_cursor(base64.b64decode(cursor.encode(), b"-_", validate=True))


def level_answer(row: Any) -> LevelAnswer:
    """A level's row with what follows from it."""
    # held has only live holds here, so that nothing of it has expired.
    level = Level(
        0,
        0,
        row["on_hand"],
        row["unavailable"],
        row["held"],
        row["allocated"],
        row["safety_stock"],
    )
    return LevelAnswer(
        row["sku"],
        row["location"],
        level.on_hand,
        level.unavailable,
        level.held,
        level.allocated,
        level.safety_stock,
        level.available,
        level.shortage,
        row["version"],
        row["counted_at"],
    )


def bounded(caller: Caller, locations: list[str] | None) -> list[str] | None:
    """The locations asked for, within those that the caller is bound to (None: all)."""
    if not caller.locations:
        return locations
    return sorted(caller.locations if locations is None else caller.locations & set(locations))


async def list_movements(services: Services, caller: Caller, query: MovementQuery) -> MovementList:
    """Movements in the ledger's order; holds that ran out are swept up first, so they show."""
    await expire_due(services)
    item_ids = location_ids = None
    if query.sku is not None:
        items = await services.reference.items(query.sku)
        item_ids = [item.item_id for item in items.values()]
    if (names := bounded(caller, query.location)) is not None:
        known = services.reference.locations
        location_ids = [known[name].location_id for name in names if name in known]
    after = query.after if query.cursor is None else query.cursor
    last = await settled_seq(services)
    rows = await services.pool.fetch(
        SQL["list_movements"], after, last, item_ids, location_ids, query.limit + 1
    )
    movements = rows_as(MovementAnswer, rows[: query.limit])
    more = len(rows) > query.limit
    return MovementList(movements, str(movements[-1].seq) if more else None)


async def settled_seq(services: Services) -> int:
    """A seq up to which nothing can appear any more, so that whoever polls by seq misses nothing.

    Seqs are taken before commits: what runs now may still commit a lower one than has been seen.
    It waits for those that run, SETTLE_LOOKS × SETTLE_SECONDS at most.
    """
    last: int = await services.pool.fetchval(SQL["read_last_seq"])
    horizon = await services.pool.fetchval(SQL["read_horizon"])
    for _ in range(SETTLE_LOOKS):
        if await services.pool.fetchval(SQL["is_past_horizon"], horizon):
            break
        await asyncio.sleep(SETTLE_SECONDS)
    return last


async def put_source(services: Services, source: str, body: SourceBody) -> Refusal | None:
    """Say what a source may write and how often it should be heard."""
    known = services.reference.locations
    faults = [
        FieldError(f"/locations/{number}", Code.UNKNOWN_LOCATION, f"There is no location {name!r}.")
        for number, name in enumerate(body.locations or ())
        if name not in known
    ]
    if faults:
        return Refusal(Code.UNKNOWN_LOCATION, faults[0].detail, errors=tuple(faults))
    ids = None if body.locations is None else [known[name].location_id for name in body.locations]
    await services.pool.fetch(SQL["put_source"], source, ids, body.expected_interval_seconds)
    return None


async def list_sources(services: Services, caller: Caller, page: PageQuery) -> SourceList:
    """How each source that the caller may see does."""
    only = sorted(caller.sources) or None
    rows = await services.pool.fetch(SQL["list_sources"], page.cursor or "", only, page.limit + 1)
    sources = rows_as(SourceAnswer, rows[: page.limit])
    now = datetime.now(UTC)
    for source in sources:
        judge(source, now)
    more = len(rows) > page.limit
    return SourceList(sources, sources[-1].source if more else None)


def judge(source: SourceAnswer, now: datetime) -> None:
    """Say how far behind a source is, and whether it is overdue."""
    if source.last_heard_at is None:
        return
    if source.last_occurred_at is not None:
        source.lag_seconds = (source.last_heard_at - source.last_occurred_at).total_seconds()
    if source.expected_interval_seconds is not None:
        silent = (now - source.last_heard_at).total_seconds()
        source.stale = silent > source.expected_interval_seconds
