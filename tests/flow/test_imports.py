"""What a snapshot's rows do: counts that obey the one rule, whatever came before or comes late."""

from collections.abc import AsyncIterator

import msgspec
import pytest
from tests.flow.importing import (
    HEADER,
    STOCK,
    count,
    errors,
    on_hand,
    outcome,
    queue,
    request,
    send,
)
from tests.seeding import Shop, assert_no_drift, at, body, figures, seed_shop

from truestock.db import Connection, Pool
from truestock.flows import imports, snapshot_survey
from truestock.flows.imports import run_import
from truestock.ledger.writer import Ledger
from truestock.model.stock import Kind

pytestmark = pytest.mark.usefixtures("books")


@pytest.fixture
async def shop(connection: Connection) -> Shop:
    """Three items, two locations, two sources, nothing in stock."""
    return await seed_shop(connection)


@pytest.fixture
async def books(shop: Shop, database_url: str) -> AsyncIterator[None]:
    """After each test: what the movements add up to is what the levels say."""
    yield
    await assert_no_drift(database_url)


# What a row does -----------------------------------------------------------


async def test_a_first_file_makes_levels(connection: Connection, pool: Pool, shop: Shop) -> None:
    status = await send(pool, shop, STOCK)
    assert outcome(status) == {"applied": 3}
    assert await on_hand(connection) == {
        ("tee", "oslo"): 5,
        ("mug", "oslo"): 0,
        ("tee", "rome"): 7,
    }
    rows = await connection.fetch(
        "SELECT m.kind, m.delta, m.balance, m.occurred_at, m.source_id, m.reference,"
        " l.version = m.seq AS numbered, l.counted_at, l.counted_by"
        " FROM movements m JOIN levels l USING (item_id, location_id) ORDER BY m.balance"
    )
    assert [row["delta"] for row in rows] == [row["balance"] for row in rows] == [0, 5, 7]
    for row in rows:
        assert (row["kind"], row["source_id"]) == ("count", shop.sources["erp"])
        assert row["occurred_at"] == row["counted_at"] == at(0)
        assert (row["reference"], row["counted_by"]) == ("1", "erp\x1f1")
        assert row["numbered"]


async def test_the_same_again_is_unchanged_and_writes_no_level(
    connection: Connection, pool: Pool, shop: Shop
) -> None:
    await send(pool, shop, STOCK)
    before = await connection.fetch("SELECT xmin, * FROM levels ORDER BY 2, 3")
    status = await send(pool, shop, STOCK.replace("tee,rome,7", "tee,rome,8"), 60)
    assert outcome(status) == {"applied": 1, "unchanged": 2}
    after = await connection.fetch("SELECT xmin, * FROM levels ORDER BY 2, 3")
    assert sum(one["xmin"] != other["xmin"] for one, other in zip(before, after, strict=True)) == 1
    assert await count(connection, "movements") == 4


async def test_readers_hear_which_items_changed(
    connection: Connection, pool: Pool, shop: Shop
) -> None:
    heard: list[int] = []
    await send(pool, shop, STOCK)
    await connection.execute("DELETE FROM outbox")
    import_id = await queue(pool, request(shop, 60), STOCK.replace("mug,oslo,0", "mug,oslo,1"))
    await run_import(pool, import_id, heard.extend)
    assert heard == [shop.items["mug"]]
    [row] = await connection.fetch("SELECT levels, events FROM outbox")
    assert row["levels"] is None
    assert msgspec.json.decode(row["events"]) == [
        {"type": "levels.changed", "data": {"item_ids": heard}}
    ]


async def test_what_happened_before_a_confirmed_count_has_no_effect(
    connection: Connection, pool: Pool, shop: Shop, ledger: Ledger
) -> None:
    await send(pool, shop, STOCK, 0)
    assert outcome(await send(pool, shop, STOCK, 60)) == {"unchanged": 3}
    late = shop.fact(Kind.SALE, ("tee", 2, "oslo"), at(30))
    after = shop.fact(Kind.SALE, ("tee", 1, "oslo"), at(61))
    answer = await ledger.submit(shop.record(late, after))
    assert [result["status"] for result in body(answer)["results"]] == ["superseded", "applied"]
    assert (await figures(connection, shop, "tee", "oslo"))["on_hand"] == 4


