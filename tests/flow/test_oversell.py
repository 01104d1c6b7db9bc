"""1,000 buyers at once for 100 units, one process and two: exactly 100 get it, in each round."""

import asyncio
import os
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from random import Random

import msgspec
import pytest
from tests.flow.buyers import Bought, Round, buy, carts
from tests.seeding import Shop, figures, seed_shop, stock

from truestock.db import Connection
from truestock.ledger.writer import Ledger

BUYERS = 1000
UNITS = 100
ROUNDS = 20
ROOT = Path(__file__).parents[2]

# Plays a round: hands the carts out to all buyers at once, and answers what each got.
Play = Callable[[str, list[list[tuple[str, int, str]]]], Awaitable[list[Bought]]]


@pytest.fixture
async def shop(connection: Connection, ledger: Ledger) -> Shop:
    """A hundred of each item in Oslo: four items for each round."""
    skus = tuple(f"{number}-{letter}" for number in range(ROUNDS) for letter in "abcd")
    shop = await seed_shop(connection, skus)
    await stock(ledger, shop, *((sku, UNITS, "oslo") for sku in skus))
    return shop


@pytest.fixture(params=["one process", "two processes"])
async def play(
    request: pytest.FixtureRequest, database_url: str, ledger: Ledger, shop: Shop
) -> AsyncIterator[Play]:
    """Buyers in this process, or in two others."""
    if request.param == "one process":
        yield lambda name, wanted: buy(ledger, shop, "here", Round(name, wanted))
        return
    processes = [await start(database_url, name, shop) for name in ("left", "right")]
    yield lambda name, wanted: play_apart(processes, name, wanted)
    for process in processes:
        process.stdin.close()
        assert await process.wait() == 0


async def start(database_url: str, name: str, shop: Shop) -> asyncio.subprocess.Process:
    """Start a process of buyers; it is ready when this returns."""
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(ROOT / "tests/flow/buyers.py"),
        database_url,
        name,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": path},
        limit=2**22,
    )
    assert await ask(process, shop) == b'"ready"\n'
    return process


async def ask(process: asyncio.subprocess.Process, question: object) -> bytes:
    """Send a line and wait for the answer's."""
    process.stdin.write(msgspec.json.encode(question) + b"\n")
    await process.stdin.drain()
    return await process.stdout.readline()


async def play_apart(
    processes: list[asyncio.subprocess.Process], name: str, wanted: list[list[tuple[str, int, str]]]
) -> list[Bought]:
    """Half of the carts to each process, all at once."""
    halves = [Round(name, wanted[::2]), Round(name, wanted[1::2])]
    answers = await asyncio.gather(*map(ask, processes, halves))
    return [
        bought for answer in answers for bought in msgspec.json.decode(answer, type=list[Bought])
    ]


def units(bought: list[Bought]) -> Counter[str]:
    """Units that were promised, by sku."""
    promised: Counter[str] = Counter()
    for cart in bought:
        if cart.status == 201:
            for sku, quantity, _ in cart.lines:
                promised[sku] += quantity
    return promised


async def test_exactly_a_hundred_of_a_thousand_get_one(
    connection: Connection, shop: Shop, play: Play
) -> None:
    for number in range(ROUNDS):
        sku = f"{number}-a"
        bought = await play(f"round {number}", [[(sku, 1, "oslo")]] * BUYERS)
        assert Counter(cart.status for cart in bought) == {201: UNITS, 409: BUYERS - UNITS}
        assert (await figures(connection, shop, sku, "oslo"))["held"] == UNITS


@pytest.mark.parametrize(("skus", "most"), [("a", 7), ("abcd", 3)], ids=["quantities", "carts"])
async def test_never_more_than_there_is_and_nobody_refused_for_nothing(
    connection: Connection, shop: Shop, play: Play, skus: str, most: int
) -> None:
    random = Random(skus)
    for number in range(ROUNDS):
        names = [f"{number}-{letter}" for letter in skus]
        bought = await play(f"round {number}", carts(random, BUYERS, names, most))
        promised = units(bought)
        left = {sku: UNITS - promised[sku] for sku in names}
        assert min(left.values()) >= 0
        for sku in names:
            assert (await figures(connection, shop, sku, "oslo"))["held"] == promised[sku]
        for cart in bought:
            wanted = units([Bought(201, cart.lines)])
            assert cart.status == 201 or any(wanted[sku] > left[sku] for sku in wanted)
