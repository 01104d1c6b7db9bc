"""Snapshot imports: a file becomes counts that obey the one rule, come what may in between."""

import asyncio
import gzip
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import msgspec
import pytest
from tests.seeding import Shop, assert_no_drift, at, body, figures, seed_shop

from truestock.db import Connection, Pool
from truestock.flows import imports, snapshot_survey
from truestock.flows.imports import (
    ImportStatus,
    PayloadTooLargeError,
    SnapshotRequest,
    import_errors,
    import_status,
    receive,
    run_import,
    run_waiting_imports,
)
from truestock.ledger import snapshot
from truestock.ledger.writer import Ledger
from truestock.model.stock import Kind

HEADER = "sku,location,on_hand"
STOCK = f"{HEADER}\ntee,oslo,5\nmug,oslo,0\ntee,rome,7\n"

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


async def pieces(content: bytes) -> AsyncIterator[bytes]:
    """A body as it comes in."""
    for start in range(0, len(content), 1_000):
        yield content[start : start + 1_000]


def request(shop: Shop, minute: float = 0, source: str = "erp", **fields: Any) -> SnapshotRequest:
    """A snapshot's request; the shelf was so, so many minutes from the morning."""
    return SnapshotRequest(
        source_id=shop.sources[source], source=source, as_of=at(minute), **fields
    )


async def queue(pool: Pool, asked: SnapshotRequest, content: str | bytes) -> int:
    """Send a file."""
    raw = content.encode() if isinstance(content, str) else content
    return await receive(pool, asked, pieces(raw))


async def run(pool: Pool, import_id: int) -> ImportStatus:
    """Run an import."""
    assert await run_import(pool, import_id, lambda item_ids: None)
    status = await import_status(pool, import_id)
    assert status is not None
    return status


async def send(
    pool: Pool, shop: Shop, content: str | bytes, minute: float = 0, **fields: Any
) -> ImportStatus:
    """Send a file and run its import."""
    return await run(pool, await queue(pool, request(shop, minute, **fields), content))


def outcome(status: ImportStatus) -> dict[str, int]:
    """What became of the rows."""
    counts = {
        "applied": status.rows_applied,
        "unchanged": status.rows_unchanged,
        "superseded": status.rows_superseded,
        "rejected": status.rows_rejected,
    }
    assert sum(counts.values()) == status.rows_read
    assert (status.status, status.progress, status.failure) == ("completed", 1.0, None)
    return {name: count for name, count in counts.items() if count}


async def on_hand(connection: Connection) -> dict[tuple[str, str], int]:
    """Every level's on hand, by name."""
    rows = await connection.fetch(
        "SELECT sku, location, on_hand FROM levels JOIN items USING (item_id)"
        " JOIN locations USING (location_id)"
    )
    return {(row["sku"], row["location"]): row["on_hand"] for row in rows}


async def errors(pool: Pool, status: ImportStatus) -> list[str]:
    """The lines of an import's errors, without the header."""
    parts = [part async for part in import_errors(pool, int(status.import_id))]
    header, *lines = b"".join(parts).decode().splitlines()
    assert header == "row,code,detail,line"
    return lines


async def count(connection: Connection, table: str) -> int:
    """How many rows a table has."""
    found: int = await connection.fetchval(f"SELECT count(*) FROM {table}")
    return found


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
    again = shop.fact(Kind.SALE, ("tee", 1, "rome"), at(60))
    await ledger.submit(shop.record(again))
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
        f'1,duplicate_row,"{again}","tee,oslo,1"'.replace(f'"{again}"', csv_field(again)),
        f'3,duplicate_row,"{again}","tee,oslo,3"'.replace(f'"{again}"', csv_field(again)),
    ]


def csv_field(text: str) -> str:
    """A text as a CSV field."""
    return f'"{text}"' if "," in text else text


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


async def test_a_row_that_cannot_be_read_is_not_left_out(
    connection: Connection, pool: Pool, shop: Shop
) -> None:
    await send(pool, shop, STOCK)
    status = await send(pool, shop, f"{HEADER}\ntee,oslo,many\nmug,oslo,2\n", 60, scope="full")
    assert outcome(status) == {"applied": 1, "rejected": 1}
    assert (await on_hand(connection))["tee", "oslo"] == 5


