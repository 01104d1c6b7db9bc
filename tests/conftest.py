"""What tests stand on: real servers, a fresh migrated database each, and the proof at the end.

The servers are the embedded ones, or those that TRUESTOCK_TEST_DATABASE_URL and
TRUESTOCK_TEST_REDIS_URL name. Their role must be allowed to make databases, and the Redis
database is emptied.
"""

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from itertools import count
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pytest
from hypothesis import HealthCheck, settings
from redis.asyncio import Redis
from tests.seeding import Shop, assert_no_drift, seed_shop

from truestock import db
from truestock.db import Connection, Pool
from truestock.embedded import Servers, embedded_servers
from truestock.ledger.writer import Ledger

# `--hypothesis-profile=soak` for a long run.
settings.register_profile(
    "suite",
    max_examples=80,
    stateful_step_count=50,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
settings.register_profile("soak", settings.get_profile("suite"), max_examples=5_000)
settings.load_profile("suite")

OpenLedger = Callable[..., Awaitable[Ledger]]

TEMPLATE = f"truestock_test_{os.getpid()}"
numbers = count(1)


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    """PostgreSQL and Redis for the whole run."""
    database_url = os.environ.get("TRUESTOCK_TEST_DATABASE_URL")
    redis_url = os.environ.get("TRUESTOCK_TEST_REDIS_URL")
    if database_url and redis_url:
        yield Servers(database_url, redis_url, redis_durable=True)
        return
    # Not in pytest's own folder, which other runs beside this one tidy up.
    with (
        tempfile.TemporaryDirectory(prefix="truestock-test-", ignore_cleanup_errors=True) as folder,
        embedded_servers(Path(folder) / "data") as servers,
    ):
        yield servers


@pytest.fixture(scope="session")
def template(servers: Servers) -> Iterator[str]:
    """The name of a migrated database that each test's own is a copy of."""
    with new_database(servers.database_url, TEMPLATE) as url:
        asyncio.run(db.migrate(url))
        yield TEMPLATE


@pytest.fixture(scope="session")
def make_database(servers: Servers, template: str) -> Callable[[], AbstractContextManager[str]]:
    """A fresh migrated database as a context manager, for what outlives or repeats in a test."""
    # Copying files beats writing pages to the log: a migrated database is small but many.
    how = f"TEMPLATE {template} STRATEGY file_copy"
    return lambda: new_database(servers.database_url, f"{TEMPLATE}_{next(numbers)}", how)


@pytest.fixture
def database_url(make_database: Callable[[], AbstractContextManager[str]]) -> Iterator[str]:
    """A fresh migrated database."""
    with make_database() as url:
        yield url


@pytest.fixture
def empty_database_url(servers: Servers) -> Iterator[str]:
    """A database without a schema, for tests of the migrations."""
    with new_database(servers.database_url, f"{TEMPLATE}_{next(numbers)}") as url:
        yield url


@pytest.fixture
async def connection(database_url: str) -> AsyncIterator[Connection]:
    """One connection, set up as the service sets up its own."""
    connection = await db.connect(database_url)
    yield connection
    await connection.close()


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    """A small pool."""
    pool = await db.open_pool(database_url, 4)
    yield pool
    await pool.close()


@pytest.fixture
async def open_ledger(database_url: str) -> AsyncIterator[OpenLedger]:
    """Opens Ledgers; at the end they are closed, and the proof must find no drift."""
    opened: list[Ledger] = []

    async def open_one(**options: object) -> Ledger:
        ledger = Ledger(database_url, **{"on_commit": lambda levels, packed: None} | options)
        await ledger.open()
        opened.append(ledger)
        return ledger

    yield open_one
    for ledger in opened:
        await ledger.close()
    await assert_no_drift(database_url)


@pytest.fixture
async def ledger(open_ledger: OpenLedger) -> Ledger:
    """An open Ledger whose books are proven at the end."""
    return await open_ledger()


@pytest.fixture
async def shop(connection: Connection) -> Shop:
    """Items, locations and sources, and no stock yet."""
    return await seed_shop(connection)


@pytest.fixture
async def redis_url(servers: Servers) -> str:
    """An empty Redis database."""
    async with Redis.from_url(servers.redis_url) as redis:
        await redis.flushdb()
    return servers.redis_url


@contextmanager
def new_database(server_url: str, name: str, how: str = "") -> Iterator[str]:
    """Make a database beside the server's own, and drop it with whoever still uses it."""
    asyncio.run(run(server_url, f"CREATE DATABASE {name} {how}"))
    try:
        yield urlunsplit(urlsplit(server_url)._replace(path=f"/{name}"))
    finally:
        asyncio.run(run(server_url, f"DROP DATABASE {name} WITH (FORCE)"))


async def run(url: str, statement: str) -> None:
    """Run one statement on a connection of its own."""
    connection = await db.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()
