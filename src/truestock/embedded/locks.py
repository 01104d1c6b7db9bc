"""File locks, which tell who lives without process ids: machines use those again.

A server inherits its lock and so holds it to its last process. Whoever gets the lock knows that
all are gone, PostgreSQL's backends and shared memory included.
"""

import fcntl
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from glob import iglob
from pathlib import Path

from truestock.embedded.children import OR_YOUR_OWN, EmbeddedError, until

# Seconds until the last process that was killed must be gone.
_KILLED = 5.0


@contextmanager
def lock_file(path: Path) -> Iterator[int]:
    """Open a lock file, not yet locked. Its lock ends with the last process that has it open."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise EmbeddedError(f"{error}. Choose a folder of your own, {OR_YOUR_OWN}") from error
    try:
        yield handle
    finally:
        os.close(handle)


def try_lock(handle: int) -> bool:
    """Take the lock if nobody has it."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def exclusive(path: Path, patience: float) -> Iterator[int]:
    """Hold a server's lock; kill what still has it after `patience` seconds (on Linux)."""
    with lock_file(path) as lock:
        ours = until(lambda: try_lock(lock), patience) or until(lambda: _seize(path, lock), _KILLED)
        if not ours:
            orphans = f"Processes of a server that was killed still hold {path}"
            raise EmbeddedError(f"{orphans}. Stop them and start again, {OR_YOUR_OWN}")
        yield lock


def _seize(path: Path, lock: int) -> bool:
    """Kill the processes that hold a lock; one that merely reads the file is not among them."""
    for handle in iglob("/proc/[0-9]*/fd/*"):
        with suppress(OSError):
            if os.readlink(handle) == str(path):
                process, _, number = handle.removeprefix("/proc/").split("/")
                if "FLOCK" in Path(f"/proc/{process}/fdinfo/{number}").read_text():
                    os.kill(int(process), signal.SIGKILL)
    return try_lock(lock)