async def test_a_count_keeps_what_happened_after_it(
    connection: Connection, pool: Pool, shop: Shop, ledger: Ledger
) -> None:
    await send(pool, shop, STOCK, 0)
    before = shop.fact(Kind.SALE, ("tee", 2, "oslo"), at(30))
    after = shop.fact(Kind.RECEIPT, ("tee", 10, "oslo"), at(90))
    await ledger.submit(shop.record(before, after))
    # At the instant of a movement, the count has seen it.
    seen = [shop.fact(Kind.SALE, ("tee", 1, place), at(60)) for place in ("rome", "oslo")]
    await ledger.submit(shop.record(*seen))
    status = await send(pool, shop, f"{HEADER}\ntee,oslo,4\ntee,rome,6\n", 60)
    assert outcome(status) == {"applied": 1, "unchanged": 1}
    assert (await figures(connection, shop, "tee", "oslo"))["on_hand"] == 14
    assert (await figures(connection, shop, "tee", "rome"))["on_hand"] == 6


async def test_a_count_that_says_what_the_ledger_has_is_unchanged_only_if_nothing_came_after(
    connection: Connection, pool: Pool, shop: Shop, ledger: Ledger
) -> None:
    await send(pool, shop, STOCK, 0)
    await ledger.submit(shop.record(shop.fact(Kind.RECEIPT, ("tee", 1, "oslo"), at(90))))
    # Six were counted before the receipt of one: seven by now.
    assert outcome(await send(pool, shop, f"{HEADER}\ntee,oslo,6\n", 60)) == {"applied": 1}
    assert (await figures(connection, shop, "tee", "oslo"))["on_hand"] == 7


@pytest.mark.parametrize("newer", [STOCK, STOCK.replace("5", "6").replace("7", "8")])
async def test_an_older_file_that_comes_late_has_no_effect(
    connection: Connection, pool: Pool, shop: Shop, newer: str
) -> None:
    await send(pool, shop, STOCK, 0)
    await send(pool, shop, newer, 60)
    before = await on_hand(connection)
    older = STOCK.replace("5", "50").replace("7", "70").replace("mug,oslo,0\n", "")
    assert outcome(await send(pool, shop, older, 30)) == {"superseded": 2}
    assert await on_hand(connection) == before


async def test_of_two_counts_of_one_instant_the_greater_source_wins(
    connection: Connection, pool: Pool, shop: Shop
) -> None:
    await send(pool, shop, f"{HEADER}\ntee,oslo,5\n", source="till")
    status = await send(pool, shop, f"{HEADER}\ntee,oslo,6\n", source="erp")
    assert outcome(status) == {"superseded": 1}
    await send(pool, shop, f"{HEADER}\ntee,oslo,7\n", source="till")
    assert (await figures(connection, shop, "tee", "oslo"))["on_hand"] == 7


async def test_a_level_that_was_never_counted_is_counted(
    connection: Connection, pool: Pool, shop: Shop, ledger: Ledger
) -> None:
    await ledger.submit(shop.record(shop.fact(Kind.RECEIPT, ("tee", 5, "oslo"), at(0))))
    assert outcome(await send(pool, shop, f"{HEADER}\ntee,oslo,5\n", 60)) == {"applied": 1}
    late = shop.record(shop.fact(Kind.RECEIPT, ("tee", 9, "oslo"), at(59)))
    assert body(await ledger.submit(late))["counts"]["superseded"] == 1


async def test_promises_stay_as_they_are(
    connection: Connection, pool: Pool, shop: Shop, ledger: Ledger
) -> None:
    await send(pool, shop, STOCK)
    await ledger.submit(shop.reserve("cart", ("tee", 4, "oslo")))
    await send(pool, shop, f"{HEADER}\ntee,oslo,1\n", 60)
    level = await figures(connection, shop, "tee", "oslo")
    assert (level["on_hand"], level["held"]) == (1, 4)


# The other columns ---------------------------------------------------------


