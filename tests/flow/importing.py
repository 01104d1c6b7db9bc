"""Sending snapshot files in tests, and what came of them."""

from collections.abc import AsyncIterator
from typing import Any

from tests.seeding import Shop, at

from truestock.db import Connection, Pool
from truestock.flows import imports
from truestock.flows.imports import (
    ImportStatus,
    SnapshotRequest,
    import_errors,
    import_status,
    receive,
    run_import,
)

HEADER = "sku,location,on_hand"
STOCK = f"{HEADER}\ntee,oslo,5\nmug,oslo,0\ntee,rome,7\n"


async def nobody(item_ids: list[int]) -> None:
    """Nobody keeps copies of items."""


async def pieces(content: bytes) -> AsyncIterator[bytes]:
    """A body as it comes in."""
    for start in range(0, len(content), 1_000):
        yield content[start : start + 1_000]


def request(shop: Shop, minute: float = 0, source: str = "erp", **fields: Any) -> SnapshotRequest:
    """A snapshot's request; the shelf was so, so many minutes from the morning."""
    return SnapshotRequest(
        source_id=shop.sources[source], source=source, as_of=at(minute), **fields
    )


async def queue(pool: Pool, asked: SnapshotRequest, content: str | bytes) -> int:
    """Send a file."""
    raw = content.encode() if isinstance(content, str) else content
    import_id = await receive(pool, asked, pieces(raw))
    await imports.queue(pool, import_id)
    return import_id


async def run(pool: Pool, import_id: int) -> ImportStatus:
    """Run an import."""
    assert await run_import(pool, import_id, nobody)
    status = await import_status(pool, import_id)
    assert status is not None
    return status


async def send(
    pool: Pool, shop: Shop, content: str | bytes, minute: float = 0, **fields: Any
) -> ImportStatus:
    """Send a file and run its import."""
    return await run(pool, await queue(pool, request(shop, minute, **fields), content))


def outcome(status: ImportStatus) -> dict[str, int]:
    """What became of the rows."""
    counts = {
        "applied": status.rows_applied,
        "unchanged": status.rows_unchanged,
        "superseded": status.rows_superseded,
        "rejected": status.rows_rejected,
    }
    assert sum(counts.values()) == status.rows_read
    assert (status.status, status.progress, status.failure) == ("completed", 1.0, None)
    return {name: count for name, count in counts.items() if count}


async def on_hand(connection: Connection) -> dict[tuple[str, str], int]:
    """Every level's on hand, by name."""
    rows = await connection.fetch(
        "SELECT sku, location, on_hand FROM levels JOIN items USING (item_id)"
        " JOIN locations USING (location_id)"
    )
    return {(row["sku"], row["location"]): row["on_hand"] for row in rows}


async def errors(pool: Pool, status: ImportStatus) -> list[str]:
    """The lines of an import's errors, without the header."""
    parts = [part async for part in import_errors(pool, int(status.import_id))]
    header, *lines = b"".join(parts).decode().splitlines()
    assert header == "row,code,detail,line"
    return lines


async def count(connection: Connection, table: str) -> int:
    """How many rows a table has."""
    found: int = await connection.fetchval(f"SELECT count(*) FROM {table}")
    return found
