"""Rate limits by API key: GCRA in Redis, so that all processes count together.

A key has a burst of requests at hand, which fills up again evenly. Redis keeps one instant a key:
when it will be full again. What would put that further off than the burst is refused. The headers
are those of draft-ietf-httpapi-ratelimit-headers. When Redis is away, everything is let through.
"""

import math
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog
from redis.exceptions import RedisError

from truestock.availability.projection import connect_redis
from truestock.config import Settings
from truestock.http.exchange import Exchange
from truestock.http.problems import RefusedError
from truestock.model.caller import Caller
from truestock.model.refusal import Code, Refusal
from truestock.telemetry import describe

log = structlog.get_logger()

# Seconds that Redis is left alone after it did not answer.
REST_SECONDS = 1.0

# ARGV: microseconds a request, and a burst. Answers microseconds: until the key is full again if
# the request counts, and how long it must wait (0: it may pass, and counts).
TAKE = """
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local each, burst = tonumber(ARGV[1]), tonumber(ARGV[2])
local full = math.max(tonumber(redis.call('GET', KEYS[1]) or now), now) + each
local wait = full - now - burst
if wait > 0 then return {full - each - now, wait} end
redis.call('SET', KEYS[1], string.format('%.0f', full), 'PX', math.ceil((full - now) / 1000))
return {full - now, 0}
"""


class Limits:
    """The connection to Redis that counts requests. Open with `open_limits`."""

    def __init__(self, settings: Settings) -> None:
        self._client = connect_redis(settings.redis_url)
        self._take = self._client.register_script(TAKE)
        self._rate = settings.rate_limit
        self._each = 1_000_000 / max(settings.rate_limit, 1)
        self._burst = settings.rate_burst * self._each
        self._away_until = 0.0
        window = math.ceil(self._burst / 1_000_000)
        self._policy = f'"key";q={settings.rate_burst};w={window}'

    async def close(self) -> None:
        """Let go of Redis."""
        await self._client.aclose()

    async def pass_through(self, exchange: Exchange, caller: Caller) -> None:
        """Count a request and say in its answer what is left; raises 429 when nothing is."""
        if not self._rate or time.monotonic() < self._away_until:
            return
        try:
            full, wait = await self._take(
                keys=[f"truestock:rate:{caller.key_id}"], args=[self._each, self._burst]
            )
        except (RedisError, OSError, TimeoutError) as error:
            self._away_until = time.monotonic() + REST_SECONDS
            log.warning("rate_limits_unreachable", error=describe(error))
            return
        left = max(int((self._burst - full) / self._each), 0)
        exchange.headers = {
            "ratelimit-policy": self._policy,
            "ratelimit": f'"key";r={left};t={math.ceil(full / 1_000_000)}',
        }
        if wait > 0:
            raise RefusedError(self._refusal(math.ceil(wait / 1_000_000)))

    def _refusal(self, seconds: int) -> Refusal:
        detail = f"The API key may send {self._rate} requests a second: wait {seconds} s."
        return Refusal(Code.RATE_LIMITED, detail, retry_after=seconds)


@asynccontextmanager
async def open_limits(settings: Settings) -> AsyncIterator[Limits]:
    """The limits of one process; Redis need not be there yet."""
    limits = Limits(settings)
    try:
        yield limits
    finally:
        await limits.close()
