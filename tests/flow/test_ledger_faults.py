"""What is answered is on disk, once, whatever happens around it."""

import asyncio
from typing import Any

import asyncpg
import pytest
from asyncpg.transaction import Transaction
from tests.conftest import OpenLedger
from tests.seeding import (
    Shop,
    body,
    figures,
    status_of,
    stock,
    together,
    token,
)

from truestock import db
from truestock.db import Connection
from truestock.ledger import batch, lane, writer
from truestock.ledger.writer import Ledger
from truestock.model.reservation import Reserve


async def test_a_command_that_cannot_be_decided_does_not_fail_its_neighbours(
    ledger: Ledger, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    await stock(ledger, shop, ("tee", 50, "oslo"))

    def decide(command: Reserve, view: object) -> object:
        if command.document_id == "r5":
            raise ZeroDivisionError
        return decide_reserve(command, view)

    decide_reserve = batch.DECIDERS[Reserve]
    monkeypatch.setitem(batch.DECIDERS, Reserve, decide)
    carts = [shop.reserve(f"r{n}", ("tee", 1, "oslo")) for n in range(10)]
    answers = await asyncio.gather(*map(ledger.submit, carts), return_exceptions=True)
    assert isinstance(answers.pop(5), ZeroDivisionError)
    assert {answer.status for answer in answers} == {201}


async def test_a_command_that_cannot_be_written_does_not_fail_its_neighbours(
    ledger: Ledger, shop: Shop
) -> None:
    await stock(ledger, shop, ("tee", 50, "oslo"))
    carts = [shop.reserve(f"r{n}", ("tee", 1, "oslo")) for n in range(9)]
    # PostgreSQL's text has no room for a zero; a flow would have refused this at the door.
    carts.insert(5, shop.reserve("\x00", ("tee", 1, "oslo")))
    answers = await asyncio.gather(*map(ledger.submit, carts), return_exceptions=True)
    assert isinstance(answers.pop(5), asyncpg.CharacterNotInRepertoireError)
    assert {answer.status for answer in answers} == {201}


async def test_a_reader_that_fails_does_not_stop_the_writer(
    open_ledger: OpenLedger, shop: Shop
) -> None:
    def fail(levels: object, packed: object) -> None:
        raise ZeroDivisionError

    ledger = await open_ledger(on_commit=fail)
    async with asyncio.timeout(5):
        await stock(ledger, shop, ("tee", 50, "oslo"))
        assert (await ledger.submit(shop.reserve("r", ("tee", 1, "oslo")))).status == 201


async def test_a_caller_that_goes_away_does_not_take_its_command_along(
    connection: Connection, ledger: Ledger, shop: Shop
) -> None:
    await stock(ledger, shop, ("tee", 5, "oslo"))
    waiting = asyncio.create_task(ledger.submit(shop.reserve("r", ("tee", 1, "oslo")), token("k")))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await ledger.close()
    assert await status_of(connection, "r") == "held"
    assert await connection.fetchval("SELECT status FROM idempotent_answers") == 201


async def test_closing_commits_what_is_queued(
    connection: Connection, ledger: Ledger, shop: Shop
) -> None:
    await stock(ledger, shop, ("tee", 500, "oslo"))
    carts = [ledger.submit(shop.reserve(f"r{n}", ("tee", 1, "oslo"))) for n in range(100)]
    waiting = asyncio.gather(*carts)
    await asyncio.sleep(0)
    await ledger.close()
    assert {answer.status for answer in await waiting} == {201}


async def test_a_full_queue_says_come_again(
    ledger: Ledger, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    await stock(ledger, shop, ("tee", 50, "oslo"))
    monkeypatch.setattr(writer, "MAX_QUEUED_COMMANDS", 10)
    carts = [(shop.reserve(f"r{n}", ("tee", 1, "oslo")), None) for n in range(50)]
    answers = await together(ledger, *carts)
    assert [answer.status for answer in answers] == [201] * 10 + [503] * 40
    assert (body(answers[-1])["code"], answers[-1].retry_after) == ("overloaded", 1)


async def test_a_wait_for_the_database_is_bounded(
    connection: Connection, open_ledger: OpenLedger, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "COMMAND_TIMEOUT", 0.3)
    monkeypatch.setitem(db.SERVER_SETTINGS, "statement_timeout", "100")
    ledger = await open_ledger()
    await stock(ledger, shop, ("tee", 5, "oslo"))
    async with connection.transaction(), asyncio.timeout(5):
        await connection.execute("SELECT FROM levels FOR UPDATE")
        stuck = await ledger.submit(shop.reserve("r", ("tee", 1, "oslo")))
    assert (stuck.status, body(stuck)["code"]) == (503, "overloaded")
    assert (await ledger.submit(shop.reserve("r", ("tee", 1, "oslo")))).status == 201


@pytest.mark.parametrize(
    ("collisions", "status"),
    [(lane.COMMIT_ATTEMPTS - 1, 201), (lane.COMMIT_ATTEMPTS, None)],
)
async def test_a_command_that_collides_is_run_again_within_a_bound(
    ledger: Ledger,
    shop: Shop,
    monkeypatch: pytest.MonkeyPatch,
    collisions: int,
    status: int | None,
) -> None:
    await stock(ledger, shop, ("tee", 5, "oslo"))
    run_batch, left = lane.run_batch, [None] * collisions

    async def collide(*batch: Any) -> Any:
        outcome = await run_batch(*batch)
        if left:
            left.pop()
            raise asyncpg.UniqueViolationError
        return outcome

    monkeypatch.setattr(lane, "run_batch", collide)
    if status is None:
        with pytest.raises(asyncpg.UniqueViolationError):
            await ledger.submit(shop.reserve("r", ("tee", 1, "oslo")))
    else:
        assert (await ledger.submit(shop.reserve("r", ("tee", 1, "oslo")))).status == status


@pytest.mark.parametrize("committed", [True, False])
async def test_a_connection_lost_during_the_commit_leaves_no_doubt(
    connection: Connection,
    ledger: Ledger,
    shop: Shop,
    monkeypatch: pytest.MonkeyPatch,
    committed: bool,
) -> None:
    await stock(ledger, shop, ("tee", 5, "oslo"))
    commit = Transaction.commit

    async def lose_the_answer(transaction: Transaction) -> None:
        monkeypatch.undo()
        if committed:
            await commit(transaction)
        transaction._connection.terminate()
        raise asyncpg.ConnectionDoesNotExistError

    monkeypatch.setattr(Transaction, "commit", lose_the_answer)
    # Without a key: run again although it had been committed, it would find its own id taken.
    answer = await ledger.submit(shop.reserve("r", ("tee", 1, "oslo")))
    assert (answer.status, answer.replayed) == (201, False)
    assert (await figures(connection, shop, "tee", "oslo"))["held"] == 1


async def test_every_answer_survives_its_connection_being_cut(
    connection: Connection, open_ledger: OpenLedger, shop: Shop
) -> None:
    ledgers = [await open_ledger(), await open_ledger()]
    await stock(ledgers[0], shop, ("tee", 100_000, "oslo"), ("mug", 100_000, "rome"))
    answered: list[str] = []

    async def buy(buyer: int) -> None:
        for n in range(30):
            name = f"r{buyer}-{n}"
            cart = shop.reserve(name, ("tee", 1, "oslo"), ("mug", 2, "rome"))
            answer = await ledgers[buyer % 2].submit(cart, token(name))
            assert (answer.status, body(answer)["reservation_id"]) == (201, name)
            answered.append(name)

    async def cut() -> None:
        while buying:
            await asyncio.sleep(0.05)
            await connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name = 'truestock-ledger' AND datname = current_database()"
            )

    buying = True
    cutting = asyncio.create_task(cut())
    await asyncio.gather(*(buy(buyer) for buyer in range(40)))
    buying = False
    await cutting
    stored = await connection.fetch("SELECT reservation_id FROM reservations")
    assert sorted(row["reservation_id"] for row in stored) == sorted(answered)
    assert len(answered) == 1200
    assert (await figures(connection, shop, "tee", "oslo"))["held"] == 1200
    assert (await figures(connection, shop, "mug", "rome"))["held"] == 2400
