"""A snapshot of a whole retailer through HTTP, against a raw COPY of the same rows."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import msgspec
import numpy as np

from load_tests.bench import Bench
from load_tests.databases import (
    AUDIT,
    audit,
    drop_database,
    filled_database,
    new_database,
    use,
)
from load_tests.processes import Server, forget_peak, resident_mb, service
from load_tests.result import BenchError, Faults, Figure, Sample
from truestock.db import Connection

PIECE_BYTES = 256 * 1024
POLL_SECONDS = 0.02
IMPORT_SECONDS = 600
MEMORY_MB = 300.0
COPY_TABLE = """
    DROP TABLE IF EXISTS copied;
    CREATE TABLE copied (
        sku text NOT NULL, location text NOT NULL, on_hand bigint NOT NULL,
        PRIMARY KEY (sku, location)
    )
"""


class Feed(msgspec.Struct, frozen=True):
    """A snapshot file: so many rows, so many units in all."""

    file: Path
    rows: int
    units: int


class Round(msgspec.Struct):
    """What a round took: rows a second of each load, MB of memory that the service grew by."""

    first: Sample
    again: Sample
    copied: Sample
    grown: Sample


def snapshot(bench: Bench) -> list[Figure]:
    """First load, the same with a tenth changed, and what memory it took."""
    first, again = write_feeds(bench)
    template = filled_database(
        bench,
        "items, locations",
        f"SELECT pg_temp.seed_reference({bench.snapshot_items}, {bench.snapshot_locations})",
    )
    rounds = [run_round(bench, template, first, again) for _ in range(bench.rounds)]
    drop_database(bench, template)
    copied = [each.copied for each in rounds]
    title = f"Snapshot of {first.rows:,} levels"
    return [
        Figure(
            "snapshot-first",
            f"{title}, first load",
            "rows/s",
            "raw COPY",
            0.22,
            [each.first for each in rounds],
            copied,
        ),
        Figure(
            "snapshot-again",
            f"{title}, again with a tenth changed",
            "rows/s",
            "raw COPY",
            0.60,
            [each.again for each in rounds],
            copied,
        ),
        Figure(
            "snapshot-memory",
            f"{title}: growth of the service's memory",
            "MB",
            "",
            MEMORY_MB,
            [each.grown for each in rounds],
            [],
        ),
    ]


def run_round(bench: Bench, template: str, first: Feed, again: Feed) -> Round:
    """Both loads into a fresh database through a fresh service, and a COPY beside it."""
    database_url = new_database(bench, template)
    with service(bench, database_url) as ours:
        before = resident_mb(ours.pid)
        forget_peak(ours.pid)
        taken = Round(
            first=load(ours, first),
            copied=copy(database_url, first),
            again=load(ours, again),
            grown=Sample(resident_mb(ours.pid, "VmHWM") - before),
        )
    drop_database(bench, database_url)
    for name in taken.__struct_fields__:
        print(f"    {name:<10} {getattr(taken, name).rate:>12,.0f}", flush=True)
    return taken


def load(server: Server, feed: Feed) -> Sample:
    """Send a feed and wait until it is applied; the books and the units must agree after it."""
    parameters = {"source": "bench", "as_of": datetime.now(UTC).isoformat()}
    headers = server.headers | {"Content-Type": "text/csv"}
    began = time.perf_counter()
    with httpx.Client(base_url=server.url, headers=headers, timeout=IMPORT_SECONDS) as client:
        sent = client.post("/v1/stock/snapshots", params=parameters, content=pieces(feed.file))
        if sent.status_code != 202:
            raise BenchError(f"The snapshot was answered with {sent.status_code}: {sent.text}")
        status = wait_for(client, sent.json()["import_id"], began + IMPORT_SECONDS)
    took = time.perf_counter() - began
    if status["status"] != "completed":
        raise BenchError(f"The import ended otherwise: {status}")
    faults = audit(server.database_url, [])
    found = use(server.database_url, read_units)
    faults += Faults(failed=abs(found - feed.units) + feed.rows - status["rows_read"])
    return Sample(feed.rows / took, faults)


def wait_for(client: httpx.Client, import_id: str, deadline: float) -> dict[str, object]:
    """Poll an import until it is over."""
    while True:
        status: dict[str, object] = client.get(f"/v1/imports/{import_id}").json()
        if status["status"] not in ("receiving", "queued", "running"):
            return status
        if time.perf_counter() > deadline:
            raise BenchError(f"The import did not end within {IMPORT_SECONDS} s: {status}")
        time.sleep(POLL_SECONDS)


def copy(database_url: str, feed: Feed) -> Sample:
    """The same text straight into a table with the same key."""

    async def work(connection: Connection) -> Sample:
        await connection.execute(COPY_TABLE)
        began = time.perf_counter()
        await connection.copy_to_table("copied", source=feed.file, format="csv", header=True)
        took = time.perf_counter() - began
        await connection.execute("DROP TABLE copied")
        return Sample(feed.rows / took)

    return use(database_url, work)


async def read_units(connection: Connection) -> int:
    """What all levels have."""
    units: int = await connection.fetchval(AUDIT["on_hand"])
    return units


def pieces(file: Path) -> Iterator[bytes]:
    """A file's bytes, as a sender streams them."""
    with file.open("rb") as source:
        while piece := source.read(PIECE_BYTES):
            yield piece


def write_feeds(bench: Bench) -> tuple[Feed, Feed]:
    """The first feed, and the same with a tenth of the rows changed; in the order of the key."""
    rng = np.random.default_rng(20261122)
    rows = bench.snapshot_items * bench.snapshot_locations
    units = rng.integers(0, 200, size=rows)
    first = write_feed(bench, "first.csv", units)
    changed = rng.choice(rows, size=rows // 10, replace=False)
    units[changed] += 1
    return first, write_feed(bench, "again.csv", units)


def write_feed(bench: Bench, name: str, units: np.ndarray) -> Feed:
    """A feed of each item at each location."""
    file = bench.folder / name
    places = [f"LOC-{number:03d}" for number in range(1, bench.snapshot_locations + 1)]
    figures = iter(units.tolist())
    with file.open("w", encoding="ascii") as target:
        target.write("sku,location,on_hand\n")
        for item in range(1, bench.snapshot_items + 1):
            target.writelines(f"SKU-{item:06d},{place},{next(figures)}\n" for place in places)
    return Feed(file, len(units), int(units.sum()))
