"""Snapshot imports: receive a file, run it, and say how it went.

1. `receive` keeps the file in pieces; from then on it is ours to finish.
2. `run_import` surveys it as a whole (snapshot_survey), then applies it in lanes (ledger.snapshot).
3. Each chunk commits with its mark: after a crash, whoever runs the import next goes on from there.
"""

import asyncio
import csv
import io
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Literal

import msgspec
import structlog

from truestock.config import (
    IMPORT_LANES,
    IMPORT_PIECE_BYTES,
    MAX_IMPORT_BYTES,
    MAX_PAGE,
    UPLOAD_TIMEOUT,
)
from truestock.db import LOST_CONNECTION, SQL, Connection, Pool
from truestock.flows.snapshot_lines import FileFault
from truestock.flows.snapshot_survey import ImportRun, Survey, survey
from truestock.ledger.snapshot import OnChange, RunElsewhereError, Snapshot, apply_lane
from truestock.model.facts import count_order

log = structlog.get_logger()

# The class of the advisory locks; the second key is the import.
IMPORT_LOCK = 7_203_115
# Seconds to wait for a connection of the pool before the import is left for later.
LANE_TIMEOUT = 30.0
BROKEN_OFF = "The upload broke off: send the file again."


class PayloadTooLargeError(Exception):
    """A body is larger than MAX_IMPORT_BYTES; the message says so to its sender."""


class SnapshotRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What comes with a snapshot file.

    as_of: when the shelf was as the file says. location_ids: what a full file speaks of; None
    for the locations that it names. allowed_location_ids: what the sender may write, None for
    all. acknowledged_seq, nets_allocations: kept with the import.
    """

    source_id: int
    source: str
    as_of: datetime
    scope: Literal["partial", "full"] = "partial"
    location_ids: list[int] | None = None
    allowed_location_ids: list[int] | None = None
    format: Literal["csv", "ndjson"] = "csv"
    encoding: Literal["identity", "gzip"] = "identity"
    acknowledged_seq: int | None = None
    nets_allocations: bool = False


class ImportStatus(msgspec.Struct, frozen=True):
    """The answer to `GET /v1/imports/{import_id}`. progress: from 0 to 1, 1 when completed.

    rows_zeroed: levels that a full file left out, which are no rows of it.
    failure: why it failed, and how much of it was applied.
    """

    import_id: str
    source: str
    status: str
    rows_read: int
    rows_applied: int
    rows_unchanged: int
    rows_superseded: int
    rows_rejected: int
    rows_zeroed: int
    started_at: datetime | None
    finished_at: datetime | None
    failure: str | None
    progress: float = 0.0


# Receiving -----------------------------------------------------------------


async def receive(pool: Pool, request: SnapshotRequest, body: AsyncIterator[bytes]) -> int:
    """Keep a snapshot file, and answer its import's number; it runs once it is queued.

    Raises PayloadTooLargeError; what `body` raises goes through.
    """
    import_id: int = await pool.fetchval(
        SQL["create_import"],
        request.source_id,
        request.scope,
        request.as_of,
        request.format,
        request.encoding,
        request.location_ids,
        request.allowed_location_ids,
        request.acknowledged_seq,
        request.nets_allocations,
    )
    try:
        await keep_pieces(pool, import_id, body)
    except BaseException as error:
        failure = str(error) if isinstance(error, PayloadTooLargeError) else BROKEN_OFF
        # Also when the sender has gone and with it this task.
        await asyncio.shield(discard(pool, import_id, failure))
        raise
    return import_id


async def queue(pool: Pool, import_id: int) -> None:
    """From here on the file is ours: it is run even if this process dies.

    Raises TimeoutError where the upload was so slow that it was given up.
    """
    if await pool.fetchval(SQL["queue_import"], import_id) is None:
        raise TimeoutError(BROKEN_OFF)


async def discard(pool: Pool, import_id: int, why: str) -> None:
    """Let go of a file that is not to be run."""
    await pool.execute(SQL["fail_import"], why, import_id)


async def keep_pieces(pool: Pool, import_id: int, body: AsyncIterator[bytes]) -> None:
    """Write a body in pieces of IMPORT_PIECE_BYTES as it comes."""
    received = 0
    waiting = bytearray()
    async for part in body:
        received += len(part)
        if received > MAX_IMPORT_BYTES:
            raise PayloadTooLargeError(
                f"A snapshot file has at most {MAX_IMPORT_BYTES} bytes as sent: split it."
            )
        waiting += part
        while len(waiting) >= IMPORT_PIECE_BYTES:
            await keep_piece(pool, import_id, bytes(waiting[:IMPORT_PIECE_BYTES]))
            del waiting[:IMPORT_PIECE_BYTES]
    if waiting:
        await keep_piece(pool, import_id, bytes(waiting))


async def keep_piece(pool: Pool, import_id: int, piece: bytes) -> None:
    """Write one piece. Raises TimeoutError where the upload was given up for dead meanwhile."""
    if await pool.fetchval(SQL["add_import_piece"], import_id, piece) is None:
        raise TimeoutError(BROKEN_OFF)


# Running -------------------------------------------------------------------


async def run_waiting_imports(pool: Pool, on_change: OnChange) -> int:
    """Run what is queued, and what a process that died left running; answers how many ran."""
    for row in await pool.fetch(SQL["list_abandoned_uploads"], UPLOAD_TIMEOUT):
        await pool.execute(SQL["fail_import"], BROKEN_OFF, row["import_id"])
    waiting = [row["import_id"] for row in await pool.fetch(SQL["list_waiting_imports"])]
    return sum([await run_import(pool, import_id, on_change) for import_id in waiting])


async def run_import(pool: Pool, import_id: int, on_change: OnChange) -> bool:
    """Run an import to its end, completed or failed; False if another process runs it.

    on_change: called after each commit with the items whose levels changed.
    Raises what a lost database raises: the import is then left to be run again.
    """
    async with pool.acquire() as connection:
        if not await connection.fetchval(SQL["try_import_lock"], IMPORT_LOCK, import_id):
            return False
        try:
            return await run_locked(pool, connection, import_id, on_change)
        finally:
            if not connection.is_closed():
                await connection.fetchval(SQL["release_import_lock"], IMPORT_LOCK, import_id)


async def run_locked(
    pool: Pool, connection: Connection, import_id: int, on_change: OnChange
) -> bool:
    """Run an import that nobody else runs, and write down how it ended."""
    row = await connection.fetchrow(SQL["start_import"], IMPORT_LANES, import_id)
    if row is None:
        return False
    run = ImportRun(*row)
    try:
        surveyed = await survey(connection, run)
        await connection.execute(
            SQL["record_survey"], surveyed.rows, surveyed.rejected, run.import_id
        )
        await apply_lanes(pool, connection, run, surveyed, on_change)
    except FileFault as fault:
        await connection.execute(SQL["fail_import"], f"{fault} Nothing was applied.", import_id)
    except RunElsewhereError:
        log.warning("import_runs_elsewhere", import_id=import_id)
        return False
    except LOST_CONNECTION:
        raise
    except Exception:
        # Not left waiting: what is wrong with it would be wrong each time.
        log.exception("import_failed", import_id=import_id)
        await fail_part_way(connection, import_id)
    else:
        await connection.execute(SQL["complete_import"], import_id)
    return True


async def fail_part_way(connection: Connection, import_id: int) -> None:
    """End an import that met a fault of ours, and say what was applied."""
    [row] = await connection.fetch(SQL["read_import"], import_id)
    done = row["rows_applied"] + row["rows_unchanged"] + row["rows_superseded"]
    failure = f"The import met a fault of ours, which was logged. {done} rows were applied."
    await connection.execute(SQL["fail_import"], failure, import_id)


async def apply_lanes(
    pool: Pool, connection: Connection, run: ImportRun, surveyed: Survey, on_change: OnChange
) -> None:
    """Apply what a file says, items by turns in each lane, on a connection for each."""
    snapshot = Snapshot(
        run.import_id, run.source_id, run.as_of, count_order(run.source, str(run.import_id))
    )
    counts = surveyed.counts

    async def run_lane(lane: int, connection: Connection) -> None:
        mine = counts.take(counts.item_ids % IMPORT_LANES == lane)
        after_item_id = run.lane_items[lane]
        await apply_lane(connection, snapshot, lane + 1, mine, after_item_id, on_change)

    async def run_beside(lane: int) -> None:
        async with pool.acquire(timeout=LANE_TIMEOUT) as connection:
            await run_lane(lane, connection)

    try:
        async with asyncio.TaskGroup() as lanes:
            lanes.create_task(run_lane(0, connection))
            for lane in range(1, IMPORT_LANES):
                lanes.create_task(run_beside(lane))
    except BaseExceptionGroup as group:
        raise group.exceptions[0] from None


# How it went ---------------------------------------------------------------


async def import_status(pool: Pool, import_id: int) -> ImportStatus | None:
    """How an import is doing; None if there is no such import."""
    row = await pool.fetchrow(SQL["read_import"], import_id)
    if row is None:
        return None
    status = ImportStatus(*row)
    return msgspec.structs.replace(status, progress=progress_of(status))


def progress_of(status: ImportStatus) -> float:
    """Which part of an import's rows has been dealt with."""
    if status.status == "completed":
        return 1.0
    done = status.rows_applied + status.rows_unchanged + status.rows_superseded
    return (done + status.rows_rejected) / status.rows_read if status.rows_read else 0.0


async def import_errors(pool: Pool, import_id: int) -> AsyncIterator[bytes]:
    """What was wrong with which row, as CSV, page by page."""
    yield as_csv([("row", "code", "detail", "line")])
    after_row = 0
    while rows := await pool.fetch(SQL["read_import_errors"], import_id, after_row, MAX_PAGE):
        yield as_csv([tuple(row) for row in rows])
        after_row = rows[-1]["row_no"]


def as_csv(rows: Sequence[tuple[object, ...]]) -> bytes:
    """Rows as CSV lines."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()
