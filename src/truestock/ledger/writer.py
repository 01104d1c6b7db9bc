"""The ledger's one door: commands queue here, and the writer commits them in groups.

A batch is whatever came in while the last commit was under way; there is no timer. So a crowd
of buyers costs one lock and one flush, and a lone caller waits for nobody. The writer has two
lanes, so that Python decides one batch while PostgreSQL writes the other; two batches are under
way at once only where they name different documents and levels.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Collection, Sequence
from datetime import datetime

import msgspec
import structlog

from truestock.config import (
    COMMAND_TIMEOUT,
    MAX_BATCH_COMMANDS,
    MAX_BATCH_LEVELS,
    MAX_QUEUED_COMMANDS,
    WRITER_LANES,
)
from truestock.db import LOST_CONNECTION
from truestock.ledger.batch import IN_FLIGHT, Outcome
from truestock.ledger.commands import Answer, Command, Refuse, Token, refusal_answer
from truestock.ledger.lane import Lane
from truestock.model.record import Record
from truestock.model.refusal import Code, Refusal
from truestock.model.reservation import ChangeLines, Reserve
from truestock.model.stock import Figures, Key
from truestock.telemetry import BATCH_SIZE, COMMANDS, COMMITS, QUEUE

log = structlog.get_logger()

# Called after each commit, before its callers are answered: the changed levels, and packed.
OnCommit = Callable[[list[Figures], bytes], None]

OVERLOADED = Refusal(
    Code.OVERLOADED, "The write queue is full: try again in a second.", retry_after=1
)
UNREACHABLE = Refusal(
    Code.OVERLOADED,
    "The database cannot be reached: try again with the same Idempotency-Key.",
    retry_after=2,
)


# A second batch joins one that is under way once the queue is this part of it: 1/2.
JOIN_SHARE = 2
# What an idle lane leaves to the other one that is idle, a batch has this many commands at least.
MIN_SHARE = 32


class Pending(msgspec.Struct, gc=False):
    """A command on its way, and who waits for it."""

    command: Command
    token: Token | None
    done: asyncio.Future[Answer]
    deadline: float


class Batch:
    """Commands that are committed together, and what they name.

    keys: the levels, None once there is a command whose levels only its document says.
    """

    def __init__(self) -> None:
        self.pending: list[Pending] = []
        self.names: set[str] = set()
        self.keys: set[Key] | None = set()

    def add(self, pending: Pending, names: tuple[str, ...], keys: Collection[Key] | None) -> None:
        """Take a command in."""
        self.pending.append(pending)
        self.names.update(names)
        if self.keys is not None:
            if keys is None:
                self.keys = None
            else:
                self.keys.update(keys)

    def collides(self, names: tuple[str, ...], keys: Collection[Key] | None) -> bool:
        """Whether a command may name what this batch names."""
        if keys is None or self.keys is None:
            return True
        return not (self.keys.isdisjoint(keys) and self.names.isdisjoint(names))


class Ledger:
    """The open door. Use `open` and `close`; `submit` takes commands from any task."""

    def __init__(
        self,
        database_url: str,
        on_commit: OnCommit,
        clock: Callable[[datetime], datetime] = lambda read_at: read_at,
    ) -> None:
        self._on_commit = on_commit
        self._lanes = [Lane(database_url, clock, self._wake) for _ in range(WRITER_LANES)]
        self._queue: deque[Pending] = deque()
        self._in_flight: set[tuple[str, str]] = set()
        self._arrived = asyncio.Event()
        self._closing = False
        self._under_way: list[Batch] = []
        self._tasks: list[asyncio.Task[None]] = []
        self.commits = 0

    @property
    def connected(self) -> bool:
        """Whether the writer has its connections."""
        return all(lane.connected for lane in self._lanes)

    async def open(self) -> None:
        """Connect and start the writer."""
        for lane in self._lanes:
            await lane.connection()
        self._tasks = [
            asyncio.create_task(self._run(lane), name="ledger-lane") for lane in self._lanes
        ]

    async def close(self) -> None:
        """Commit what is queued, then stop."""
        self._closing = True
        self._arrived.set()
        await asyncio.gather(*self._tasks)
        for lane in self._lanes:
            await lane.close()

    def _wake(self) -> None:
        self._arrived.set()

    async def submit(self, command: Command, token: Token | None = None) -> Answer:
        """Decide and commit a command; answers once it is on disk (or refused).

        Raises what the command's own decision raised, which is a fault of ours.
        """
        if self._closing or len(self._queue) >= MAX_QUEUED_COMMANDS:
            return refusal_answer(OVERLOADED)
        if token is None and isinstance(command, Refuse):
            return refusal_answer(command.refusal)
        name = (token.key_id, token.idempotency_key) if token else None
        if name in self._in_flight:
            return refusal_answer(IN_FLIGHT)
        loop = asyncio.get_running_loop()
        pending = Pending(command, token, loop.create_future(), loop.time() + COMMAND_TIMEOUT)
        if name:
            self._in_flight.add(name)
        self._queue.append(pending)
        self._arrived.set()
        # A caller that goes away takes only its own ear with it: the command stays queued.
        return await pending.done

    async def _run(self, lane: Lane) -> None:
        while True:
            while (batch := self._take_batch()).pending:
                self._under_way.append(batch)
                await self._commit(lane, batch.pending)
                self._under_way.remove(batch)
                # The other lane may wait for what this batch named.
                self._arrived.set()
            if self._closing and not self._queue:
                self._arrived.set()
                return
            await lane.keep_connected()
            await self._arrived.wait()
            self._arrived.clear()

    def _take_batch(self) -> Batch:
        """What is queued, in order, up to the bounds; a document only once a batch.

        It ends before a command that names what the other lane's batch names, so that the order
        of arrival holds for every document and level.
        """
        batch = Batch()
        under_way = sum(len(other.pending) for other in self._under_way)
        if len(self._queue) * JOIN_SHARE < under_way:
            # A handful is not worth a commit of its own: it goes with the next batch.
            return batch
        share = max(len(self._queue) // (WRITER_LANES - len(self._under_way)), MIN_SHARE)
        weight = 0
        while self._queue and len(batch.pending) < min(share, MAX_BATCH_COMMANDS):
            command = self._queue[0].command
            weight += weight_of(command)
            names, keys = names_of(command), keys_of(command)
            if batch.pending and weight > MAX_BATCH_LEVELS:
                break
            if not batch.names.isdisjoint(names) or any(
                other.collides(names, keys) for other in self._under_way
            ):
                break
            batch.add(self._queue.popleft(), names, keys)
        QUEUE.set(len(self._queue))
        return batch

    async def _commit(self, lane: Lane, batch: list[Pending]) -> None:
        """Commit a batch as one; if that fails for a reason of its own, one by one."""
        try:
            commands = [(pending.command, pending.token) for pending in batch]
            outcome = await lane.commit(commands, min(pending.deadline for pending in batch))
        except LOST_CONNECTION as error:
            log.error("ledger_unreachable", commands=len(batch), error=repr(error))
            for pending in batch:
                self._resolve(pending, refusal_answer(UNREACHABLE))
        except Exception as error:
            if len(batch) == 1:
                log.exception("ledger_command_failed", command=type(batch[0].command).__name__)
                self._resolve(batch[0], error)
            else:
                log.warning("ledger_batch_split", commands=len(batch), error=repr(error))
                for pending in batch:
                    await self._commit(lane, [pending])
        else:
            self.commits += 1
            self._tell_readers(outcome)
            for pending, answer in zip(batch, outcome.answers, strict=True):
                self._resolve(pending, answer)
            measure(batch, outcome.answers)

    def _tell_readers(self, outcome: Outcome) -> None:
        if outcome.packed is None:
            return
        try:
            self._on_commit(outcome.levels, outcome.packed)
        except Exception:
            # The commit stands; the relay tells the readers out of the outbox.
            log.exception("ledger_readers_untold")

    def _resolve(self, pending: Pending, answer: Answer | Exception) -> None:
        """Tell the caller, if there is still one; the key is free for a replay."""
        if token := pending.token:
            self._in_flight.discard((token.key_id, token.idempotency_key))
        if pending.done.done():
            return
        if isinstance(answer, Exception):
            pending.done.set_exception(answer)
        else:
            pending.done.set_result(answer)


def weight_of(command: Command) -> int:
    """About how many levels a command locks."""
    if isinstance(command, Reserve | ChangeLines):
        return sum(len(want.places) for want in command.wants)
    if isinstance(command, Record):
        return len(command.entries)
    return 1


def names_of(command: Command) -> tuple[str, ...]:
    """What no other command of the batch may name, since each is read once, at the start."""
    if isinstance(command, Record):
        return (f"source:{command.source_id}",)
    if isinstance(command, Refuse) or (isinstance(command, Reserve) and command.fresh):
        return ()
    return (f"document:{command.document_id}",)


def keys_of(command: Command) -> Collection[Key] | None:
    """The levels that a command names, None where only its document says which."""
    if isinstance(command, Reserve):
        return [place.key for want in command.wants for place in want.places]
    if isinstance(command, Record):
        return [fact.key for fact in command.facts]
    return () if isinstance(command, Refuse) else None


def measure(batch: Sequence[Pending], answers: Sequence[Answer | Exception]) -> None:
    """Count a commit and its commands, each kind once."""
    COMMITS.inc()
    BATCH_SIZE.observe(len(batch))
    kinds = Counter(
        (type(pending.command).__name__.lower(), outcome_of(answer))
        for pending, answer in zip(batch, answers, strict=True)
    )
    for labels, count in kinds.items():
        COMMANDS.labels(*labels).inc(count)


def outcome_of(answer: Answer | Exception) -> str:
    """What became of a command, for the metrics."""
    if isinstance(answer, Exception):
        return "failed"
    if answer.replayed:
        return "replayed"
    return "done" if answer.status < 400 else "refused"
