"""The writer without HTTP: group commit against one transaction each."""

import subprocess
import sys
from functools import partial

from load_tests import pgbench
from load_tests.bench import Bench, Shape, alternate
from load_tests.databases import (
    SQL_FOLDER,
    audit,
    drop_database,
    new_database,
    run_sql,
    seeded_database,
)
from load_tests.processes import REPOSITORY
from load_tests.result import BenchError, Figure, Sample

GRACE_SECONDS = 60


def writer(bench: Bench) -> list[Figure]:
    """Two-line reservations: the Ledger in one process, against pgbench at its best."""
    database_url = seeded_database(bench, bench.shape)
    theirs = new_database(bench, database_url)
    run_sql(theirs, (SQL_FOLDER / "pgbench_function.sql").read_text(encoding="utf-8"))
    calibration = min(bench.seconds, pgbench.CALIBRATION_SECONDS)
    clients = pgbench.best_clients(theirs, bench.shape, calibration)
    sides = {
        "writer": partial(measure, bench, database_url, bench.shape),
        "pgbench": partial(pgbench.measure, bench, theirs, bench.shape, clients),
    }
    samples = alternate(bench, sides)
    for url in (database_url, theirs):
        drop_database(bench, url)
    base = f"pgbench, a prepared transaction each ({clients} clients)"
    title = "The writer without HTTP, two lines"
    return [Figure("writer", title, "reservations/s", base, 2.0, *samples)]


def measure(bench: Bench, database_url: str, shape: Shape) -> Sample:
    """One round of the writer in a process of its own."""
    file = bench.folder / "writer-ids"
    figures = (shape.spread, shape.stride, shape.blocks, bench.warm_seconds, bench.seconds)
    command = [sys.executable, "-m", "load_tests.writer", database_url]
    command += [*map(str, figures), str(file)]
    finished = subprocess.run(
        command,
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=bench.warm_seconds + bench.seconds + GRACE_SECONDS,
    )
    if finished.returncode != 0:
        raise BenchError(f"The writer failed:\n{finished.stderr[-2_000:]}")
    return Sample(float(finished.stdout), audit(database_url, file.read_text().split()))
