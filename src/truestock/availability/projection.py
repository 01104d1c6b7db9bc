"""The projection in Redis: levels by item, set only if newer, and each change published.

Redis may be lost, flushed or slow: then answers come from PostgreSQL and take longer. A process
trusts what it keeps only while its own heartbeat comes back to it over the same channel.
"""

import asyncio
import contextlib
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Sequence

import msgspec
import redis.asyncio
import structlog
from redis.exceptions import RedisError

from truestock.config import REDIS_TIMEOUT
from truestock.model.stock import Figures, pack_figures
from truestock.telemetry import describe

log = structlog.get_logger()

CHANNEL = "truestock:levels"
KEPT_SECONDS = 3600
HEARTBEAT_SECONDS = 0.5
SILENCE_SECONDS = 2.0
RECONNECT_SECONDS = 0.5
CANCEL_SECONDS = 0.1
MAX_CONNECTIONS = 64
# How long a dropped item is not filled, and so how old what fills it may be at most.
DROPPED_MS = 3_000
MAX_FILL_SECONDS = 2.0
# Commits that wait to be published; beyond, the oldest are left to the relay.
MAX_WAITING = 256
MAX_PER_CALL = 32

# Each entry is [item_id, location_id, version, "level"]; a value is "version:level".
SET_IF_NEWER = """
local newer = {}
local function take(packed)
    for _, entry in ipairs(cjson.decode(packed)) do
        local key = 'truestock:{' .. entry[1] .. '}:levels'
        local known = redis.call('HGET', key, entry[2])
        if not known or tonumber(string.match(known, '^%d+')) < entry[3] then
            redis.call('HSET', key, entry[2], string.format('%.0f:', entry[3]) .. entry[4])
            redis.call('EXPIRE', key, KEPT)
            newer[#newer + 1] = entry[4]
        end
    end
end
""".replace("KEPT", str(KEPT_SECONDS))
PUBLISH = (
    SET_IF_NEWER
    + """
for i = 2, #ARGV do take(ARGV[i]) end
if #newer > 0 then
    redis.call('PUBLISH', KEYS[1], ARGV[1] .. '[' .. table.concat(newer, ',') .. ']')
end
return #newer
"""
)
# An item that was dropped a moment ago is not filled: who fills it may have read before.
FILL = (
    SET_IF_NEWER
    + """
for i = 1, #ARGV, 2 do
    local key = 'truestock:{' .. ARGV[i] .. '}:levels'
    if redis.call('EXISTS', 'truestock:{' .. ARGV[i] .. '}:dropped') == 0 then
        take(ARGV[i + 1])
        redis.call('HSET', key, 'all', '1')
        redis.call('EXPIRE', key, KEPT)
    end
end
-- Who reads a change before its own process has published it must tell the others in its stead:
-- what is here already, nobody publishes any more.
if #newer > 0 then
    redis.call('PUBLISH', KEYS[1], ZEROS .. '[' .. table.concat(newer, ',') .. ']')
end
return #newer
""".replace("KEPT", str(KEPT_SECONDS)).replace("ZEROS", "string.rep('\\0', 16)")
)
DROP = """
local items = cjson.decode(ARGV[2])
for _, item in ipairs(items) do
    local name = string.format('truestock:{%.0f}', item)
    redis.call('DEL', name .. ':levels')
    redis.call('SET', name .. ':dropped', '1', 'PX', DROPPED)
end
redis.call('PUBLISH', KEYS[1], ARGV[1] .. ARGV[2])
return #items
""".replace("DROPPED", str(DROPPED_MS))

decode_level = msgspec.json.Decoder(Figures).decode
decode_levels = msgspec.json.Decoder(list[Figures]).decode
decode_items = msgspec.json.Decoder(list[int]).decode


def connect_redis(redis_url: str) -> redis.asyncio.Redis:
    """A client whose callers wait for a connection, instead of failing where all are in use."""
    pool = redis.asyncio.BlockingConnectionPool.from_url(
        redis_url,
        socket_timeout=REDIS_TIMEOUT,
        socket_connect_timeout=REDIS_TIMEOUT,
        max_connections=MAX_CONNECTIONS,
        timeout=REDIS_TIMEOUT,
    )
    return redis.asyncio.Redis.from_pool(pool)


