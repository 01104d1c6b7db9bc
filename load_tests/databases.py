"""Databases for the rounds: migrated, filled set by set, copied, and audited after each round."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit, urlunsplit

import aiosql

from load_tests.bench import LOCATIONS_EACH, RECEIPTS_EACH, UNITS_EACH, Bench, Shape
from load_tests.result import Faults
from truestock import db
from truestock.db import Connection
from truestock.ledger.check import check

T = TypeVar("T")
SQL_FOLDER = Path(__file__).parent / "sql"
numbers = itertools.count(1)


def queries(file: str) -> dict[str, str]:
    """The named queries of a file, by name."""
    loaded = aiosql.from_path(SQL_FOLDER / file, "asyncpg", mandatory_parameters=False)
    names = [name for name in loaded.available_queries if not name.endswith("_cursor")]
    return {name: getattr(loaded, name).sql for name in names}


AUDIT = queries("audit.sql")


def use(database_url: str, work: Callable[[Connection], Awaitable[T]]) -> T:
    """Do some work on a connection of its own, however long it takes."""

    async def connected() -> T:
        connection = await db.connect(database_url, statement_timeout="0")
        try:
            return await work(connection)
        finally:
            await connection.close()

    return asyncio.run(connected())


def run_sql(database_url: str, *statements: str) -> None:
    """Run statements, each in a transaction of its own."""

    async def work(connection: Connection) -> None:
        for statement in statements:
            await connection.execute(statement)

    use(database_url, work)


def new_database(bench: Bench, template: str | None = None) -> str:
    """Make a database, empty or a copy of another; answers its URL."""
    name = f"bench_{next(numbers)}"
    how = f" TEMPLATE {urlsplit(template).path[1:]} STRATEGY file_copy" if template else ""
    run_sql(bench.database_url, f"CREATE DATABASE {name}{how}")
    return urlunsplit(urlsplit(bench.database_url)._replace(path=f"/{name}"))


def drop_database(bench: Bench, database_url: str) -> None:
    """Drop a database, with whoever still uses it."""
    name = urlsplit(database_url).path[1:]
    run_sql(bench.database_url, f"DROP DATABASE {name} WITH (FORCE)")


def seeded_database(bench: Bench, shape: Shape) -> str:
    """A database with a shape's items, locations, levels and movements."""
    stock = f"{LOCATIONS_EACH}, {RECEIPTS_EACH}, {UNITS_EACH}"
    return filled_database(
        bench,
        "items, locations, levels, movements",
        f"SELECT pg_temp.seed_reference({shape.items}, {shape.locations})",
        f"SELECT pg_temp.seed_stock({shape.items}, {shape.locations}, {stock})",
    )


def filled_database(bench: Bench, tables: str, *seeds: str) -> str:
    """A migrated database after some calls of the functions in seed.sql, which fill the tables."""
    url = new_database(bench)
    asyncio.run(db.migrate(url))
    functions = (SQL_FOLDER / "seed.sql").read_text(encoding="utf-8")
    # Only what was filled: what a service has not written to yet has never been analyzed either.
    run_sql(url, functions, *seeds, f"VACUUM (ANALYZE) {tables}", "CHECKPOINT")
    return url


def audit(database_url: str, told: list[str]) -> Faults:
    """Hold the database against what callers were told (the ids in their 201s)."""

    async def work(connection: Connection) -> Faults:
        unanswered = await connection.fetchval(AUDIT["unanswered"])
        return Faults(
            oversold=await connection.fetchval(AUDIT["oversold"]),
            lost=await connection.fetchval(AUDIT["lost"], told),
            twice=len(told) - len(set(told)) + unanswered,
            drifts=len((await check(connection)).drifts),
        )

    return use(database_url, work)