# Files ---------------------------------------------------------------------

AS_NDJSON = (
    '{"sku": "tee", "location": "oslo", "on_hand": 5}\n'
    '{"sku": "mug", "location": "oslo", "on_hand": 0}\n'
    '{"sku": "tee", "location": "rome", "on_hand": 7}\n'
)


@pytest.mark.parametrize("encoding", ["identity", "gzip"])
@pytest.mark.parametrize(("form", "content"), [("csv", STOCK), ("ndjson", AS_NDJSON)])
async def test_every_form_of_a_file_says_the_same(
    connection: Connection, pool: Pool, shop: Shop, form: str, encoding: str, content: str
) -> None:
    raw = gzip.compress(content.encode()) if encoding == "gzip" else content.encode()
    status = await send(pool, shop, raw, format=form, encoding=encoding)
    assert outcome(status) == {"applied": 3}
    assert await on_hand(connection) == {
        ("tee", "oslo"): 5,
        ("mug", "oslo"): 0,
        ("tee", "rome"): 7,
    }


@pytest.mark.parametrize(
    ("content", "fields", "failure"),
    [
        (b"", {}, "lacks the column sku"),
        (b"tee,oslo,5\n", {}, "has a column 'tee'"),
        (STOCK.encode() + b"\xff\n", {}, "not UTF-8"),
        (STOCK.encode(), {"encoding": "gzip"}, "not gzip"),
        (gzip.compress(STOCK.encode())[:-4], {"encoding": "gzip"}, "cut off"),
    ],
)
async def test_a_file_that_cannot_be_read_to_its_end_changes_nothing(
    connection: Connection,
    pool: Pool,
    shop: Shop,
    content: bytes,
    fields: dict[str, str],
    failure: str,
) -> None:
    status = await send(pool, shop, content, **fields)
    assert status.status == "failed"
    assert failure in (status.failure or "")
    assert status.failure.endswith("Nothing was applied.")
    assert status.finished_at is not None
    assert await on_hand(connection) == {}
    assert await count(connection, "import_pieces") == 0


async def test_a_file_has_a_bound_of_rows(
    pool: Pool, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot_survey, "MAX_IMPORT_ROWS", 2)
    status = await send(pool, shop, STOCK)
    assert (status.status, status.rows_read) == ("failed", 0)
    assert "more than 2 rows" in (status.failure or "")


async def test_names_are_forgotten_at_their_bound_and_looked_up_again(
    connection: Connection, pool: Pool, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot_survey, "MAX_IMPORT_NAMES", 1)
    monkeypatch.setattr(imports, "IMPORT_PIECE_BYTES", 12)
    assert outcome(await send(pool, shop, STOCK)) == {"applied": 3}


async def test_a_body_that_is_too_large_is_refused(
    connection: Connection, pool: Pool, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imports, "MAX_IMPORT_BYTES", 10)
    with pytest.raises(PayloadTooLargeError, match="at most 10 bytes"):
        await queue(pool, request(shop), STOCK)
    assert (await import_status(pool, 1)).status == "failed"
    assert await count(connection, "import_pieces") == 0


