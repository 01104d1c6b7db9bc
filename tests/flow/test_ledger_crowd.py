"""Many at once, through one process and two: batches are bounded, and each thing happens once."""

import asyncio
from collections import Counter

import pytest
from tests.conftest import OpenLedger
from tests.seeding import (
    Shop,
    at,
    body,
    confirm,
    figures,
    stock,
    together,
)

from truestock.db import Connection
from truestock.ledger import writer
from truestock.ledger.writer import Ledger
from truestock.model.reservation import Release


async def test_a_crowd_costs_a_few_commits(ledger: Ledger, shop: Shop) -> None:
    await stock(ledger, shop, ("tee", 2000, "oslo"))
    before = ledger.commits
    carts = [(shop.reserve(f"r{n}", ("tee", 1, "oslo"), fresh=True), None) for n in range(1000)]
    assert {answer.status for answer in await together(ledger, *carts)} == {201}
    assert ledger.commits - before <= 10


async def test_a_batch_is_bounded_by_the_levels_it_locks(
    ledger: Ledger, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    await stock(ledger, shop, ("tee", 50, "oslo"), ("mug", 50, "oslo"))
    monkeypatch.setattr(writer, "MAX_BATCH_LEVELS", 4)
    before = ledger.commits
    lines = (("tee", 1, "oslo"), ("mug", 1, "oslo"))
    carts = [(shop.reserve(f"r{n}", *lines), None) for n in range(20)]
    assert {answer.status for answer in await together(ledger, *carts)} == {201}
    assert ledger.commits - before == 10


async def test_two_processes_take_each_id_once(
    connection: Connection, open_ledger: OpenLedger, shop: Shop
) -> None:
    ledgers = [await open_ledger(), await open_ledger()]
    await stock(ledgers[0], shop, ("tee", 1000, "oslo"), ("mug", 1000, "rome"))
    lines = [("tee", 1, "oslo"), ("mug", 1, "rome")]
    answers = await asyncio.gather(
        *(
            ledger.submit(shop.reserve(f"r{n}", lines[(n + side) % 2], lines[n % 2]))
            for n in range(200)
            for side, ledger in enumerate(ledgers)
        )
    )
    assert Counter(body(a).get("code", a.status) for a in answers) == {
        201: 200,
        "already_exists": 200,
    }
    orders = await asyncio.gather(
        *(
            ledger.submit(confirm(f"r{2 * n + side}", f"o{n}"))
            for n in range(100)
            for side, ledger in enumerate(ledgers)
        )
    )
    assert Counter(body(a).get("code", a.status) for a in orders) == {
        201: 100,
        "already_exists": 100,
    }


async def test_two_resolutions_of_a_hold_are_exactly_one(
    open_ledger: OpenLedger, shop: Shop
) -> None:
    ledgers = [await open_ledger(), await open_ledger()]
    await stock(ledgers[0], shop, ("tee", 100, "oslo"))
    for n in range(50):
        await ledgers[n % 2].submit(shop.reserve(f"r{n}", ("tee", 2, "oslo")))
    answers = await asyncio.gather(
        *(
            ledgers[(n + side) % 2].submit((Release(f"r{n}"), confirm(f"r{n}"))[side])
            for n in range(50)
            for side in (0, 1)
        )
    )
    for released, confirmed in zip(answers[::2], answers[1::2], strict=True):
        assert (released.status, confirmed.status) in {(200, 409), (409, 201)}


async def test_the_same_facts_through_two_processes_count_once(
    connection: Connection, open_ledger: OpenLedger, shop: Shop
) -> None:
    ledgers = [await open_ledger(), await open_ledger()]
    facts = [
        shop.fact("receipt", (sku, 1, location), at(n), event_id=f"e{n}", source=source)
        for n in range(40)
        for sku, location, source in (("tee", "oslo", "erp"), ("mug", "rome", "till"))
    ]
    answers = await asyncio.gather(
        *(ledger.submit(shop.record(fact)) for fact in facts for ledger in ledgers)
    )
    assert Counter(body(a)["results"][0]["status"] for a in answers) == {
        "applied": 80,
        "duplicate": 80,
    }
    assert (await figures(connection, shop, "tee", "oslo"))["on_hand"] == 40
