"""A process of its own full of buyers: reads a round a line, and answers what each buyer got.

Run by test_oversell.py as `python buyers.py DATABASE_URL NAME`, with the shop as its first line.
"""

import asyncio
import sys
from random import Random
from typing import Any

import msgspec
from tests.seeding import Line, Shop, token

from truestock.ledger.writer import Ledger


class Round(msgspec.Struct):
    """What the buyers of a process want: each a cart. name: the round's, the same for all."""

    name: str
    carts: list[list[Line]]


class Bought(msgspec.Struct):
    """What a buyer got."""

    status: int
    lines: list[Line]


async def buy(ledger: Ledger, shop: Shop, buyers: str, wanted: Round) -> list[Bought]:
    """All buyers of a round at once; every other one names its cart, or has a key."""
    answers = await asyncio.gather(
        *(
            ledger.submit(
                shop.reserve(f"{wanted.name}-{buyers}-{n}", *lines, fresh=n % 2 == 0),
                token(f"{wanted.name}-{buyers}-{n}") if n % 3 == 0 else None,
            )
            for n, lines in enumerate(wanted.carts)
        )
    )
    return [
        Bought(answer.status, lines) for answer, lines in zip(answers, wanted.carts, strict=True)
    ]


def carts(random: Random, buyers: int, skus: list[str], most: int) -> list[list[Line]]:
    """Carts of one to four lines over these skus, in any order, some of them more than once."""
    return [
        [
            (random.choice(skus), random.randint(1, most), "oslo")
            for _ in range(random.randint(1, 4) if len(skus) > 1 else 1)
        ]
        for _ in range(buyers)
    ]


async def main(database_url: str, buyers: str) -> None:
    """Answer each round until the input ends."""
    shop = msgspec.json.decode(await read_line(), type=Shop)
    ledger = Ledger(database_url, lambda levels, packed: None)
    await ledger.open()
    write_line("ready")
    while line := await read_line():
        wanted = msgspec.json.decode(line, type=Round)
        write_line(await buy(ledger, shop, buyers, wanted))
    await ledger.close()


async def read_line() -> bytes:
    """The next line of the input, empty at its end."""
    return await asyncio.to_thread(sys.stdin.buffer.readline)


def write_line(answer: Any) -> None:
    """One line of JSON."""
    sys.stdout.buffer.write(msgspec.json.encode(answer) + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
