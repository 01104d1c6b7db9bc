"""The proof: it counts what it read, passes sound books, and finds each way they can disagree."""

import pytest
from tests.seeding import Shop, body, confirm, seed_shop, stock

from truestock.db import Connection
from truestock.ledger import check as check_module
from truestock.ledger.check import MAX_DRIFTS, Drift, DriftKind, check
from truestock.ledger.writer import Ledger
from truestock.model.stock import Bucket


@pytest.fixture
async def shop(connection: Connection, database_url: str) -> Shop:
    """A hold of 3 and an order of 2 on ten tees in Oslo, in sound books."""
    shop = await seed_shop(connection)
    ledger = Ledger(database_url, lambda levels, packed: None)
    await ledger.open()
    await stock(ledger, shop, ("tee", 10, "oslo"), ("mug", 5, "rome"))
    assert (await ledger.submit(shop.reserve("h1", ("tee", 3, "oslo")))).status == 201
    assert (await ledger.submit(shop.reserve("h2", ("tee", 2, "oslo")))).status == 201
    assert body(await ledger.submit(confirm("h2", "o1")))["status"] == "open"
    await ledger.close()
    return shop


TEE = ("tee", "oslo")
BROKEN = {
    "a level that no movement explains": (
        "UPDATE levels SET unavailable = 1 WHERE held > 0",
        [
            Drift(DriftKind.BALANCE, *TEE, Bucket.UNAVAILABLE, 0, 1),
            Drift(DriftKind.MOVEMENTS, *TEE, Bucket.UNAVAILABLE, 0, 1),
        ],
    ),
    "movements without a level": (
        "DELETE FROM levels WHERE held = 0",
        [
            Drift(DriftKind.BALANCE, "mug", "rome", Bucket.ON_HAND, 5, 0),
            Drift(DriftKind.MOVEMENTS, "mug", "rome", Bucket.ON_HAND, 5, 0),
        ],
    ),
    "a wrong running balance": (
        "UPDATE movements SET balance = 11 WHERE bucket = 'on_hand' AND balance = 10",
        [Drift(DriftKind.BALANCE, *TEE, Bucket.ON_HAND, 11, 10)],
    ),
    "a lost claim of an order": (
        "DELETE FROM claims WHERE bucket = 'allocated'",
        [Drift(DriftKind.CLAIMS, *TEE, Bucket.ALLOCATED, 0, 2)],
    ),
    "a lost claim of a hold": (
        "DELETE FROM claims WHERE bucket = 'held'",
        [
            Drift(DriftKind.CLAIMS, *TEE, Bucket.HELD, 0, 3),
            Drift(DriftKind.HOLD, *TEE, Bucket.HELD, 3, 0, "h1"),
        ],
    ),
    "a claim that expires apart from its hold": (
        "UPDATE claims SET expires_at = expires_at + interval '1s' WHERE bucket = 'held'",
        [Drift(DriftKind.HOLD, *TEE, Bucket.HELD, 3, 0, "h1")],
    ),
    "a resolved hold that still claims": (
        "UPDATE reservations SET status = 'released', resolved_at = now() WHERE status = 'held'",
        [Drift(DriftKind.ORPHAN, *TEE, Bucket.HELD, 0, 3, "h1")],
    ),
    "a claim of an order that is not there": (
        "DELETE FROM orders",
        [Drift(DriftKind.ORPHAN, *TEE, Bucket.ALLOCATED, 0, 2, "o1")],
    ),
}


async def test_counts_what_it_read_and_finds_nothing_in_sound_books(
    connection: Connection, shop: Shop
) -> None:
    proof = await check(connection)
    # Two receipts, two holds, and the confirmation's two sides.
    assert (proof.levels, proof.movements, proof.claims, proof.holds) == (2, 6, 2, 1)
    assert proof.drifts == []


async def test_empty_books_are_sound(connection: Connection) -> None:
    assert (await check(connection)).drifts == []


@pytest.mark.parametrize("broken", BROKEN)
async def test_finds(connection: Connection, shop: Shop, broken: str) -> None:
    statement, drifts = BROKEN[broken]
    await connection.execute(statement)
    assert (await check(connection)).drifts == drifts


@pytest.mark.parametrize("broken", BROKEN)
async def test_finds_the_same_in_slices_of_one(
    connection: Connection, shop: Shop, broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for bound in ("SLICE_LEVELS", "SLICE_HOLDS", "SLICE_CLAIMS"):
        monkeypatch.setattr(check_module, bound, 1)
    statement, drifts = BROKEN[broken]
    await connection.execute(statement)
    assert (await check(connection)).drifts == drifts


async def test_stops_at_its_bound(connection: Connection, shop: Shop) -> None:
    await connection.execute(
        "INSERT INTO levels (item_id, location_id, on_hand) SELECT 9, n, 1"
        " FROM generate_series(1, $1::int) n",
        MAX_DRIFTS + 1,
    )
    proof = await check(connection)
    assert len(proof.drifts) == MAX_DRIFTS
    # What it speaks of is not known by name, and still it shows.
    assert proof.drifts[0] == Drift(DriftKind.BALANCE, None, "oslo", Bucket.ON_HAND, 0, 1)
