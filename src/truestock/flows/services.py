"""What every flow works with, opened in order and closed in the reverse of it."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import msgspec

from truestock import db
from truestock.availability.reads import Availability
from truestock.config import Settings
from truestock.db import Pool
from truestock.ledger.writer import Ledger
from truestock.reference import Reference


class Services(msgspec.Struct, frozen=True):
    """One process's connections and memory."""

    settings: Settings
    pool: Pool
    reference: Reference
    availability: Availability
    ledger: Ledger


@asynccontextmanager
async def open_services(settings: Settings) -> AsyncIterator[Services]:
    """Everything that a process needs, on a database that has been migrated."""
    async with AsyncExitStack() as stack:
        pool = await db.open_pool(settings.database_url, settings.pool_size)
        stack.push_async_callback(pool.close)
        reference = Reference(settings.database_url, pool)
        await reference.open()
        stack.push_async_callback(reference.close)
        availability = Availability(settings, pool)
        await availability.open()
        stack.push_async_callback(availability.close)
        ledger = Ledger(settings.database_url, availability.committed)
        await ledger.open()
        stack.push_async_callback(ledger.close)
        yield Services(settings, pool, reference, availability, ledger)
