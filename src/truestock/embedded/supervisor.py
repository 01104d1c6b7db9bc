"""Keeps one server running: starts it, waits until it is ready, starts it again when it dies.

Linux takes the end of the thread that started a child for the end of its owner. So each server
has a thread of its own that does all of this, and lives until the server is to stop.
"""

import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager

import msgspec
import structlog

from truestock.embedded.children import START, House, failure, stop, until
from truestock.embedded.locks import exclusive

log = structlog.get_logger()

# In seconds. What a dead server leaves behind ends by itself in milliseconds, or is killed.
_WATCH, _LEFTOVERS = 0.1, 0.5
# The pause before a restart doubles while the server lives less than `_LIVED`, so that one that
# cannot start is tried 12 times a minute: it comes back when its cause (a full disk) is mended.
_SHORTEST, _LONGEST, _LIVED = 0.02, 5.0, 1.0


class Server(msgspec.Struct, frozen=True):
    """How to start a server with its lock, see that it is ready, and stop it."""

    name: str
    start: Callable[[int], subprocess.Popen[bytes]]
    ready: Callable[[], bool]
    stops: tuple[tuple[signal.Signals, float], ...]


@contextmanager
def supervised(house: House, server: Server) -> Iterator[None]:
    """Keep a server running for the block; raises EmbeddedError if its first start fails."""
    started: Future[None] = Future()
    stopping = threading.Event()
    # A daemon, so that a process that leaves its block open can end, and the server with it.
    thread = threading.Thread(
        target=_keep, args=(house, server, started, stopping), name=server.name, daemon=True
    )
    thread.start()
    try:
        started.result()
        yield
    finally:
        stopping.set()
        thread.join()


def _keep(house: House, server: Server, started: Future[None], stopping: threading.Event) -> None:
    pause = _SHORTEST
    while not stopping.is_set():
        begun = time.monotonic()
        try:
            _live(house, server, started, stopping)
        # Whatever it was, the next start may do better; and nobody else would tell of it.
        except Exception as error:
            if not started.done():
                started.set_exception(error)
                return
            log.error("embedded_server_failed", server=server.name, error=str(error))
        lived = time.monotonic() - begun
        pause = _SHORTEST if lived > _LIVED else min(2 * pause, _LONGEST)
        stopping.wait(pause)


def _live(house: House, server: Server, started: Future[None], stopping: threading.Event) -> None:
    """Run a server until it dies or is to stop, and see its last process off."""
    with exclusive(house.lock_of(server.name), _LEFTOVERS) as lock:
        process = server.start(lock)
    try:
        until(lambda: _over(process, stopping) or server.ready(), START)
        if stopping.is_set():
            return
        if process.poll() is not None or not server.ready():
            logs = (f"{server.name}.log", f"{server.name}/log/*")
            raise failure(f"{server.name} did not start", house.data_dir, *logs)
        if started.done():
            log.info("embedded_server_restarted", server=server.name)
        else:
            started.set_result(None)
        while not _over(process, stopping):
            stopping.wait(_WATCH)
        if not stopping.is_set():
            log.warning("embedded_server_died", server=server.name, status=process.returncode)
    finally:
        stop(process, *server.stops)
        with exclusive(house.lock_of(server.name), _LEFTOVERS):
            pass


def _over(process: subprocess.Popen[bytes], stopping: threading.Event) -> bool:
    return process.poll() is not None or stopping.is_set()
