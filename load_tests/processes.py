"""The servers under load, each a process of its own, as a user would run it."""

import contextlib
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import httpx
import msgspec

from load_tests.bench import Bench
from load_tests.result import BenchError

REPOSITORY = Path(__file__).parents[1]
START_SECONDS = 60.0
STOP_SECONDS = 20.0
# What `truestock serve` gives uvicorn, for the handlers that it is compared with.
SAME_FLAGS = [
    "--factory",
    "--loop=uvloop",
    "--http=httptools",
    "--no-access-log",
    "--log-level=warning",
    "--no-server-header",
    "--no-proxy-headers",
]


class Server(msgspec.Struct, frozen=True):
    """A running server; its database, if it has one."""

    url: str
    key: str
    pid: int
    database_url: str = ""

    @property
    def headers(self) -> dict[str, str]:
        """What each request carries."""
        return {"Authorization": f"Bearer {self.key}"}


@contextlib.contextmanager
def service(bench: Bench, database_url: str, redis_url: str | None = None) -> Iterator[Server]:
    """`truestock serve` on a database; no other service may use the same Redis meanwhile."""
    key = secrets.token_urlsafe(24)
    environment = {
        "TRUESTOCK_DATABASE_URL": database_url,
        "TRUESTOCK_REDIS_URL": redis_url or bench.redis_url,
        "TRUESTOCK_BOOTSTRAP_KEY": key,
    }
    empty_redis(redis_url or bench.redis_url)
    port = free_port()
    program = str(Path(sys.executable).parent / "truestock")
    command = [program, "serve", "--port", str(port)]
    with running(bench, "service", command, port, environment) as process:
        yield Server(f"http://127.0.0.1:{port}", key, process.pid, database_url)


@contextlib.contextmanager
def handlers(
    bench: Bench, module: str, environment: Mapping[str, str], database_url: str = ""
) -> Iterator[Server]:
    """A module's `create_app` in the same kind of process as the service."""
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", f"load_tests.{module}:create_app"]
    command += [*SAME_FLAGS, "--port", str(port)]
    with running(bench, module, command, port, environment) as process:
        key = secrets.token_urlsafe(24)
        yield Server(f"http://127.0.0.1:{port}", key, process.pid, database_url)


@contextlib.contextmanager
def running(
    bench: Bench, name: str, command: list[str], port: int, environment: Mapping[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server for the block; raises BenchError with its log if it does not get ready."""
    log = bench.folder / f"{name}-{port}.log"
    with (
        log.open("wb") as output,
        subprocess.Popen(
            command,
            cwd=REPOSITORY,
            env=os.environ | environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        ) as process,
    ):
        try:
            wait_until_ready(process, f"http://127.0.0.1:{port}/health/ready", log)
            yield process
        finally:
            stop(process)


def wait_until_ready(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    """Wait for a 200 from the server's own word on it."""
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(url).status_code == 200:
                return
        time.sleep(0.05)
    said = log.read_text(errors="replace")[-2_000:]
    raise BenchError(f"{process.args} did not get ready. It said:\n{said}")


def stop(process: subprocess.Popen[bytes]) -> None:
    """Ask it to end, and see to it that it does."""
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def empty_redis(url: str) -> None:
    """Forget what an earlier service kept of another database."""
    from redis import Redis

    with Redis.from_url(url) as redis:
        redis.flushall()


# What a process takes -----------------------------------------------------


def cpu_seconds(pid: int) -> float:
    """Processor time that a process has had so far, in the program and in the system."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_mb(pid: int, name: str = "VmRSS") -> float:
    """A process's resident memory now, or at its highest (VmHWM), in MB (10⁶ bytes)."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise BenchError(f"/proc/{pid}/status does not tell {name}: this figure needs Linux.")


def forget_peak(pid: int) -> None:
    """Let VmHWM start again from what is resident now."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")