async def test_safety_stock_and_unavailable_are_set_where_they_are_given(
    connection: Connection, pool: Pool, shop: Shop
) -> None:
    wide = "sku,unavailable,location,safety_stock,on_hand\n"
    await send(pool, shop, f"{wide}tee,2,oslo,3,5\nmug,,oslo,,1\n")
    query = (
        "SELECT on_hand, unavailable, safety_stock, unavailable_counted_at FROM levels"
        " WHERE item_id = $1"
    )
    row = await connection.fetchrow(query, shop.items["tee"])
    assert tuple(row) == (5, 2, 3, at(0))
    assert tuple(await connection.fetchrow(query, shop.items["mug"])) == (1, 0, 0, None)
    # What a later file does not say stays.
    assert outcome(await send(pool, shop, f"{HEADER}\ntee,oslo,6\n", 60)) == {"applied": 1}
    assert tuple(await connection.fetchrow(query, shop.items["tee"])) == (6, 2, 3, at(0))


async def test_unavailable_is_the_newest_figure_with_what_broke_after_it(
    connection: Connection, pool: Pool, shop: Shop, ledger: Ledger
) -> None:
    wide = f"{HEADER},unavailable\n"
    await send(pool, shop, f"{wide}tee,oslo,5,2\n", 0)
    broken = [shop.fact(Kind.DAMAGE, ("tee", 1, "oslo"), at(minute)) for minute in (30, 90)]
    await ledger.submit(shop.record(*broken))
    assert outcome(await send(pool, shop, f"{wide}tee,oslo,9,4\n", 60)) == {"applied": 1}
    level = await figures(connection, shop, "tee", "oslo")
    assert (level["on_hand"], level["unavailable"]) == (8, 5)
    # A count from the shop floor is newer for on hand, but says nothing of unavailable.
    counted = shop.fact(Kind.COUNT, ("tee", 20, "oslo"), at(120))
    await ledger.submit(shop.record(counted))
    assert outcome(await send(pool, shop, f"{wide}tee,oslo,1,7\n", 100)) == {"applied": 1}
    level = await figures(connection, shop, "tee", "oslo")
    assert (level["on_hand"], level["unavailable"]) == (20, 7)
    assert outcome(await send(pool, shop, f"{wide}tee,oslo,1,1\n", 99)) == {"superseded": 1}


async def test_a_confirmed_unavailable_outlives_what_broke_before_it(
    connection: Connection, pool: Pool, shop: Shop, ledger: Ledger
) -> None:
    wide = f"{HEADER},unavailable\n"
    await send(pool, shop, f"{wide}tee,oslo,5,2\n", 0)
    assert outcome(await send(pool, shop, f"{wide}tee,oslo,5,2\n", 60)) == {"unchanged": 1}
    late = shop.record(shop.fact(Kind.DAMAGE, ("tee", 1, "oslo"), at(30)))
    assert body(await ledger.submit(late))["counts"]["superseded"] == 1
    assert outcome(await send(pool, shop, f"{wide}tee,oslo,5,9\n", 40)) == {"superseded": 1}
    assert (await figures(connection, shop, "tee", "oslo"))["unavailable"] == 2


# Bad rows ------------------------------------------------------------------


async def test_bad_rows_are_told_and_stop_nobody(
    connection: Connection, pool: Pool, shop: Shop
) -> None:
    content = (
        f"{HEADER}\ntee,oslo,5\nhat,oslo,1\ntee,bergen,2\ntee,rome,-3\nmug,oslo\n"
        'mug,rome,8\n\x00,oslo,1\n"a,b",oslo,1\n'
    )
    status = await send(pool, shop, content)
    assert outcome(status) == {"applied": 2, "rejected": 6}
    assert await on_hand(connection) == {("tee", "oslo"): 5, ("mug", "rome"): 8}
    assert await errors(pool, status) == [
        "2,unknown_sku,There is no item 'hat'.,\"hat,oslo,1\"",
        "3,unknown_location,There is no location 'bergen'.,\"tee,bergen,2\"",
        '4,validation_failed,on_hand must be a whole number from 0 to 2147483647.,"tee,rome,-3"',
        '5,validation_failed,"The row has 2 fields, the header 3.","mug,oslo"',
        "7,unknown_sku,There is no item '\\x00'.,\"\N{REPLACEMENT CHARACTER},oslo,1\"",
        '8,unknown_sku,"There is no item \'a,b\'.","""a,b"",oslo,1"',
    ]


