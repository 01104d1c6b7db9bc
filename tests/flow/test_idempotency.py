"""A key has one effect and one answer, at once or later, in one process or another."""

import asyncio
from collections import Counter

from tests.conftest import OpenLedger
from tests.seeding import (
    Shop,
    body,
    figures,
    stock,
    together,
    token,
)

from truestock.db import Connection
from truestock.ledger.commands import Refuse
from truestock.ledger.writer import Ledger
from truestock.model.refusal import Code, Refusal
from truestock.model.reservation import Release


async def test_a_hundred_at_once_with_one_key_have_one_effect(
    connection: Connection, ledger: Ledger, shop: Shop
) -> None:
    await stock(ledger, shop, ("tee", 500, "oslo"))
    asked = [(shop.reserve(f"r{n}", ("tee", 1, "oslo")), token("key")) for n in range(100)]
    answers = await together(ledger, *asked)
    later = await together(ledger, asked[7])
    codes = Counter(body(answer).get("code", "held") for answer in answers)
    assert codes == {"held": 1, "idempotency_in_flight": 99}
    first = next(answer for answer in answers if answer.status == 201)
    assert (later[0].body, later[0].replayed, first.replayed) == (first.body, True, False)
    assert (await figures(connection, shop, "tee", "oslo"))["held"] == 1


async def test_two_processes_with_one_key_have_one_effect(
    connection: Connection, open_ledger: OpenLedger, shop: Shop
) -> None:
    ledgers = [await open_ledger(), await open_ledger()]
    await stock(ledgers[0], shop, ("tee", 500, "oslo"), ("mug", 500, "rome"))
    # Other levels and other ids, so that nothing but the key makes them meet.
    carts = [[("tee", 1, "oslo")], [("mug", 1, "rome")]]
    answers = await asyncio.gather(
        *(
            ledger.submit(shop.reserve(f"r{n}-{side}", *carts[side]), token(f"key {n}"))
            for n in range(100)
            for side, ledger in enumerate(ledgers)
        )
    )
    for mine, other in zip(answers[::2], answers[1::2], strict=True):
        assert mine.body == other.body
        assert {mine.replayed, other.replayed} == {True, False}
    held = [
        (await figures(connection, shop, sku, location))["held"]
        for sku, location in (("tee", "oslo"), ("mug", "rome"))
    ]
    assert sum(held) == 100


async def test_refusals_are_answers_and_are_replayed(ledger: Ledger, shop: Shop) -> None:
    refused = await ledger.submit(shop.reserve("r", ("tee", 1, "oslo")), token("key"))
    await stock(ledger, shop, ("tee", 5, "oslo"))
    again = await ledger.submit(shop.reserve("r", ("tee", 1, "oslo")), token("key"))
    assert (again.status, again.body, again.replayed) == (409, refused.body, True)


async def test_what_is_not_found_is_looked_up_anew(ledger: Ledger, shop: Shop) -> None:
    await stock(ledger, shop, ("tee", 5, "oslo"))
    assert (await ledger.submit(Release("r"), token("key"))).status == 404
    await ledger.submit(shop.reserve("r", ("tee", 1, "oslo")))
    assert (await ledger.submit(Release("r"), token("key"))).status == 200


async def test_a_key_with_another_request_is_a_mismatch(ledger: Ledger, shop: Shop) -> None:
    await stock(ledger, shop, ("tee", 5, "oslo"))
    first = await ledger.submit(shop.reserve("r", ("tee", 1, "oslo")), token("key", "one"))
    other = await ledger.submit(shop.reserve("s", ("tee", 1, "oslo")), token("key", "two"))
    assert (other.status, body(other)["code"]) == (422, "idempotency_mismatch")
    again = await ledger.submit(shop.reserve("r", ("tee", 1, "oslo")), token("key", "one"))
    assert again.body == first.body


async def test_a_key_belongs_to_the_caller_who_sent_it(ledger: Ledger, shop: Shop) -> None:
    await stock(ledger, shop, ("tee", 5, "oslo"))
    mine = await ledger.submit(shop.reserve("r", ("tee", 1, "oslo")), token("key"))
    yours = await ledger.submit(
        shop.reserve("s", ("tee", 1, "oslo")), token("key", key_id="another caller")
    )
    assert [body(answer)["reservation_id"] for answer in (mine, yours)] == ["r", "s"]


async def test_answers_outlive_the_process(
    open_ledger: OpenLedger, shop: Shop, connection: Connection
) -> None:
    before = await open_ledger()
    await stock(before, shop, ("tee", 5, "oslo"))
    first = await before.submit(shop.reserve("r", ("tee", 1, "oslo")), token("key"))
    await before.close()
    assert (await before.submit(Release("r"))).status == 503
    after = await open_ledger()
    again = await after.submit(shop.reserve("r", ("tee", 1, "oslo")), token("key"))
    assert (again.body, again.replayed) == (first.body, True)
    assert (await figures(connection, shop, "tee", "oslo"))["held"] == 1


async def test_a_refusal_that_needs_no_stock_is_kept_like_the_others(
    connection: Connection, ledger: Ledger
) -> None:
    unknown = Refuse(Refusal(Code.UNKNOWN_SKU, "There is no sku x."))
    first = await ledger.submit(unknown, token("key"))
    again = await ledger.submit(unknown, token("key"))
    assert (first.status, again.body, again.replayed) == (422, first.body, True)
    await ledger.submit(unknown)
    assert await connection.fetchval("SELECT count(*) FROM idempotent_answers") == 1