async def test_an_upload_that_breaks_off_is_failed(
    pool: Pool, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield STOCK.encode()
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await receive(pool, request(shop), broken())
    status = await import_status(pool, 1)
    assert (status.status, status.failure) == (
        "failed",
        "The upload broke off: send the file again.",
    )


async def test_an_upload_whose_process_died_is_failed(
    connection: Connection, pool: Pool, shop: Shop
) -> None:
    import_id = await queue(pool, request(shop), STOCK)
    await connection.execute(
        "UPDATE imports SET status = 'receiving', received_at = now() - interval '1 hour'"
    )
    assert await run_waiting_imports(pool, lambda item_ids: None) == 0
    assert (await import_status(pool, import_id)).status == "failed"


# Crashes and company -------------------------------------------------------


@pytest.fixture
async def wide_shop(connection: Connection, shop: Shop) -> str:
    """Forty more items in both locations, and a file that counts them."""
    skus = [f"item-{number:02d}" for number in range(40)]
    await connection.execute("INSERT INTO items (sku) SELECT unnest($1::text[])", skus)
    rows = [
        f"{sku},{location},{number}"
        for location in ("oslo", "rome")
        for number, sku in enumerate(skus)
    ]
    return "\n".join([HEADER, *rows, "item-00,oslo,99", "hat,oslo,1"])


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of some three items."""
    monkeypatch.setattr(snapshot, "IMPORT_CHUNK_ROWS", 5)


async def right_after_all(connection: Connection, pool: Pool, import_id: int) -> None:
    """The file of the wide shop has been applied, each row once."""
    status = await import_status(pool, import_id)
    assert outcome(status) == {"applied": 80, "rejected": 2}
    assert len(await errors(pool, status)) == 2
    assert await count(connection, "movements") == 80
    expected = {
        (f"item-{number:02d}", location): number
        for number in range(40)
        for location in ("oslo", "rome")
    }
    assert await on_hand(connection) == expected | {("item-00", "oslo"): 99}


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("after_chunks", [1, 2, 7])
async def test_an_import_that_is_stopped_goes_on_where_it_was(
    connection: Connection, pool: Pool, shop: Shop, wide_shop: str, after_chunks: int
) -> None:
    import_id = await queue(pool, request(shop), wide_shop)
    commits: list[list[int]] = []
    running: asyncio.Task[bool]

    def stop(item_ids: list[int]) -> None:
        commits.append(item_ids)
        if len(commits) == after_chunks:
            running.cancel()

    running = asyncio.create_task(run_import(pool, import_id, stop))
    with pytest.raises(asyncio.CancelledError):
        await running
    status = await import_status(pool, import_id)
    assert status.status == "running"
    assert 0 < status.progress < 1
    assert await run_waiting_imports(pool, commits.append) == 1
    await right_after_all(connection, pool, import_id)
    # No item is told of twice: a chunk has all of an item, and commits once.
    told = [item_id for item_ids in commits for item_id in item_ids]
    assert len(told) == len(set(told)) == 40
    assert await run_waiting_imports(pool, commits.append) == 0


@pytest.mark.usefixtures("small_chunks")
async def test_an_import_survives_a_lost_database(
    connection: Connection, pool: Pool, shop: Shop, wide_shop: str, database_url: str
) -> None:
    import_id = await queue(pool, request(shop), wide_shop)
    others = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid NOT IN (pg_backend_pid(), $1)"
    )
    killer = await asyncpg.connect(database_url)
    kills: list[asyncio.Task[Any]] = []

    def kill(item_ids: list[int]) -> None:
        if not kills:
            kills.append(asyncio.create_task(killer.execute(others, connection.get_server_pid())))

    with pytest.raises(imports.LOST_CONNECTION):
        for _ in range(100):
            await run_import(pool, import_id, kill)
    await asyncio.gather(*kills)
    await killer.close()
    assert await run_waiting_imports(pool, lambda item_ids: None) == 1
    await right_after_all(connection, pool, import_id)


async def test_a_fault_of_ours_ends_an_import_and_says_what_was_applied(
    connection: Connection, pool: Pool, shop: Shop
) -> None:
    def fail(item_ids: list[int]) -> None:
        raise RuntimeError("a bug")

    import_id = await queue(pool, request(shop), f"{HEADER}\ntee,oslo,5\n")
    assert await run_import(pool, import_id, fail)
    status = await import_status(pool, import_id)
    assert (status.status, status.rows_applied) == ("failed", 1)
    assert "1 rows were applied" in status.failure
    assert await run_waiting_imports(pool, fail) == 0


@pytest.mark.usefixtures("small_chunks")
async def test_one_process_runs_an_import(
    connection: Connection, pool: Pool, shop: Shop, wide_shop: str
) -> None:
    import_id = await queue(pool, request(shop), wide_shop)
    ran = await asyncio.gather(
        run_import(pool, import_id, lambda item_ids: None),
        run_import(pool, import_id, lambda item_ids: None),
    )
    assert sorted(ran) == [False, True]
    await right_after_all(connection, pool, import_id)


@pytest.mark.usefixtures("small_chunks")
async def test_a_mark_that_another_process_moved_is_a_fence(
    connection: Connection, pool: Pool, shop: Shop, wide_shop: str
) -> None:
    import_id = await queue(pool, request(shop), wide_shop)
    await connection.execute("UPDATE imports SET lane_items = '{0,0}'")

    def move(item_ids: list[int]) -> None:
        raise snapshot.RunElsewhereError("import 1")

    assert await run_import(pool, import_id, move)
    status = await import_status(pool, import_id)
    assert status.status == "running"
    assert await run_waiting_imports(pool, lambda item_ids: None) == 1
    await right_after_all(connection, pool, import_id)


@pytest.mark.usefixtures("small_chunks")
async def test_two_imports_at_once_come_to_the_newer_one(
    connection: Connection, pool: Pool, shop: Shop, wide_shop: str
) -> None:
    lines = wide_shop.splitlines()
    backwards = "\n".join([lines[0], *reversed(lines[1:])]).replace(",99", ",0")
    older = await queue(pool, request(shop, 0), backwards)
    newer = await queue(pool, request(shop, 60), wide_shop)
    await asyncio.gather(
        run_import(pool, older, lambda item_ids: None),
        run_import(pool, newer, lambda item_ids: None),
    )
    for import_id in (older, newer):
        assert (await import_status(pool, import_id)).status == "completed"
    assert (await on_hand(connection))["item-00", "oslo"] == 99
    status = await send(pool, shop, wide_shop, 60)
    assert status.rows_unchanged == 80


@pytest.mark.usefixtures("small_chunks")
async def test_stock_is_promised_and_sold_while_files_come_in(
    connection: Connection, pool: Pool, shop: Shop, wide_shop: str, ledger: Ledger
) -> None:
    rows = await connection.fetch("SELECT sku, item_id FROM items")
    wide = msgspec.structs.replace(shop, items=dict(rows))
    await send(pool, shop, wide_shop)
    done = asyncio.Event()

    async def buy(first: int) -> int:
        sold = 0
        while not done.is_set():
            number = (first + 7 * sold) % 40
            sku = f"item-{number:02d}"
            lines = [(sku, 1, "oslo"), ("item-39", 1, "rome")]
            await ledger.submit(wide.reserve(f"cart-{first}-{sold}", *lines))
            sale = wide.fact(Kind.SALE, (sku, 1, "rome"), at(1_000), source="till")
            await ledger.submit(wide.record(sale))
            sold += 1
        return sold

    buyers = [asyncio.create_task(buy(first)) for first in range(4)]
    for minute in (60, 120, 180):
        # Every other file changes half of the figures.
        content = wide_shop if minute != 120 else wide_shop.replace("1,", "2,")
        assert (await send(pool, shop, content, minute)).status == "completed"
    done.set()
    sold = sum(await asyncio.gather(*buyers))
    assert sold > 0
    expected = 2 * sum(range(40)) + 99 - sold
    assert sum((await on_hand(connection)).values()) == expected


async def test_chunks_collide_and_run_again(
    connection: Connection, pool: Pool, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply_chunk = snapshot.apply_chunk
    attempts: list[int] = []

    async def collide(*arguments: Any) -> list[int]:
        item_ids = await apply_chunk(*arguments)
        attempts.append(1)
        if len(attempts) < 3:
            raise asyncpg.DeadlockDetectedError("the other one won")
        return item_ids

    monkeypatch.setattr(snapshot, "apply_chunk", collide)
    assert outcome(await send(pool, shop, f"{HEADER}\ntee,oslo,5\n")) == {"applied": 1}
    assert len(attempts) == 3
    assert await count(connection, "movements") == 1


# How it went ---------------------------------------------------------------


async def test_a_source_hears_how_it_did(connection: Connection, pool: Pool, shop: Shop) -> None:
    await send(pool, shop, STOCK)
    await send(pool, shop, f"{STOCK}hat,oslo,1\n", 60)
    await send(pool, shop, STOCK, 30)
    row = await connection.fetchrow(
        "SELECT applied, superseded, rejected, last_occurred_at, last_heard_at IS NOT NULL"
        " FROM sources WHERE source = 'erp'"
    )
    assert tuple(row) == (6, 3, 1, at(60), True)


async def test_an_import_that_waits_says_so(pool: Pool, shop: Shop) -> None:
    import_id = await queue(pool, request(shop), STOCK)
    status = await import_status(pool, import_id)
    assert (status.import_id, status.status, status.progress) == (str(import_id), "queued", 0.0)
    assert status.started_at is None
    assert await import_status(pool, 999) is None
