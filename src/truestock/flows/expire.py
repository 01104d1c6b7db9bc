"""Expiry: sweep up holds whose time has run out.

Nothing waits for it: a hold stops counting at its expires_at. The sweep writes the movements,
closes the documents and tells who listens.
"""

import asyncio
from datetime import UTC, datetime

from truestock.db import SQL
from truestock.flows.services import Services
from truestock.model.reservation import Expire

MAX_PER_SWEEP = 500
MAX_SWEEPS = 20


async def expire_due(services: Services) -> int:
    """Sweep up what is due, at most MAX_SWEEPS × MAX_PER_SWEEP; answers how many holds."""
    swept = 0
    for _ in range(MAX_SWEEPS):
        rows = await services.pool.fetch(
            SQL["list_due_reservations"], datetime.now(UTC), MAX_PER_SWEEP
        )
        if not rows:
            break
        commands = [Expire(row["reservation_id"]) for row in rows]
        answers = await asyncio.gather(*map(services.ledger.submit, commands))
        done = sum(answer.status == 200 for answer in answers)
        swept += done
        if done == 0 or len(rows) < MAX_PER_SWEEP:
            break
    return swept
