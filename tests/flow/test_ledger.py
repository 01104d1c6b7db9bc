"""The one door on real PostgreSQL: each step, by what is answered and what is stored."""

from collections import Counter
from datetime import timedelta

from tests.conftest import OpenLedger
from tests.seeding import (
    MORNING,
    Clock,
    Shop,
    at,
    body,
    confirm,
    figures,
    status_of,
    stock,
    together,
)

from truestock.db import Connection
from truestock.ledger.writer import Ledger
from truestock.model.reservation import Expire, Extend, Release
from truestock.model.stock import Figures

# Steps --------------------------------------------------------------------


async def test_a_hold_lives_changes_and_ends_and_every_unit_comes_back(
    connection: Connection, ledger: Ledger, shop: Shop
) -> None:
    await stock(ledger, shop, ("tee", 5, "oslo"), ("mug", 5, "rome"))
    held = await ledger.submit(shop.reserve("r", ("tee", 2, "oslo"), ("tee", 1, "oslo")))
    assert (held.status, body(held)["status"]) == (201, "held")
    assert (await figures(connection, shop, "tee", "oslo"))["held"] == 3

    changed = await ledger.submit(shop.change("r", ("tee", 1, "oslo"), ("mug", 4, "rome")))
    assert [line["quantity"] for line in body(changed)["lines"]] == [1, 4]
    assert (await figures(connection, shop, "tee", "oslo"))["held"] == 1
    assert (await figures(connection, shop, "mug", "rome"))["held"] == 4

    extended = await ledger.submit(Extend("r", 3600))
    assert body(extended)["expires_at"] > body(held)["expires_at"]

    released = await ledger.submit(Release("r"))
    assert body(released)["status"] == await status_of(connection, "r") == "released"
    assert (await figures(connection, shop, "tee", "oslo"))["held"] == 0
    assert (await figures(connection, shop, "mug", "rome"))["held"] == 0


async def test_a_confirmed_hold_is_an_order_with_its_fulfilments(
    connection: Connection, ledger: Ledger, shop: Shop
) -> None:
    await stock(ledger, shop, ("tee", 5, "oslo"), ("mug", 5, "rome"))
    await ledger.submit(shop.reserve("r", ("tee", 2, "oslo"), ("mug", 1, "rome")))
    order = await ledger.submit(confirm("r", "o"))
    assert (order.status, body(order)["order_id"]) == (201, "o")
    assert await status_of(connection, "r") == "confirmed"
    assert await figures(connection, shop, "tee", "oslo") == {
        "on_hand": 5,
        "unavailable": 0,
        "held": 0,
        "allocated": 2,
    }
    opened = await connection.fetch("SELECT fulfilment_id FROM fulfilments WHERE order_id = 'o'")
    assert sorted(row["fulfilment_id"] for row in opened) == ["o-1", "o-2"]


async def test_an_order_and_another_cart_may_have_the_same_id(
    connection: Connection, ledger: Ledger, shop: Shop
) -> None:
    await stock(ledger, shop, ("tee", 9, "oslo"))
    await ledger.submit(shop.reserve("1001", ("tee", 1, "oslo")))
    await ledger.submit(shop.reserve("1002", ("tee", 2, "oslo")))
    assert (await ledger.submit(confirm("1002", "1001"))).status == 201
    assert (await ledger.submit(shop.change("1001", ("tee", 3, "oslo")))).status == 200
    assert (await ledger.submit(Release("1001"))).status == 200
    assert await figures(connection, shop, "tee", "oslo") == {
        "on_hand": 9,
        "unavailable": 0,
        "held": 0,
        "allocated": 2,
    }


async def test_an_answer_is_flushed_to_disk_before_it_is_given(ledger: Ledger) -> None:
    for lane in ledger._lanes:
        connection = await lane.connection()
        assert await connection.fetchval("SHOW synchronous_commit") == "on"


async def test_readers_hear_of_a_commit_before_its_caller_does(
    open_ledger: OpenLedger, shop: Shop
) -> None:
    heard: list[Figures] = []
    ledger = await open_ledger(on_commit=lambda levels, packed: heard.extend(levels))
    await stock(ledger, shop, ("tee", 5, "oslo"))
    held = await ledger.submit(shop.reserve("r", ("tee", 2, "oslo")))
    last = heard[-1]
    assert (last.on_hand, last.held, last.free) == (5, 2, 3)
    assert last.valid_until is not None
    assert body(held)["expires_at"].startswith(at_second(last.valid_until))


def at_second(microseconds: int) -> str:
    """Unix microseconds as the answers write it, to the second."""
    return (
        MORNING.fromtimestamp(0, MORNING.tzinfo) + timedelta(microseconds=microseconds)
    ).strftime("%Y-%m-%dT%H:%M:%S")


# Expiry -------------------------------------------------------------------


