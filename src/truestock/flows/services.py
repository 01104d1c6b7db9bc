"""What every flow works with, opened in order and closed in the reverse of it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import msgspec

from truestock import db
from truestock.availability.reads import Availability
from truestock.config import IMPORT_LANES, Settings
from truestock.db import Pool
from truestock.ledger.writer import Ledger
from truestock.reference import Reference


class Services(msgspec.Struct, frozen=True):
    """One process's connections and memory.

    import_pool, importing: imports run one at a time, on connections of their own, so that many
    files at once leave the others to the requests. tasks: what runs in the background.
    """

    settings: Settings
    pool: Pool
    reference: Reference
    availability: Availability
    ledger: Ledger
    import_pool: Pool
    importing: asyncio.Lock
    tasks: set[asyncio.Task[int]]


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
        import_pool = await db.open_pool(settings.database_url, IMPORT_LANES + 1, idle=0)
        stack.push_async_callback(import_pool.close)
        tasks: set[asyncio.Task[int]] = set()
        stack.push_async_callback(stop, tasks)
        yield Services(
            settings, pool, reference, availability, ledger, import_pool, asyncio.Lock(), tasks
        )


async def stop(tasks: set[asyncio.Task[int]]) -> None:
    """End what runs in the background; an import goes on where it was, here or elsewhere."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
