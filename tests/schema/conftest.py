"""One migrated database for all tests of the schema: each undoes what it did."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager

import pytest

from truestock import db
from truestock.db import Connection


@pytest.fixture(scope="session")
def lasting_url(make_database: Callable[[], AbstractContextManager[str]]) -> Iterator[str]:
    """A database for the whole run."""
    with make_database() as url:
        yield url


@pytest.fixture(scope="session")
async def lasting_connection(lasting_url: str) -> AsyncIterator[Connection]:
    """The one connection to it."""
    connection = await db.connect(lasting_url)
    yield connection
    await connection.close()


@pytest.fixture
async def undone(lasting_connection: Connection) -> AsyncIterator[Connection]:
    """A connection in a transaction that is rolled back."""
    transaction = lasting_connection.transaction()
    await transaction.start()
    yield lasting_connection
    await transaction.rollback()
