"""The relay: pass on what commits left in the outbox.

Each process publishes its own commits at once; the relay brings what a crash between commit and
publish left out. What is old news in Redis is passed over there, so repeating costs little.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import structlog
from redis.exceptions import RedisError

from truestock.config import IDEMPOTENCY_HOURS
from truestock.db import SQL
from truestock.flows.services import Services
from truestock.model.decision import Event
from truestock.telemetry import RELAYED, describe

log = structlog.get_logger()
decode_events = msgspec.json.Decoder(list[Event]).decode

PROJECTION = "projection"
MAX_ROWS = 256
MAX_ROUNDS = 50
OUTBOX_HOURS = 24
MAX_DELETED = 10_000
PARTITION_MONTHS = 4


async def relay(services: Services) -> int:
    """Pass on what is safe to pass on; answers how many rows. Stops where Redis does not answer."""
    found = await services.pool.fetch(SQL["read_relay"], PROJECTION)
    row = (found or await services.pool.fetch(SQL["start_relay"], PROJECTION))[0]
    position, passed = (row["xid"], row["outbox_id"]), 0
    for _ in range(MAX_ROUNDS):
        rows = await services.pool.fetch(SQL["read_outbox"], *position, MAX_ROWS)
        if not rows:
            break
        packed = [row["levels"] for row in rows if row["levels"] is not None]
        try:
            if packed:
                await services.availability.projection.relay(packed)
            if items := dropped_items(rows):
                await services.availability.projection.drop(items)
        except (RedisError, OSError, TimeoutError) as error:
            log.warning("relay_waits", error=describe(error))
            break
        position = (rows[-1]["xid"], rows[-1]["outbox_id"])
        await services.pool.execute(SQL["keep_position"], *position, PROJECTION)
        passed += len(rows)
        if len(rows) < MAX_ROWS:
            break
    RELAYED.inc(passed)
    return passed


def dropped_items(rows: Sequence[Any]) -> list[int]:
    """Items that imports changed; an import says which, not how."""
    items: set[int] = set()
    for row in rows:
        if row["events"] is not None and b"levels.changed" in row["events"]:
            for event in decode_events(row["events"]):
                if event.type == "levels.changed":
                    items.update(event.data["item_ids"])
    return sorted(items)


async def tidy(services: Services) -> int:
    """Let go of old outbox rows and idempotent answers; answers how many."""
    now = datetime.now(UTC)
    deleted = 0
    for query, hours in (("trim_outbox", OUTBOX_HOURS), ("forget_old_answers", IDEMPOTENCY_HOURS)):
        before = now - timedelta(hours=hours)
        for _ in range(MAX_ROUNDS):
            count = await services.pool.fetchval(SQL[query], before, MAX_DELETED)
            deleted += count
            if count < MAX_DELETED:
                break
    return deleted


async def make_partitions(services: Services) -> int:
    """Make the movements' partitions ahead; answers how many were made."""
    return int(await services.pool.fetchval(SQL["make_partitions"], PARTITION_MONTHS))
