"""Thousands of random steps through two Ledgers, each answer and each level held against an oracle.

`pytest --hypothesis-profile=soak` takes far more of them.
"""

import asyncio
from collections.abc import Coroutine, Iterator
from datetime import timedelta
from typing import Any, TypeVar

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from tests.flow.oracle import Expected, Oracle
from tests.seeding import (
    LOCATIONS,
    MORNING,
    SKUS,
    SOURCES,
    Clock,
    assert_no_drift,
    at,
    body,
    confirm,
    seed_shop,
    token,
)
from tests.unit.paper import SHOP

from truestock import db
from truestock.db import Connection
from truestock.ledger.commands import Answer, Token
from truestock.ledger.writer import Ledger
from truestock.model.buffers import BufferRule
from truestock.model.place import Want
from truestock.model.record import Record
from truestock.model.reservation import (
    ChangeLines,
    Expire,
    Extend,
    Release,
    ReservationRequest,
    Reserve,
)
from truestock.model.stock import Figures, Key, Kind

T = TypeVar("T")

NAMES = {
    (item, location): (sku, place)
    for sku, item in SHOP.items.items()
    for place, location in SHOP.locations.items()
}
TABLES = [
    "levels",
    "movements",
    "facts",
    "reservations",
    "claims",
    "orders",
    "fulfilments",
    "idempotent_answers",
]
SAFETY_STOCK = {("mug", "oslo"): 1, ("cap", "rome"): 2}

# Commands -----------------------------------------------------------------

# Documents are drawn by number, and stand for one of those that are there by then.
numbers = st.integers(0, 9).map(str)
buffers = st.sampled_from(
    [BufferRule(), BufferRule(), BufferRule(safety_stock=1), BufferRule(max_sellable=3)]
)
places = st.sampled_from([["oslo"], ["rome"], ["oslo", "rome"], ["rome", "oslo"]])
lines = st.tuples(st.sampled_from(SKUS), st.integers(1, 4), places)


def make_wants(drawn: list[tuple[str, int, list[str]]], buffer: BufferRule) -> tuple[Want, ...]:
    return tuple(
        Want(str(n), sku, quantity, tuple(SHOP.place(sku, place, buffer) for place in where))
        for n, (sku, quantity, where) in enumerate(drawn)
    )


def make_reserve(number: str, wants: tuple[Want, ...], ttl_seconds: int, partial: bool) -> Reserve:
    request = ReservationRequest("cart", "web", [], ttl_seconds=ttl_seconds, allow_partial=partial)
    return Reserve(number, request, wants)


def make_record(source: str, drawn: list[tuple[str, str, str, int, int, str]]) -> Record:
    return SHOP.record(
        *(
            SHOP.fact(kind, (sku, units, where), at(minute), event_id=event, source=source)
            for kind, sku, where, units, minute, event in drawn
        )
    )


wants = st.builds(make_wants, st.lists(lines, min_size=1, max_size=4), buffers)
reserves = st.builds(make_reserve, numbers, wants, st.sampled_from([60, 600, 3600]), st.booleans())
changes = st.builds(ChangeLines, numbers, wants)
extends = st.builds(Extend, numbers, st.sampled_from([30, 900, 7200]))
releases = st.builds(Release, numbers)
expires = st.builds(Expire, numbers)
confirms = st.builds(confirm, numbers, st.integers(1, 12).map("r{}".format)) | st.builds(
    confirm, numbers, st.just("o"), st.just(("tee", 1, "oslo"))
)
kinds = st.sampled_from([kind.value for kind in Kind][:9])
event_ids = st.integers(0, 60).map("e{}".format)
facts = st.tuples(
    kinds,
    st.sampled_from(SKUS),
    st.sampled_from(LOCATIONS),
    st.integers(1, 30),
    st.integers(0, 12),
    event_ids,
)
records = st.builds(make_record, st.sampled_from(SOURCES), st.lists(facts, min_size=1, max_size=6))
commands = st.one_of(reserves, changes, extends, releases, expires, confirms, records)


# The world ----------------------------------------------------------------


