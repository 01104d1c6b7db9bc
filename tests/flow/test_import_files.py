"""Snapshot files: every form says the same, a broken one changes nothing, an upload has bounds."""

import gzip
from collections.abc import AsyncIterator

import pytest
from tests.flow.importing import (
    STOCK,
    count,
    nobody,
    on_hand,
    outcome,
    queue,
    request,
    send,
)
from tests.seeding import Shop, assert_no_drift, at, seed_shop

from truestock.db import SQL, Connection, Pool
from truestock.flows import imports, snapshot_survey
from truestock.flows.imports import (
    PayloadTooLargeError,
    import_status,
    receive,
    run_waiting_imports,
)

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
    # The second block names a sku of the first one and another one.
    monkeypatch.setattr(imports, "IMPORT_PIECE_BYTES", 35)
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


async def test_an_upload_that_was_given_up_does_not_come_back(
    connection: Connection, pool: Pool, shop: Shop
) -> None:
    async def slow() -> AsyncIterator[bytes]:
        yield STOCK.encode()
        await connection.execute(SQL["fail_import"], "given up", 1)

    with pytest.raises(TimeoutError, match="broke off"):
        await imports.queue(pool, await receive(pool, request(shop), slow()))
    assert await count(connection, "import_pieces") == 0


async def test_an_upload_whose_process_died_is_failed(
    connection: Connection, pool: Pool, shop: Shop
) -> None:
    import_id = await queue(pool, request(shop), STOCK)
    await connection.execute(
        "UPDATE imports SET status = 'receiving', received_at = now() - interval '1 hour'"
    )
    assert await run_waiting_imports(pool, nobody) == 0
    assert (await import_status(pool, import_id)).status == "failed"


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
