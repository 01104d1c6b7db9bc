"""A lane: one connection of the writer, and a batch's way from BEGIN to a certain COMMIT."""

import asyncio
from collections.abc import Callable

import asyncpg
import structlog

from truestock import db
from truestock.config import COMMIT_ATTEMPTS
from truestock.db import LOST_CONNECTION, SQL, Connection
from truestock.ledger.batch import Outcome, run_batch
from truestock.ledger.commands import Command, Token
from truestock.ledger.read import Clock, MissingLevelsError

log = structlog.get_logger()

# The batch collided with another process on a key or an id, or was picked as a deadlock's
# victim: what it collided with can be seen when it runs again.
COLLISIONS = (
    asyncpg.UniqueViolationError,
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
    asyncpg.InvalidCachedStatementError,
)

RECONNECT_SECONDS = 0.1


class Lane:
    """A connection that is kept, and made again when it is lost."""

    def __init__(self, database_url: str, clock: Clock, on_lost: Callable[[], None]) -> None:
        self._database_url = database_url
        self._clock = clock
        self._on_lost = on_lost
        self._connection: Connection | None = None

    @property
    def connected(self) -> bool:
        """Whether the connection stands."""
        return self._connection is not None and not self._connection.is_closed()

    async def close(self) -> None:
        """Let go of the connection."""
        if self._connection is not None:
            await self._connection.close()

    async def connection(self) -> Connection:
        """The connection, made anew if it was lost."""
        if self._connection is None or self._connection.is_closed():
            self._connection = await self._connect()
        return self._connection

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
        connection.add_termination_listener(lambda _: self._on_lost())
        return connection

    async def keep_connected(self) -> None:
        """Reconnect while nothing is queued, so that the next command need not wait for it."""
        try:
            await self.connection()
        except Exception as error:
            # Whatever it is (a password that is being changed, a database not there yet): a lane
            # that gave up would leave its callers waiting for ever.
            log.warning("ledger_reconnecting", error=repr(error))
            await asyncio.sleep(RECONNECT_SECONDS)
            self._on_lost()

    async def commit(
        self, commands: list[tuple[Command, Token | None]], deadline: float
    ) -> Outcome:
        """Run a batch until it commits; collisions and lost connections are tried again.

        deadline: by the event loop's clock. Raises what the batch fails of, and the lost
        connection when time is up.
        """
        attempt = 0
        while True:
            attempt += 1
            outcome: Outcome | None = None
            try:
                connection = await self.connection()
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

    async def _create_levels(self, missing: MissingLevelsError) -> None:
        connection = await self.connection()
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
                connection = await self.connection()
                if outcome is None or outcome.xid is None:
                    return False
                if not await self._still_runs(connection, outcome.xid):
                    found = await connection.fetchval(SQL["find_batch"], outcome.batch_id)
                    return bool(found)
            except LOST_CONNECTION as error:
                log.warning("ledger_reconnecting", error=repr(error))
            if loop.time() > deadline:
                raise TimeoutError("It is not known yet whether the transaction committed.")
            await asyncio.sleep(RECONNECT_SECONDS)

    async def _still_runs(self, connection: Connection, xid: str) -> bool:
        try:
            status = await connection.fetchval(SQL["read_transaction_status"], xid)
        except asyncpg.InvalidParameterValueError:
            # The server crashed before it wrote down that it had handed the id out.
            return False
        return bool(status == "in progress")
