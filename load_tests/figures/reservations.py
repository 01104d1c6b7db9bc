"""Durable reservations over HTTP, 64 buyers at once, two lines each."""

import random
from datetime import UTC, datetime
from functools import partial
from typing import Any

import httpx
import msgspec

from load_tests import bare, straightforward, wrk
from load_tests.bench import Bench, Shape, alternate
from load_tests.databases import (
    AUDIT,
    audit,
    drop_database,
    new_database,
    seeded_database,
    use,
)
from load_tests.processes import Server, handlers, service
from load_tests.result import Faults, Figure, Sample
from truestock.db import Connection

PATH = "/v1/reservations"
POOL_SIZES = (8, 16, 32)
# What one calibration round measures; the best size then runs all rounds.
CALIBRATION_SECONDS = 3.0
# Units at each location that all buyers want at last, and how long they try.
LAST_UNITS = 50
LAST_SECONDS = 2.0


def reservations(bench: Bench) -> list[Figure]:
    """Spread over all items: against a bare handler, and against one transaction a request."""
    database_url = seeded_database(bench, bench.shape)
    theirs = new_database(bench, database_url)
    size = best_pool_size(bench, theirs)
    answers = bench.folder / "no-answers"
    answers.write_bytes(msgspec.msgpack.encode([b"{}", b"{}"]))
    with (
        service(bench, database_url) as ours,
        handlers(bench, "bare", {bare.ANSWERS: str(answers)}) as base,
        handlers(bench, "straightforward", naive_settings(theirs, size), theirs) as naive,
    ):
        sides = {
            "ours": partial(reserve, bench, ours, bench.shape),
            "bare": partial(reserve, bench, base, bench.shape),
            "straightforward": partial(reserve, bench, naive, bench.shape),
        }
        samples = alternate(bench, sides)
    for url in (database_url, theirs):
        drop_database(bench, url)
    title = "Durable reservations of two lines"
    names = ("bare POST handler, same Structs", f"a transaction a request (pool of {size})")
    return [
        Figure("reservations", title, "201s/s", names[0], 0.45, samples[0], samples[1]),
        Figure("reservations-naive", title, "201s/s", names[1], 2.0, samples[0], samples[2]),
    ]


def hot_item(bench: Bench) -> list[Figure]:
    """All buyers on one item, against the same buyers spread over all items."""
    database_url = seeded_database(bench, bench.shape)
    with service(bench, database_url) as ours:
        sides = {
            "one item": partial(reserve, bench, ours, one_item(bench.shape)),
            "spread": partial(reserve, bench, ours, bench.shape),
        }
        samples = alternate(bench, sides)
        faults, note = sell_out(bench, ours)
    drop_database(bench, database_url)
    samples[0][-1].faults += faults
    title = "All buyers on one item"
    base = "ours, spread over all items"
    return [Figure("hot-item", title, "201s/s", base, 1.0, *samples, note=note)]


def reserve(bench: Bench, server: Server, shape: Shape) -> Sample:
    """One round of buyers; what they were told is held against the database."""
    arguments = (shape.spread, shape.stride, shape.blocks)
    warm_file, file = bench.folder / "warm-ids", bench.folder / "ids"
    run = random.randrange(1, 2**31)
    wrk.load(server, PATH, "reserve.lua", bench.warm_seconds, *arguments, run, warm_file)
    report = wrk.load(server, PATH, "reserve.lua", bench.seconds, *arguments, run + 1, file)
    if not server.database_url:
        return report.sample()
    told = [*warm_file.read_text().split(), *file.read_text().split()]
    return report.sample(audit(server.database_url, told))


def one_item(shape: Shape) -> Shape:
    """Only the first item is named."""
    return Shape(shape.items, shape.locations, 1)


def best_pool_size(bench: Bench, database_url: str) -> int:
    """With how many connections the straightforward handler does the most."""
    tried = {}
    quick = msgspec.structs.replace(
        bench, warm_seconds=1.0, seconds=min(bench.seconds, CALIBRATION_SECONDS)
    )
    for size in POOL_SIZES:
        settings = naive_settings(database_url, size)
        with handlers(bench, "straightforward", settings, database_url) as naive:
            tried[size] = reserve(quick, naive, bench.shape).rate
    print("    straightforward by pool size:", {s: round(r) for s, r in tried.items()}, flush=True)
    return max(tried, key=lambda size: tried[size])


def naive_settings(database_url: str, size: int) -> dict[str, str]:
    """The environment of the straightforward handler."""
    return {
        straightforward.DATABASE: database_url,
        straightforward.POOL_SIZE: str(size),
    }


def sell_out(bench: Bench, server: Server) -> tuple[Faults, str]:
    """Leave the item so little that it sells out under the same load; what went wrong, and how
    it went in words."""
    before = use(server.database_url, read_item)
    now = datetime.now(UTC).isoformat()
    counts = [
        {
            "event_id": f"sell-out-{row['location']}",
            "type": "count",
            "sku": row["sku"],
            "location": row["location"],
            "quantity": row["held"] + LAST_UNITS,
            "occurred_at": now,
        }
        for row in before
    ]
    body = {"source": "bench", "events": counts}
    url = f"{server.url}/v1/stock/events"
    httpx.post(url, headers=server.headers, json=body).raise_for_status()
    file = bench.folder / "last-ids"
    shape, run = one_item(bench.shape), random.randrange(1, 2**31)
    arguments = (shape.spread, shape.stride, shape.blocks, run, file)
    wrk.load(server, PATH, "reserve.lua", LAST_SECONDS, *arguments)
    told = file.read_text().split()
    after = use(server.database_url, read_item)
    sold = sum(row["held"] for row in after) - sum(row["held"] for row in before)
    lines = 2 * len(told)
    faults = audit(server.database_url, told) + Faults(
        lost=max(lines - sold, 0), twice=max(sold - lines, 0)
    )
    left = LAST_UNITS * len(before)
    return faults, f"then its last {left} units under the same load: {sold} sold"


async def read_item(connection: Connection) -> list[Any]:
    """The levels of the item that all buyers want."""
    rows: list[Any] = await connection.fetch(AUDIT["first_item"])
    return rows