class Projection:
    """The connection to Redis. `trusted` says whether changes of other processes are heard."""

    def __init__(
        self,
        redis_url: str,
        on_change: Callable[[Iterable[Figures]], None],
        on_drop: Callable[[Iterable[int]], None],
        on_doubt: Callable[[], None],
    ) -> None:
        self._client = connect_redis(redis_url)
        self._publish = self._client.register_script(PUBLISH)
        self._fill = self._client.register_script(FILL)
        self._drop = self._client.register_script(DROP)
        self._on_change = on_change
        self._on_drop = on_drop
        self._on_doubt = on_doubt
        self._me = uuid.uuid4().bytes
        self._waiting: deque[bytes] = deque(maxlen=MAX_WAITING)
        self._arrived = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._heard_at = 0.0
        self._subscribed = False

    @property
    def trusted(self) -> bool:
        """Whether this process's own heartbeat came back lately."""
        return self._subscribed and time.monotonic() - self._heard_at < SILENCE_SECONDS

    async def open(self) -> None:
        """Start to publish and to listen; Redis need not be there yet."""
        self._tasks = [
            asyncio.create_task(self._publish_forever(), name="projection-publisher"),
            asyncio.create_task(self._listen_forever(), name="projection-listener"),
            asyncio.create_task(self._beat_forever(), name="projection-heartbeat"),
        ]

    async def close(self) -> None:
        """Stop and disconnect."""
        # Again and again: the client swallows a cancellation now and then.
        while pending := [task for task in self._tasks if not task.done()]:
            for task in pending:
                task.cancel()
            await asyncio.wait(pending, timeout=CANCEL_SECONDS)
        with contextlib.suppress(RedisError, OSError):
            await self._client.aclose()

    async def ping(self) -> None:
        """Raises what Redis has to complain of."""
        await self._client.ping()  # type: ignore[misc]

    def send(self, packed: bytes) -> None:
        """Publish a commit's levels as soon as can be, without keeping the caller."""
        self._waiting.append(packed)
        self._arrived.set()

    async def relay(self, packed: Sequence[bytes]) -> int:
        """Publish levels from the outbox; answers how many were news. Raises RedisError."""
        # Nobody is the sender: every process takes them in, this one too.
        return int(await self._publish(keys=[CHANNEL], args=[bytes(16), *packed]))

    async def read(self, item_ids: Sequence[int]) -> dict[int, dict[int, Figures]]:
        """The items that the projection has in full; {} when Redis does not answer."""
        try:
            pipeline = self._client.pipeline(transaction=False)
            for item_id in item_ids:
                pipeline.hgetall(f"truestock:{{{item_id}}}:levels")
            hashes = await pipeline.execute()
        except (RedisError, OSError, TimeoutError) as error:
            log.warning("projection_unreadable", error=describe(error))
            return {}
        return {
            item_id: _levels(fields)
            for item_id, fields in zip(item_ids, hashes, strict=True)
            if b"all" in fields
        }

    async def drop(self, item_ids: Sequence[int]) -> None:
        """Let go of items, here and in every process. Raises RedisError."""
        await self._drop(keys=[CHANNEL], args=[bytes(16), msgspec.json.encode(item_ids)])

    async def fill(self, items: dict[int, dict[int, Figures]], read_at: float) -> None:
        """Keep items that were read from PostgreSQL, unless newer levels are there.

        read_at: when they began to be read, by the monotonic clock.
        """
        if time.monotonic() - read_at > MAX_FILL_SECONDS:
            return
        args: list[int | bytes] = []
        for item_id, levels in items.items():
            args += (item_id, pack_figures(list(levels.values())))
        try:
            await self._fill(keys=[CHANNEL], args=args)
        except (RedisError, OSError, TimeoutError) as error:
            log.warning("projection_unwritable", error=describe(error))

    async def _publish_forever(self) -> None:
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            while self._waiting:
                count = min(len(self._waiting), MAX_PER_CALL)
                packed = [self._waiting.popleft() for _ in range(count)]
                try:
                    await self._publish(keys=[CHANNEL], args=[self._me, *packed])
                except (RedisError, OSError, TimeoutError) as error:
                    # What is lost here the relay brings later, out of the outbox.
                    log.warning("projection_unpublished", error=describe(error))
                    self._waiting.clear()
                    await asyncio.sleep(RECONNECT_SECONDS)

    async def _beat_forever(self) -> None:
        while True:
            with contextlib.suppress(RedisError, OSError, TimeoutError):
                await self._client.publish(CHANNEL, self._me)
            await asyncio.sleep(HEARTBEAT_SECONDS)

    async def _listen_forever(self) -> None:
        while True:
            try:
                await self._listen()
            except (RedisError, OSError, TimeoutError) as error:
                log.warning("projection_lost", error=describe(error))
            self._subscribed = False
            self._on_doubt()
            await asyncio.sleep(RECONNECT_SECONDS)

    async def _listen(self) -> None:
        async with self._client.pubsub(ignore_subscribe_messages=True) as pubsub:
            await pubsub.subscribe(CHANNEL)
            silent_since = time.monotonic()
            while time.monotonic() - silent_since < SILENCE_SECONDS:
                message = await pubsub.get_message(timeout=HEARTBEAT_SECONDS)
                if message is not None and self._hear(message["data"]):
                    silent_since = time.monotonic()

    def _hear(self, data: bytes) -> bool:
        """Take in a message; answers whether it was this process's own heartbeat."""
        sender, body = data[:16], data[16:]
        if sender == self._me:
            if not self._subscribed:
                # What changed before the first heartbeat came back was not heard.
                self._on_doubt()
                self._subscribed = True
            self._heard_at = time.monotonic()
        elif body:
            if body.startswith(b"[["):
                self._on_change(decode_levels(body))
            else:
                self._on_drop(decode_items(body))
        return sender == self._me


def _levels(fields: dict[bytes, bytes]) -> dict[int, Figures]:
    levels: dict[int, Figures] = {}
    for name, value in fields.items():
        if name != b"all":
            levels[int(name)] = decode_level(value.partition(b":")[2])
    return levels
