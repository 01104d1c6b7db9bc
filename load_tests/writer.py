"""The ledger's writer without HTTP: callers in one process, each with its next command at once.

`python -m load_tests.writer DATABASE_URL ITEMS STRIDE BLOCKS WARM_SECONDS SECONDS FILE` prints how
many reservations a second were on disk, and leaves their ids in the file.
"""

import asyncio
import random
import sys
import time
from pathlib import Path

import uvloop

from load_tests.bench import LOCATIONS_EACH
from truestock.app import spare_collections
from truestock.ids import new_id
from truestock.ledger.commands import Token
from truestock.ledger.writer import Ledger
from truestock.model.place import Place, Want
from truestock.model.reservation import LineRequest, ReservationRequest, Reserve

CALLERS = 256


def command(items: int, stride: int, blocks: int) -> tuple[Reserve, Token]:
    """A cart of two items with a key of its own, as the flow would hand it to the ledger."""
    drawn = random.sample(range(items), 2)
    document_id = new_id("rsv")
    wants = tuple(
        want(number, position * stride + 1 + position % stride, blocks)
        for number, position in enumerate(drawn, start=1)
    )
    lines = [LineRequest(w.line_id, w.sku, w.quantity, w.location) for w in wants]
    request = ReservationRequest("cart", "web", lines, ttl_seconds=3_600)
    token = Token("bench", document_id, document_id[-16:].encode())
    return Reserve(document_id, request, wants, fresh=True), token


def want(number: int, item: int, blocks: int) -> Want:
    """One unit at one of the locations that stock the item."""
    location = item % blocks * LOCATIONS_EACH + random.randint(1, LOCATIONS_EACH)
    place = Place(item, location, f"LOC-{location:03d}")
    return Want(str(number), f"SKU-{item:06d}", 1, (place,), place.location)


async def run(
    url: str, items: int, stride: int, blocks: int, warm: float, seconds: float
) -> tuple[float, list[str]]:
    """Reservations a second after the warm-up, and all ids that were answered with 201."""
    ledger = Ledger(url, lambda levels, packed: None)
    await ledger.open()
    # As the service does when it starts.
    spare_collections()
    told: list[str] = []
    over = time.perf_counter() + warm + seconds

    async def caller() -> None:
        while time.perf_counter() < over:
            reserve, token = command(items, stride, blocks)
            answer = await ledger.submit(reserve, token)
            if answer.status == 201:
                told.append(reserve.document_id)

    async with asyncio.TaskGroup() as group:
        for _ in range(CALLERS):
            group.create_task(caller())
        await asyncio.sleep(warm)
        before, began = len(told), time.perf_counter()
        await asyncio.sleep(seconds)
        counted, took = len(told) - before, time.perf_counter() - began
    await ledger.close()
    return counted / took, told


def main(
    url: str, items: str, stride: str, blocks: str, warm: str, seconds: str, file: str
) -> None:
    """Run, print the rate, leave the ids."""
    shape = int(items), int(stride), int(blocks)
    rate, told = uvloop.run(run(url, *shape, float(warm), float(seconds)))
    Path(file).write_text("\n".join(told))
    print(rate)


if __name__ == "__main__":
    main(*sys.argv[1:])