async def test_of_a_key_given_twice_the_last_row_wins(
    connection: Connection, pool: Pool, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imports, "IMPORT_PIECE_BYTES", 20)
    content = f"{HEADER}\ntee,oslo,1\nmug,oslo,2\ntee,oslo,3\ncap,oslo,4\ntee,oslo,5\n"
    status = await send(pool, shop, content)
    assert outcome(status) == {"applied": 3, "rejected": 2}
    assert (await on_hand(connection))["tee", "oslo"] == 5
    assert await count(connection, "movements") == 3
    again = "A later row gives this sku at this location again, and wins."
    assert await errors(pool, status) == [
        f'1,duplicate_row,"{again}","tee,oslo,1"',
        f'3,duplicate_row,"{again}","tee,oslo,3"',
    ]


async def test_errors_are_kept_up_to_a_bound_and_counted_beyond(
    pool: Pool, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot_survey, "MAX_IMPORT_ERRORS", 3)
    bad = "hat,oslo,1\n" * 2 + "tee,oslo,1\n" * 4
    status = await send(pool, shop, f"{HEADER}\n{bad}")
    assert outcome(status) == {"applied": 1, "rejected": 5}
    assert [line.split(",")[:2] for line in await errors(pool, status)] == [
        ["1", "unknown_sku"],
        ["2", "unknown_sku"],
        ["3", "duplicate_row"],
    ]


async def test_a_location_that_the_sender_may_not_write_is_unknown(
    connection: Connection, pool: Pool, shop: Shop
) -> None:
    status = await send(pool, shop, STOCK, allowed_location_ids=[shop.locations["rome"]])
    assert outcome(status) == {"applied": 1, "rejected": 2}
    assert await on_hand(connection) == {("tee", "rome"): 7}


# Full files ----------------------------------------------------------------


async def test_a_full_file_counts_zero_for_what_it_leaves_out(
    connection: Connection, pool: Pool, shop: Shop
) -> None:
    await send(pool, shop, f"{STOCK}cap,oslo,9\nmug,rome,3\n")
    status = await send(pool, shop, f"{HEADER}\ntee,oslo,5\n", 60, scope="full")
    assert outcome(status) == {"unchanged": 1}
    # cap had nine; mug had none before.
    assert status.rows_zeroed == 2
    assert await on_hand(connection) == {
        ("tee", "oslo"): 5,
        ("mug", "oslo"): 0,
        ("cap", "oslo"): 0,
        ("tee", "rome"): 7,
        ("mug", "rome"): 3,
    }


async def test_a_full_file_speaks_of_the_locations_that_the_request_names(
    connection: Connection, pool: Pool, shop: Shop
) -> None:
    await send(pool, shop, STOCK)
    named = [shop.locations["rome"]]
    await send(pool, shop, f"{HEADER}\n", 60, scope="full", location_ids=named)
    assert {key: figure for key, figure in (await on_hand(connection)).items() if figure} == {
        ("tee", "oslo"): 5
    }


async def test_a_full_file_empties_no_location_that_the_sender_may_not_write(
    connection: Connection, pool: Pool, shop: Shop
) -> None:
    await send(pool, shop, STOCK)
    rome, oslo = shop.locations["rome"], shop.locations["oslo"]
    fields = {"location_ids": [rome, oslo], "allowed_location_ids": [oslo]}
    await send(pool, shop, f"{HEADER}\n", 60, scope="full", **fields)
    assert {key: figure for key, figure in (await on_hand(connection)).items() if figure} == {
        ("tee", "rome"): 7
    }


async def test_a_row_that_cannot_be_read_is_not_left_out(
    connection: Connection, pool: Pool, shop: Shop
) -> None:
    await send(pool, shop, STOCK)
    status = await send(pool, shop, f"{HEADER}\ntee,oslo,many\nmug,oslo,2\n", 60, scope="full")
    assert outcome(status) == {"applied": 1, "rejected": 1}
    assert (await on_hand(connection))["tee", "oslo"] == 5
