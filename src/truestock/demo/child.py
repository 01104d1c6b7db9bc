"""The real service as a child process: started, watched, and stopped before its servers are."""

import os
import secrets
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import msgspec

from truestock.embedded.children import House, spawn, stop, until

DEFAULT_PORT = 8000
START_SECONDS = 60.0
# A graceful stop answers what is under way first; then it is killed.
STOPS = ((signal.SIGTERM, 15.0),)
LOG = "service.log"
LOG_TAIL = 20


class DemoError(Exception):
    """The demo cannot go on; the message says why."""


class Service(msgspec.Struct, frozen=True):
    """The running service: where it answers, and its process."""

    url: str
    process: subprocess.Popen[bytes]
    log: Path

    def wait(self) -> None:
        """Wait until it ends, which nobody told it to. Raises DemoError."""
        self.process.wait()
        raise DemoError(ended(self.log))


@contextmanager
def running_service(folder: Path, port: int | None) -> Iterator[Service]:
    """Run `truestock serve` for the block; it takes its servers and its key from the environment.

    It logs into `folder`. Without a port it takes DEFAULT_PORT, or any free one if that is taken.
    Raises DemoError, with its last log lines, if it does not start.
    """
    chosen = port or free_port()
    (folder / LOG).unlink(missing_ok=True)
    command = [sys.executable, "-m", "truestock", "serve", "--port", str(chosen)]
    house = House(folder, os.geteuid(), os.getegid())
    process = spawn(house, command, LOG, folder)
    service = Service(f"http://127.0.0.1:{chosen}", process, folder / LOG)
    try:
        until(lambda: process.poll() is not None or ready(service.url), START_SECONDS)
        if process.poll() is not None or not ready(service.url):
            raise DemoError(ended(service.log))
        yield service
    finally:
        stop(process, *STOPS)


def ready(url: str) -> bool:
    """Whether the service answers and has all that it needs."""
    with suppress(httpx.TransportError):
        return httpx.get(f"{url}/health/ready", timeout=1.0, trust_env=False).is_success
    return False


def ended(log: Path) -> str:
    """That the service ended, with the last it said."""
    lines = log.read_text(errors="replace").splitlines()[-LOG_TAIL:]
    return "\n".join([f"The service ended. The last lines of {log}:", *lines])


def free_port() -> int:
    """DEFAULT_PORT if nobody listens there, else one that the system chooses."""
    for port in (DEFAULT_PORT, 0):
        with suppress(OSError), socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return int(probe.getsockname()[1])
    raise DemoError("No port is free at 127.0.0.1.")


def kept_key(path: Path) -> str:
    """The demo's key: made once, and readable by its owner alone."""
    with suppress(FileExistsError):
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w") as file:
            file.write(f"ts_{secrets.token_urlsafe(30)}")
    return path.read_text()
