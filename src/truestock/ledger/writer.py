"""The ledger's one door: commands queue here, and one writer commits them in groups.

A batch is whatever came in while the last commit was under way; there is no timer. So a crowd
of buyers costs one lock and one flush, and a lone caller waits for nobody.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Sequence
from datetime import datetime

import asyncpg
import msgspec
import structlog

from truestock import db
from truestock.config import (
    COMMAND_TIMEOUT,
    COMMIT_ATTEMPTS,
    MAX_BATCH_COMMANDS,
    MAX_BATCH_LEVELS,
    MAX_QUEUED_COMMANDS,
)
from truestock.db import LOST_CONNECTION, SQL, Connection
from truestock.ledger.batch import IN_FLIGHT, Outcome, run_batch
from truestock.ledger.commands import Answer, Command, Refuse, Token, refusal_answer
from truestock.ledger.read import MissingLevelsError
from truestock.model.record import Record
from truestock.model.refusal import Code, Refusal
from truestock.model.reservation import ChangeLines, Reserve
from truestock.model.stock import Figures
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
# The batch collided with another process on a key or an id, or was picked as a deadlock's
# victim: what it collided with can be seen when it runs again.
COLLISIONS = (
    asyncpg.UniqueViolationError,
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
    asyncpg.InvalidCachedStatementError,
)


RECONNECT_SECONDS = 0.1


class Pending(msgspec.Struct, gc=False):
    """A command on its way, and who waits for it."""

    command: Command
    token: Token | None
    done: asyncio.Future[Answer]
    deadline: float


class Ledger:
    """The open door. Use `open` and `close`; `submit` takes commands from any task."""

    def __init__(
        self,
        database_url: str,
        on_commit: OnCommit,
        clock: Callable[[datetime], datetime] = lambda read_at: read_at,
    ) -> None:
        self._database_url = database_url
        self._on_commit = on_commit
        self._clock = clock
        self._connection: Connection | None = None
        self._queue: deque[Pending] = deque()
        self._in_flight: set[tuple[str, str]] = set()
        self._arrived = asyncio.Event()
        self._closing = False
        self._task: asyncio.Task[None] | None = None
        self.commits = 0

    @property
    def connected(self) -> bool:
        """Whether the writer has its connection."""
        return self._connection is not None and not self._connection.is_closed()

    async def open(self) -> None:
        """Connect and start the writer."""
        self._connection = await self._connect()
        self._task = asyncio.create_task(self._run(), name="ledger-writer")

    async def close(self) -> None:
        """Commit what is queued, then stop."""
        self._closing = True
        self._arrived.set()
        if self._task is not None:
            await self._task
        if self._connection is not None:
            await self._connection.close()

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

    async def _connect(self) -> Connection:
        connection = await db.connect(
            self._database_url,
            application_name="truestock-ledger",
            # Plans are made once, perhaps on empty tables: keys found through the index one by one
            # are right at every size.
            plan_cache_mode="force_generic_plan",
            enable_seqscan="off",
            enable_hashjoin="off",
            enable_mergejoin="off",
            synchronous_commit="on",
        )
        connection.add_termination_listener(lambda _: self._arrived.set())
        return connection

    async def _run(self) -> None:
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            while self._queue:
                await self._commit(self._take_batch())
            if self._closing:
                return
            await self._keep_connected()

    async def _keep_connected(self) -> None:
        """Reconnect while nothing is queued, so that the next command need not wait for it."""
        try:
            await self._connected()
        except LOST_CONNECTION:
            await asyncio.sleep(RECONNECT_SECONDS)
            self._arrived.set()

    def _take_batch(self) -> list[Pending]:
        """What is queued, in order, up to the bounds; a document only once a batch."""
        batch: list[Pending] = []
        named: set[str] = set()
        weight = 0
        while self._queue and len(batch) < MAX_BATCH_COMMANDS:
            command = self._queue[0].command
            weight += weight_of(command)
            names = names_of(command)
            if batch and (weight > MAX_BATCH_LEVELS or not named.isdisjoint(names)):
                break
            named.update(names)
            batch.append(self._queue.popleft())
        QUEUE.set(len(self._queue))
        return batch

    async def _commit(self, batch: list[Pending]) -> None:
        """Commit a batch as one; if that fails for a reason of its own, one by one."""
        try:
            outcome = await self._attempt(batch)
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
                    await self._commit([pending])
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

    async def _attempt(self, batch: list[Pending]) -> Outcome:
        """Run the batch until it commits; collisions and lost connections are tried again."""
        commands = [(pending.command, pending.token) for pending in batch]
        deadline = min(pending.deadline for pending in batch)
        attempt = 0
        while True:
            attempt += 1
            outcome: Outcome | None = None
            try:
                connection = await self._connected()
                transaction = connection.transaction()
                await transaction.start()
                try:
                    outcome = await run_batch(connection, commands, self._clock)
                    await transaction.commit()
                except BaseException:
                    if outcome is None and not connection.is_closed():
                        await transaction.rollback()
                    raise
                return outcome
            except MissingLevelsError as missing:
                await self._create_levels(missing)
            except COLLISIONS:
                if attempt >= COMMIT_ATTEMPTS:
                    raise
            except LOST_CONNECTION:
                if await self._was_committed(outcome, deadline):
                    assert outcome is not None
                    return outcome
                if asyncio.get_running_loop().time() > deadline:
                    raise

    async def _connected(self) -> Connection:
        if self._connection is None or self._connection.is_closed():
            self._connection = await self._connect()
        return self._connection

    async def _create_levels(self, missing: MissingLevelsError) -> None:
        connection = await self._connected()
        await connection.execute(
            SQL["create_levels"],
            [item_id for item_id, _ in missing.keys],
            [location_id for _, location_id in missing.keys],
        )

    async def _was_committed(self, outcome: Outcome | None, deadline: float) -> bool:
        """After a lost connection: reconnect, and ask what became of the transaction.

        Raises TimeoutError when the callers' time is up.
        """
        loop = asyncio.get_running_loop()
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None
        while True:
            try:
                connection = await self._connected()
                if outcome is None or outcome.xid is None:
                    return False
                status = await connection.fetchval(SQL["read_transaction_status"], outcome.xid)
                if status != "in progress":
                    return bool(status == "committed")
            except LOST_CONNECTION as error:
                log.warning("ledger_reconnecting", error=repr(error))
            if loop.time() > deadline:
                raise TimeoutError("It is not known yet whether the transaction committed.")
            await asyncio.sleep(RECONNECT_SECONDS)


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
