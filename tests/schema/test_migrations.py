"""Migrations go one way, once, whoever starts together."""

import asyncio
import shutil
import sys
from pathlib import Path

import pytest

from truestock import db
from truestock.db import MigrationError, migrate, migrations, sql_folder

PROCESS = """
import asyncio, sys
from truestock.db import migrate
print(len(asyncio.run(migrate(sys.argv[1]))))
"""


async def test_four_processes_migrate_at_once(empty_database_url: str) -> None:
    processes = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-c", PROCESS, empty_database_url, stdout=asyncio.subprocess.PIPE
        )
        for _ in range(4)
    ]
    said = [(await process.communicate())[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * 4
    # One did all the work, the others found it done.
    assert sorted(map(int, said)) == [0, 0, 0, len(migrations())]


async def test_what_is_applied_is_not_applied_again(database_url: str) -> None:
    assert await migrate(database_url) == []


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The migrations in a folder where tests may edit them."""
    shutil.copytree(str(sql_folder()), tmp_path / "sql")
    monkeypatch.setattr(db, "sql_folder", lambda: tmp_path / "sql")
    return tmp_path / "sql/migrations"


async def test_an_applied_file_that_was_edited_is_refused(folder: Path, database_url: str) -> None:
    first = migrations()[0]
    (folder / f"{first.number:04d}_{first.name}.sql").write_text(first.sql + "\n-- edited")
    with pytest.raises(MigrationError, match=r"0001_\w+ was edited after it was applied"):
        await migrate(database_url)


def test_numbers_have_no_gap(folder: Path) -> None:
    (folder / f"{len(migrations()) + 2:04d}_leap.sql").write_text("SELECT 1")
    with pytest.raises(MigrationError, match="without a gap"):
        migrations()


async def test_a_step_that_fails_leaves_nothing_behind(folder: Path, database_url: str) -> None:
    number = len(migrations()) + 1
    step = folder / f"{number:04d}_half.sql"
    step.write_text("CREATE TABLE half (); SELECT 1 / 0;")
    with pytest.raises(Exception, match="division by zero"):
        await migrate(database_url)
    step.write_text("CREATE TABLE half ();")
    assert [done.number for done in await migrate(database_url)] == [number]


async def test_waiting_for_another_migrator_is_bounded(
    database_url: str, connection: db.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(db, "MIGRATION_WAIT_SECONDS", 0.1)
    await connection.fetchval(db.SQL["try_lock"], db.MIGRATION_LOCK)
    with pytest.raises(MigrationError, match="Another process has been migrating"):
        await migrate(database_url)