class World:
    """A database, two open Ledgers on it and a clock, for one example after the other."""

    def __init__(self, database_url: str) -> None:
        self.database_url = database_url
        self.clock = Clock()
        self.heard: dict[Key, Figures] = {}
        self.runner = asyncio.Runner()
        self.connection: Connection = self.run(db.connect(database_url))
        assert self.run(seed_shop(self.connection)) == SHOP
        self.ledgers = [self.run(self.open_ledger()) for _ in range(2)]

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    async def open_ledger(self) -> Ledger:
        ledger = Ledger(self.database_url, self.hear, clock=lambda read_at: self.clock.now)
        await ledger.open()
        return ledger

    def hear(self, levels: list[Figures], packed: bytes) -> None:
        self.heard.update({(level.item_id, level.location_id): level for level in levels})

    async def empty(self) -> None:
        """Begin anew: no stock, no promises, and the safety stocks of some levels."""
        self.clock.now = MORNING + timedelta(minutes=20)
        self.heard.clear()
        for table in TABLES:
            await self.connection.execute(f"DELETE FROM {table}")
        for (item_id, location_id), name in NAMES.items():
            if name in SAFETY_STOCK:
                await self.connection.execute(
                    "INSERT INTO levels (item_id, location_id, safety_stock) VALUES ($1, $2, $3)",
                    item_id,
                    location_id,
                    SAFETY_STOCK[name],
                )

    async def submit(self, side: int, asked: list[tuple[Any, Token | None]]) -> list[Answer]:
        return await asyncio.gather(*(self.ledgers[side].submit(*one) for one in asked))

    async def restart(self, side: int) -> None:
        await self.ledgers[side].close()
        self.ledgers[side] = await self.open_ledger()

    async def close(self) -> None:
        for ledger in self.ledgers:
            await ledger.close()
        await self.connection.close()


# The machine --------------------------------------------------------------