async def test_a_hold_stops_counting_at_its_instant_swept_up_or_not(
    connection: Connection, open_ledger: OpenLedger, shop: Shop
) -> None:
    clock = Clock()
    ledger = await open_ledger(clock=clock)
    await stock(ledger, shop, ("tee", 1, "oslo"))
    await ledger.submit(shop.reserve("old", ("tee", 1, "oslo"), ttl_seconds=60))
    clock.forward(59.999999)
    assert (await ledger.submit(shop.reserve("early", ("tee", 1, "oslo")))).status == 409
    clock.forward(0.000001)
    assert (await ledger.submit(shop.reserve("new", ("tee", 1, "oslo")))).status == 201
    for refused in (confirm("old"), Extend("old", 60), shop.change("old", ("tee", 1, "oslo"))):
        assert body(await ledger.submit(refused))["code"] == "reservation_expired"
    assert body(await ledger.submit(Release("old")))["status"] == "expired"

    # The unit is promised again, and the sweeper comes late: everything still adds up.
    assert (await ledger.submit(Expire("old"))).status == 200
    assert await status_of(connection, "old") == "expired"
    assert (await figures(connection, shop, "tee", "oslo"))["held"] == 1
    assert (await ledger.submit(shop.reserve("third", ("tee", 1, "oslo")))).status == 409
    swept = await connection.fetchrow(
        "SELECT delta, occurred_at, recorded_at FROM movements WHERE kind = 'expire'"
    )
    assert tuple(swept) == (-1, MORNING + timedelta(seconds=60), clock.now)


async def test_a_hold_is_swept_up_once(ledger: Ledger, open_ledger: OpenLedger, shop: Shop) -> None:
    later = await open_ledger(clock=lambda read_at: read_at + timedelta(hours=1))
    await stock(ledger, shop, ("tee", 5, "oslo"))
    await ledger.submit(shop.reserve("r", ("tee", 2, "oslo")))
    sweeps = await together(later, *[(Expire("r"), None)] * 20)
    assert Counter(answer.status for answer in sweeps) == {200: 1, 409: 19}


# Facts --------------------------------------------------------------------


async def test_facts_are_never_refused_and_the_shortage_shows_at_once(
    open_ledger: OpenLedger, shop: Shop
) -> None:
    heard: list[Figures] = []
    ledger = await open_ledger(on_commit=lambda levels, packed: heard.extend(levels))
    await stock(ledger, shop, ("tee", 5, "oslo"))
    await ledger.submit(shop.reserve("r", ("tee", 4, "oslo")))
    sold = await ledger.submit(shop.record(shop.fact("sale", ("tee", 3, "oslo"), at(5))))
    assert body(sold)["counts"]["applied"] == 1
    assert (heard[-1].on_hand, heard[-1].held, heard[-1].free) == (2, 4, -2)
    assert (await ledger.submit(shop.reserve("s", ("tee", 1, "oslo")))).status == 409


async def test_facts_come_late_twice_and_out_of_order_and_converge(
    connection: Connection, ledger: Ledger, shop: Shop
) -> None:
    sale = shop.fact("sale", ("tee", 1, "oslo"), at(15), event_id="sale")
    early = shop.fact("sale", ("tee", 2, "oslo"), at(5), event_id="early")
    count = shop.fact("count", ("tee", 20, "oslo"), at(10), event_id="count")
    damage = shop.fact("damage", ("tee", 3, "oslo"), at(20), event_id="damage")
    for facts in ((sale, sale), (damage,), (count, early), (early, sale, count)):
        await ledger.submit(shop.record(*facts))
    level = await figures(connection, shop, "tee", "oslo")
    assert (level["on_hand"], level["unavailable"]) == (16, 3)
    kept = await connection.fetch("SELECT event_id, status FROM facts")
    assert dict(kept) == {
        "sale": "applied",
        "damage": "applied",
        "count": "applied",
        "early": "superseded",
    }


async def test_facts_that_cancel_out_are_recorded(
    connection: Connection, ledger: Ledger, shop: Shop
) -> None:
    await ledger.submit(shop.record(shop.fact("receipt", ("tee", 5, "oslo"), at(10))))
    facts = [shop.fact(kind, ("tee", 1, "oslo"), at(5)) for kind in ("sale", "return")]
    assert body(await ledger.submit(shop.record(*facts)))["counts"]["applied"] == 2
    version, newest = await connection.fetchrow(
        "SELECT version, (SELECT max(seq) FROM movements) FROM levels"
    )
    assert version == newest


async def test_a_source_is_known_by_how_it_does(
    connection: Connection, ledger: Ledger, shop: Shop
) -> None:
    count = shop.fact("count", ("tee", 20, "oslo"), at(10))
    late = shop.fact("sale", ("tee", 1, "oslo"), at(5))
    await ledger.submit(shop.record(count, count, late))
    heard = await connection.fetchrow(
        "SELECT applied, duplicate, superseded, rejected, last_occurred_at FROM sources"
        " WHERE source = 'till'"
    )
    assert tuple(heard) == (1, 1, 1, 0, at(10))
