"""The load generator: wrk with a Lua script each, one thread, CONNECTIONS connections."""

import itertools
import shutil
import subprocess
from pathlib import Path

import msgspec

from load_tests.bench import CONNECTIONS, Bench
from load_tests.processes import Server, cpu_seconds
from load_tests.result import BenchError, Faults, Sample

SCRIPTS = Path(__file__).parent / "wrk"
TIMEOUT = "20s"
# Beyond the load's own time: it drains its connections and writes its report.
GRACE_SECONDS = 30
runs = itertools.count(1)


class Report(msgspec.Struct):
    """What a script's `done` printed. refused: answers of 400 and above.

    cpu_us: of the server's process, for each request.
    """

    requests: int
    microseconds: int
    refused: int
    broken: int
    timeouts: int
    p50_us: int
    p99_us: int
    statuses: dict[str, int]
    cpu_us: float = 0.0

    def sample(self, found: Faults | None = None) -> Sample:
        """Good answers a second; all others are failures, beside what the audit found."""
        good = self.requests - self.refused
        failed = Faults(failed=self.refused + self.broken + self.timeouts)
        return Sample(
            good / (self.microseconds / 1e6),
            failed + found if found else failed,
            self.p50_us / 1000,
            self.p99_us / 1000,
            self.cpu_us,
        )


def need_wrk() -> str:
    """Where wrk is; raises BenchError where it is missing."""
    if found := shutil.which("wrk"):
        return found
    raise BenchError(
        "The load generator wrk is missing. Install it with `apt-get install wrk` (Debian, Ubuntu)"
        " or `brew install wrk` (macOS)."
    )


def load(server: Server, path: str, script: str, seconds: float, *arguments: object) -> Report:
    """Run a script against a server's path."""
    command = [need_wrk(), "-t1", f"-c{CONNECTIONS}", f"-d{max(round(seconds), 1)}s"]
    command += ["--timeout", TIMEOUT, "-s", script]
    for name, value in server.headers.items():
        command += ["-H", f"{name}: {value}"]
    command += [f"{server.url}{path}", "--", *map(str, arguments)]
    before = cpu_seconds(server.pid)
    finished = subprocess.run(
        command, cwd=SCRIPTS, capture_output=True, text=True, timeout=seconds + GRACE_SECONDS
    )
    for line in finished.stdout.splitlines():
        if line.startswith("RESULT "):
            report = msgspec.json.decode(line[7:], type=Report)
            report.cpu_us = (cpu_seconds(server.pid) - before) * 1e6 / max(report.requests, 1)
            if report.refused:
                print(f"    refused: {report.statuses or report.refused}", flush=True)
            return report
    raise BenchError(f"wrk gave no report:\n{finished.stdout}{finished.stderr}")


def warmed(bench: Bench, server: Server, path: str, script: str, *arguments: object) -> Report:
    """The same load twice: first to warm up, then to be counted."""
    load(server, path, script, bench.warm_seconds, *arguments)
    return load(server, path, script, bench.seconds, *arguments)
