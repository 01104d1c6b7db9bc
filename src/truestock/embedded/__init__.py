"""PostgreSQL and Redis for a fresh machine: run from wheels, durable, in one data folder.

1. The first process on a data folder takes `owner.lock`; later ones wait until it wrote
   `servers.json`, see that both servers answer, and join.
2. An owner waits until no server of a killed owner is left (`locks`).
3. It starts both servers, writes `servers.json`, and starts again what dies (`supervisor`).
4. It stops them when it leaves. If it is killed, Linux stops them (`children`).
"""

import os
import pwd
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from hashlib import sha256
from pathlib import Path

import msgspec

from truestock.embedded.children import OR_YOUR_OWN, START, EmbeddedError, House, until
from truestock.embedded.locks import exclusive, lock_file, try_lock
from truestock.embedded.postgresql import postgres_answers, run_postgres
from truestock.embedded.redis import redis_answers, run_redis

__all__ = ["EmbeddedError", "Servers", "embedded_servers"]

# Seconds for the servers of a killed owner, which Linux has told to stop, before we kill them.
_ORPHANS = 30.0
# Not TMPDIR: that may be long, or private to root, and sockets need neither.
_TEMP = Path("/tmp")  # noqa: S108
# A socket's path has at most 103 bytes (macOS; Linux 107), and PostgreSQL needs 14 for its name.
# A comma or a space would split PostgreSQL's list of folders or a client's list of hosts.
_SOCKET_FOLDER = re.compile(r"[\w./-]{1,89}", re.ASCII)


class Servers(msgspec.Struct, frozen=True):
    """Where the servers answer; `redis_durable` is False for fakeredis, a stand-in."""

    database_url: str
    redis_url: str
    redis_durable: bool


@contextmanager
def embedded_servers(
    data_dir: Path, *, postgres_settings: Mapping[str, str] = {}
) -> Iterator[Servers]:
    """Run PostgreSQL and Redis in the data folder, or join the process that does.

    The servers live as long as the block of the process that came first; one that dies meanwhile
    is back within a second or so at the same address, with all that was committed. Settings of a
    process that joins change nothing. Raises EmbeddedError, at the latest after 60 s a step.
    """
    data_dir = data_dir.resolve()
    with ExitStack() as stack:
        owner = stack.enter_context(lock_file(data_dir / "owner.lock"))
        found = until(lambda: try_lock(owner) or _running(data_dir), START)
        if found is None:
            held = f"Another process holds {data_dir}, but its servers do not answer."
            raise EmbeddedError(f"{held} Stop it and start again, {OR_YOUR_OWN}")
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
        answer = postgres_answers(data_dir, sockets) and redis_answers(servers.redis_url)
        # A new owner drops a killed owner's record first, and those servers may answer once more.
        return servers if answer and record.read_bytes() == written else None
    return None


@contextmanager
def _own(data_dir: Path, settings: Mapping[str, str]) -> Iterator[Servers]:
    record = data_dir / "servers.json"
    record.unlink(missing_ok=True)
    house = House(data_dir, *_account(data_dir / "postgres"))
    for server in ("postgres", "redis"):
        with exclusive(house.lock_of(server), _ORPHANS):
            pass
    with (
        _run_folder(house) as run,
        run_redis(house, run) as (redis_url, real),
        run_postgres(house, run, settings),
    ):
        servers = Servers(f"postgresql://truestock@/truestock?host={run}", redis_url, real)
        fresh = record.with_suffix(".new")
        fresh.write_bytes(msgspec.json.encode(servers))
        fresh.rename(record)
        try:
            yield servers
        finally:
            record.unlink(missing_ok=True)


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
    raise EmbeddedError(f"{refusal}. Add one, start as another user, {OR_YOUR_OWN}")


@contextmanager
def _run_folder(house: House) -> Iterator[Path]:
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
