"""PostgreSQL: named queries, connections and migrations."""

import asyncio
import hashlib
import re
from collections.abc import Sequence
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import TypeAlias, TypeVar

import aiosql
import asyncpg
import msgspec

T = TypeVar("T")

MIGRATION_LOCK = 7_203_114
MIGRATION_WAIT_SECONDS = 60.0
CONNECT_TIMEOUT = 10.0
STATEMENT_TIMEOUT_MS = 30_000
# A little longer than the server's own, so that only a server that is gone runs into it.
COMMAND_TIMEOUT = STATEMENT_TIMEOUT_MS / 1000 + 5

# One of its own, or one that a pool has lent.
Connection: TypeAlias = asyncpg.Connection | asyncpg.pool.PoolConnectionProxy
Pool: TypeAlias = asyncpg.Pool


# The database cannot be reached, or was left in the middle of something.
LOST_CONNECTION = (
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    # What asyncpg says when it lost its connection halfway through a statement.
    asyncpg.InternalClientError,
    asyncpg.OperatorInterventionError,
    asyncpg.CannotConnectNowError,
    asyncpg.TooManyConnectionsError,
    OSError,
    TimeoutError,
)


class MigrationError(RuntimeError):
    """The database cannot be brought to this version's schema; the message says why."""


def sql_folder() -> Traversable:
    """The folder of migrations and queries: inside a wheel, else at the repository's top."""
    packaged = resources.files("truestock") / "sql"
    return packaged if packaged.is_dir() else Path(__file__).parents[2] / "sql"


def _load_queries() -> dict[str, str]:
    """Every named query's text with $n arguments, by name (argument order: first appearance)."""
    texts: dict[str, str] = {}
    for file in sorted((sql_folder() / "queries").iterdir(), key=lambda entry: entry.name):
        loaded = aiosql.from_str(
            file.read_text(encoding="utf-8"), "asyncpg", mandatory_parameters=False
        )
        for name in loaded.available_queries:
            if not name.endswith("_cursor"):
                if name in texts:
                    raise RuntimeError(f"query {name} is defined twice")
                texts[name] = getattr(loaded, name).sql
    return texts


# One name a query over all files, so that a query can be found by its name alone.
SQL = _load_queries()


async def open_pool(database_url: str, size: int, idle: int = 1) -> Pool:
    """Open a pool of `size` connections at most (`idle` at least), set up for our queries."""
    return await asyncpg.create_pool(
        database_url,
        min_size=idle,
        max_size=size,
        timeout=CONNECT_TIMEOUT,
        command_timeout=COMMAND_TIMEOUT,
        server_settings=SERVER_SETTINGS,
        init=set_codecs,
        reset=leave_as_it_is,
    )


async def leave_as_it_is(_: Connection) -> None:
    """Queries here leave no session state behind, so a release costs no round trip."""


async def connect(database_url: str, **settings: str) -> Connection:
    """One connection outside any pool: the writer's, a listener's or a lock's."""
    connection = await asyncpg.connect(
        database_url,
        timeout=CONNECT_TIMEOUT,
        command_timeout=None if settings.get("statement_timeout") == "0" else COMMAND_TIMEOUT,
        server_settings=SERVER_SETTINGS | settings,
    )
    await set_codecs(connection)
    return connection


SERVER_SETTINGS = {
    "application_name": "truestock",
    "timezone": "UTC",
    "jit": "off",
    "statement_timeout": str(STATEMENT_TIMEOUT_MS),
}


async def set_codecs(connection: Connection) -> None:
    """Take jsonb as bytes that msgspec wrote, without a detour over Python's json."""
    # The binary form of jsonb is a version byte before the text.
    await connection.set_type_codec(
        "jsonb",
        encoder=lambda raw: b"\x01" + raw,
        decoder=lambda raw: raw[1:],
        schema="pg_catalog",
        format="binary",
    )


def rows_as(struct: type[T], records: Sequence[asyncpg.Record]) -> list[T]:
    """Records as Structs, by position: a test holds each query's columns against its Struct."""
    return [struct(*record) for record in records]


# Migrations ----------------------------------------------------------------


class Migration(msgspec.Struct, frozen=True):
    """One forward step of the schema: its number, its name and its SQL."""

    number: int
    name: str
    sql: str

    @property
    def digest(self) -> str:
        """A fingerprint that shows when an applied file was edited afterwards."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


def migrations() -> list[Migration]:
    """All steps in their order; raises MigrationError when the numbers have a gap."""
    files = sorted((sql_folder() / "migrations").iterdir(), key=lambda entry: entry.name)
    found = [
        Migration(int(match[1]), match[2], file.read_text(encoding="utf-8"))
        for file in files
        if (match := re.fullmatch(r"(\d{4})_(\w+)\.sql", file.name))
    ]
    if [step.number for step in found] != list(range(1, len(found) + 1)):
        raise MigrationError("sql/migrations must be numbered 0001, 0002, … without a gap.")
    return found


async def migrate(database_url: str) -> list[Migration]:
    """Bring the schema up to date; returns the steps that were applied.

    Several processes may call it at once: one works while the others wait.
    Raises MigrationError when an applied file was edited or the lock is not to be had.
    """
    connection = await connect(database_url, statement_timeout="0")
    try:
        await _take_migration_lock(connection)
        return await _apply_missing(connection)
    finally:
        await connection.close()


async def _take_migration_lock(connection: Connection) -> None:
    # Polled: processes that block in pg_advisory_lock hold snapshots and can deadlock.
    deadline = asyncio.get_running_loop().time() + MIGRATION_WAIT_SECONDS
    while not await connection.fetchval(SQL["try_lock"], MIGRATION_LOCK):
        if asyncio.get_running_loop().time() > deadline:
            raise MigrationError(
                f"Another process has been migrating for {MIGRATION_WAIT_SECONDS:.0f} s; "
                "see pg_stat_activity for what it waits for."
            )
        await asyncio.sleep(0.05)


async def _apply_missing(connection: Connection) -> list[Migration]:
    await connection.execute(SQL["create_migrations_table"])
    rows = await connection.fetch(SQL["list_migrations"])
    applied: dict[int, str] = {row["number"]: row["digest"] for row in rows}
    missing = []
    for step in migrations():
        if step.number not in applied:
            async with connection.transaction():
                await connection.execute(step.sql)
                await connection.execute(
                    SQL["record_migration"], step.number, step.name, step.digest
                )
            missing.append(step)
        elif applied[step.number] != step.digest:
            raise MigrationError(
                f"Migration {step.number:04d}_{step.name} was edited after it was applied here. "
                "Restore the file and add a new migration instead."
            )
    return missing