class LedgerMachine(RuleBasedStateMachine):
    """Steps in any order, on either Ledger, alone or many at once."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world
        self.world.run(world.empty())
        self.oracle = Oracle(world.clock.now, NAMES)
        self.oracle.safety_stock.update(SAFETY_STOCK)
        self.kept: list[tuple[Any, Token, Answer]] = []
        self.sent = 0

    @initialize(stocked=st.lists(st.integers(4, 40), min_size=5, max_size=5))
    def open_shop(self, stocked: list[int]) -> None:
        """All levels have stock from the start but one, which is not there at all."""
        levels = [level for level in NAMES.values() if level != ("cap", "oslo")]
        counts = [
            SHOP.fact("count", (sku, units, where), at(0), event_id=f"{sku} at {where}")
            for (sku, where), units in zip(levels, stocked, strict=True)
        ]
        self.send(0, [SHOP.record(*counts)])

    @rule(side=st.integers(0, 1), command=reserves)
    def reserve(self, side: int, command: Reserve) -> None:
        self.send(side, [msgspec.structs.replace(command, document_id=f"r{self.sent}")])

    @precondition(lambda self: self.oracle.holds)
    @rule(side=st.integers(0, 1), command=changes | extends | releases | expires | confirms)
    def go_on(self, side: int, command: Any) -> None:
        self.send(side, [self.aim(command)])

    @rule(side=st.integers(0, 1), command=records)
    def report(self, side: int, command: Record) -> None:
        self.send(side, [command])

    @rule(side=st.integers(0, 1), crowd=st.lists(commands, min_size=2, max_size=6))
    def all_at_once(self, side: int, crowd: list[Any]) -> None:
        self.send(side, [self.aim(command) for command in crowd])

    @precondition(lambda self: self.oracle.holds)
    @rule(seconds=st.sampled_from([0.000001, 29.999999, 60, 300, 600]), sweeping=st.booleans())
    def wait(self, seconds: float, sweeping: bool) -> None:
        """Time passes, and what ran out is swept up at once by the job, or not."""
        self.world.clock.forward(seconds)
        self.oracle.now = self.world.clock.now
        if sweeping:
            self.send(0, [Expire(name) for name in self.oracle.due()])

    @precondition(lambda self: self.kept)
    @rule(side=st.integers(0, 1), which=st.integers(0, 200))
    def send_again(self, side: int, which: int) -> None:
        """The same key gets the first answer, byte by byte, on either side."""
        command, key, first = self.kept[which % len(self.kept)]
        (again,) = self.world.run(self.world.submit(side, [(command, key)]))
        assert (again.status, again.body, again.replayed) == (first.status, first.body, True)

    @precondition(lambda self: self.kept)
    @rule(side=st.integers(0, 1), which=st.integers(0, 200), command=commands)
    def send_another_with_the_same_key(self, side: int, which: int, command: Any) -> None:
        _, key, _ = self.kept[which % len(self.kept)]
        other = token(key.idempotency_key, "something else")
        (answer,) = self.world.run(self.world.submit(side, [(self.aim(command), other)]))
        assert (answer.status, body(answer)["code"]) == (422, "idempotency_mismatch")

    @precondition(lambda self: self.sent % 5 == 0)
    @rule(side=st.integers(0, 1))
    def restart(self, side: int) -> None:
        self.world.run(self.world.restart(side))

    @invariant()
    def levels_are_as_the_oracle_says(self) -> None:
        stored = self.world.run(
            self.world.connection.fetch(
                "SELECT item_id, location_id, on_hand, unavailable, held, allocated FROM levels"
            )
        )
        for item_id, location_id, *found in stored:
            level = NAMES[item_id, location_id]
            assert found == [
                self.oracle.on_hand(level),
                self.oracle.unavailable(level),
                self.oracle.held(level, live=False),
                self.oracle.allocated(level),
            ]

    def teardown(self) -> None:
        self.world.run(assert_no_drift(self.world.database_url))

    def aim(self, command: Any) -> Any:
        """Let a drawn document stand for one that is there, the open ones first, or for none."""
        if isinstance(command, Record):
            return command
        holds = self.oracle.holds
        names = sorted(holds, key=lambda name: holds[name].status != "held")
        number = int(command.document_id)
        name = names[number % len(names)] if names and number < 9 else f"nobody {self.sent}"
        return msgspec.structs.replace(command, document_id=name)

    def send(self, side: int, crowd: list[Any]) -> None:
        """Submit commands at once, and hold what comes of them against the oracle."""
        asked: list[tuple[Any, Token | None]] = []
        for command in crowd:
            self.sent += 1
            asked.append((command, token(f"key {self.sent}") if self.sent % 3 else None))
        self.world.heard.clear()
        answers = self.world.run(self.world.submit(side, asked))
        for (command, key), answer in zip(asked, answers, strict=True):
            expected = self.oracle.expect(command)
            assert seen(answer, expected) == expected, command
            if key and answer.kept:
                self.kept.append((command, key, answer))
        self.compare_what_readers_heard()

    def compare_what_readers_heard(self) -> None:
        for key, level in self.world.heard.items():
            name = NAMES[key]
            assert level.held == self.oracle.held(name, live=True)
            assert level.free == self.oracle.free(name)
            if (first := self.oracle.first_expiry(name)) is not None:
                assert level.valid_until is not None
                until = MORNING.fromtimestamp(level.valid_until / 1e6, MORNING.tzinfo)
                assert self.world.clock.now < until <= first


def seen(answer: Answer, expected: Expected) -> Expected:
    """Of an answer, the parts that the oracle speaks of."""
    said = body(answer)
    if "results" in said:
        said["results"] = [result["status"] for result in said["results"]]
    if "fulfilments" in said:
        said["locations"] = [part["location"] for part in said["fulfilments"]]
    if "shortages" in said:
        said["shortages"] = [
            {"line_id": short["line_id"], "available": short["available"]}
            for short in said["shortages"]
        ]
    return answer.status, {name: said.get(name) for name in expected[1]}


@pytest.fixture
def world(database_url: str) -> Iterator[World]:
    world = World(database_url)
    yield world
    world.run(world.close())
    world.runner.close()


def test_the_ledger_does_what_its_rules_say(world: World) -> None:
    run_state_machine_as_test(lambda: LedgerMachine(world), settings=settings())
