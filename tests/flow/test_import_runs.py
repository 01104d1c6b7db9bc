"""Runs of snapshot imports: crashes lose nothing and repeat nothing, and nobody gets in the way."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import msgspec
import pytest
from tests.flow.importing import (
    HEADER,
    STOCK,
    count,
    errors,
    nobody,
    on_hand,
    outcome,
    queue,
    request,
    send,
)
from tests.seeding import Shop, assert_no_drift, at, seed_shop

from truestock import db
from truestock.db import LOST_CONNECTION, SQL, Connection, Pool
from truestock.flows import imports
from truestock.flows.imports import (
    import_status,
    run_import,
    run_waiting_imports,
)
from truestock.ledger import snapshot
from truestock.ledger.batch import run_batch
from truestock.ledger.check import check
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

    async def stop(item_ids: list[int]) -> None:
        commits.append(item_ids)
        if len(commits) == after_chunks:
            running.cancel()

    async def note(item_ids: list[int]) -> None:
        commits.append(item_ids)

    running = asyncio.create_task(run_import(pool, import_id, stop))
    with pytest.raises(asyncio.CancelledError):
        await running
    status = await import_status(pool, import_id)
    assert status.status == "running"
    assert 0 < status.progress < 1
    assert await run_waiting_imports(pool, note) == 1
    await right_after_all(connection, pool, import_id)
    # Each item is told of once, in the outbox at least: a stop may come between commit and call.
    rows = await connection.fetch("SELECT events FROM outbox")
    events = [event for row in rows for event in msgspec.json.decode(row["events"])]
    told = [item_id for event in events for item_id in event["data"]["item_ids"]]
    assert len(told) == len(set(told)) == 40
    assert {item_id for item_ids in commits for item_id in item_ids} <= set(told)
    assert await run_waiting_imports(pool, note) == 0


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

    async def kill(item_ids: list[int]) -> None:
        if not kills:
            kills.append(asyncio.create_task(killer.execute(others, connection.get_server_pid())))

    with pytest.raises(LOST_CONNECTION):
        await run_import(pool, import_id, kill)
    await asyncio.gather(*kills)
    await killer.close()
    assert await run_waiting_imports(pool, nobody) == 1
    await right_after_all(connection, pool, import_id)


async def test_a_fault_of_ours_ends_an_import_and_says_what_was_applied(
    connection: Connection, pool: Pool, shop: Shop
) -> None:
    async def fail(item_ids: list[int]) -> None:
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
        run_import(pool, import_id, nobody),
        run_import(pool, import_id, nobody),
    )
    assert sorted(ran) == [False, True]
    await right_after_all(connection, pool, import_id)


@pytest.mark.usefixtures("small_chunks")
async def test_a_mark_that_another_process_moved_is_a_fence(
    connection: Connection,
    pool: Pool,
    shop: Shop,
    wide_shop: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import_id = await queue(pool, request(shop), wide_shop)
    with monkeypatch.context() as patch:
        patch.setattr(imports, "apply_lane", from_a_stale_mark)
        assert not await run_import(pool, import_id, nobody)
    assert await count(connection, "movements") == 0
    assert await run_waiting_imports(pool, nobody) == 1
    await right_after_all(connection, pool, import_id)


async def from_a_stale_mark(*arguments: Any) -> None:
    """Apply a lane as one who knows nothing of what others have done."""
    connection, asked, lane, counts, _, on_change = arguments
    await snapshot.apply_lane(connection, asked, lane, counts, -1, on_change)


@pytest.mark.usefixtures("small_chunks")
async def test_two_imports_at_once_come_to_the_newer_one(
    connection: Connection, pool: Pool, shop: Shop, wide_shop: str
) -> None:
    lines = wide_shop.splitlines()
    backwards = "\n".join([lines[0], *reversed(lines[1:])]).replace(",99", ",0")
    older = await queue(pool, request(shop, 0), backwards)
    newer = await queue(pool, request(shop, 60), wide_shop)
    await asyncio.gather(
        run_import(pool, older, nobody),
        run_import(pool, newer, nobody),
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


async def test_a_chunk_sees_what_it_waited_for(
    connection: Connection, pool: Pool, shop: Shop
) -> None:
    await send(pool, shop, STOCK)
    import_id = await queue(pool, request(shop, 60), f"{HEADER}\ntee,oslo,50\n")
    async with connection.transaction():
        # A sale that is about to commit, as the ledger writes it.
        await connection.execute(
            "WITH sold AS (UPDATE levels SET on_hand = on_hand - 1, moved_at = $1,"
            " version = nextval('ledger_seq') WHERE on_hand = 5 RETURNING *)"
            " INSERT INTO movements (seq, item_id, location_id, bucket, kind, delta, balance,"
            " occurred_at, recorded_at) SELECT version, item_id, location_id, 'on_hand', 'sale',"
            " -1, on_hand, moved_at, now() FROM sold",
            at(90),
        )
        running = asyncio.create_task(run_import(pool, import_id, nobody))
        await until_one_waits(pool)
    await running
    assert (await on_hand(connection))["tee", "oslo"] == 49
    seqs = await connection.fetchval("SELECT array_agg(seq ORDER BY recorded_at) FROM movements")
    assert seqs == sorted(seqs)


async def until_one_waits(pool: Pool) -> None:
    """Until some connection waits for a lock."""
    query = (
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    for _ in range(1_000):
        if await pool.fetchval(query):
            return
        await asyncio.sleep(0.01)
    raise AssertionError("nobody waits")


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


async def test_a_level_that_is_made_under_an_import_keeps_its_facts(
    database_url: str, connection: Connection, pool: Pool, shop: Shop, monkeypatch: Any
) -> None:
    """The level is not there when the chunk locks, and another writer is at it when it looks."""
    other = await db.connect(database_url)
    transaction = other.transaction()
    key = (shop.items["tee"], shop.locations["oslo"])
    fetchval, made = type(connection).fetchval, []

    async def lock_then_let_others_in(
        self: Connection, query: str, *values: Any, **options: Any
    ) -> Any:
        answer = await fetchval(self, query, *values, **options)
        if query == SQL["lock_counted_levels"] and not made:
            made.append(key)
            await other.execute(SQL["create_levels"], [key[0]], [key[1]])
            await transaction.start()
            command = shop.record(shop.fact("receipt", ("tee", 5, "oslo"), at(10)))
            await run_batch(other, [(command, None)], lambda read_at: read_at)
            asyncio.get_running_loop().call_later(
                0.2, lambda: made.append(asyncio.ensure_future(transaction.commit()))
            )
        return answer

    monkeypatch.setattr(type(connection), "fetchval", lock_then_let_others_in)
    import_id = await queue(pool, request(shop), f"{HEADER}\ntee,oslo,7\n")
    assert await run_import(pool, import_id, nobody)
    await made[1]
    await other.close()
    level = await connection.fetchrow("SELECT on_hand FROM levels")
    assert level["on_hand"] == 7 + 5
    assert (await check(connection)).drifts == []
