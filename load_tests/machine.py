"""On what a run was measured: the facts that its figures mean little without."""

import os
import platform
import re
import subprocess
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

from load_tests.bench import Bench
from load_tests.databases import use
from load_tests.wrk import need_wrk
from truestock.db import Connection

PACKAGES = ("litestar", "uvicorn", "uvloop", "httptools", "msgspec", "asyncpg", "redis")
SETTINGS = ("server_version", "shared_buffers", "fsync", "synchronous_commit", "full_page_writes")
FLUSHES = 50
PAGE = b"\0" * 8192


def facts(bench: Bench) -> dict[str, Any]:
    """The machine and the versions of all that takes part."""
    wrk = subprocess.run([need_wrk(), "-v"], capture_output=True, text=True)
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "processor": processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
        "wrk": wrk.stdout.split("[")[0].removeprefix("wrk").strip(),
        "flush_ms": round(flush_ms(bench.folder), 3),
        "postgresql": use(bench.database_url, read_settings),
        "packages": {name: version(name) for name in ("truestock", *PACKAGES)},
        "rounds": bench.rounds,
        "seconds": bench.seconds,
        "warm_seconds": bench.warm_seconds,
    }


def processor() -> str:
    """The processor's name, as well as the system tells."""
    told = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*: (.+)", told.read_text()) if told.exists() else None
    return found[1].strip() if found else platform.machine()


def flush_ms(folder: Path) -> float:
    """How long the disk takes to have a page for good: what each commit waits for."""
    taken = []
    handle = os.open(folder / "flush", os.O_WRONLY | os.O_CREAT)
    try:
        for _ in range(FLUSHES):
            began = time.perf_counter()
            os.pwrite(handle, PAGE, 0)
            os.fdatasync(handle)
            taken.append(time.perf_counter() - began)
    finally:
        os.close(handle)
    return median(taken) * 1000


async def read_settings(connection: Connection) -> dict[str, str]:
    """The settings that decide what durable means here."""
    return {name: await connection.fetchval(f"SHOW {name}") for name in SETTINGS}
