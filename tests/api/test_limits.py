"""Rate limits: every key but the first, counted by all processes together, and never in the way."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import msgspec
import pytest
from litestar import Litestar
from tests.api.conftest import running
from tests.api.shop import BOOTSTRAP_KEY, Api, assert_problem

from truestock.app import create_app
from truestock.config import ConfigError, Settings
from truestock.flows.services import Services

RATE, BURST = 5, 10


@pytest.fixture(scope="module")
async def pair(services: Services) -> AsyncIterator[list[Litestar]]:
    """Two processes, as it were, with small limits."""
    settings = msgspec.structs.replace(services.settings, rate_limit=RATE, rate_burst=BURST)
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(running(create_app(settings))) for _ in range(2)]


@pytest.fixture
async def key(api: Api) -> str:
    """A key that has not sent anything."""
    body = {"name": "limited", "scopes": ["availability:read"]}
    return (await api.post("/v1/keys", body, expect=201))["key"]


async def test_a_key_may_send_a_burst_and_is_told_what_is_left(
    pair: list[Litestar], key: str
) -> None:
    async with Api(pair[0], key) as caller:
        answers = [await caller.send("GET", "/v1/items", params={"limit": 1}) for _ in range(14)]
    left = []
    for answer in answers:
        assert answer.headers["ratelimit-policy"] == f'"key";q={BURST};w={BURST // RATE}'
        name, rest, reset = answer.headers["ratelimit"].split(";")
        left.append(int(rest.removeprefix("r=")))
        assert name == '"key"'
        assert 1 <= int(reset.removeprefix("t=")) <= BURST // RATE
    assert left[0] == BURST - 1
    assert left == sorted(left, reverse=True)
    assert [answer.status_code for answer in answers[:BURST]] == [200] * BURST
    refused = answers[-1]
    assert assert_problem(refused)["code"] == "rate_limited"
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")


async def test_what_it_may_send_comes_back_with_time(pair: list[Litestar], key: str) -> None:
    async with Api(pair[0], key) as caller:
        await use_up(caller)
        await asyncio.sleep(1.1 / RATE)
        assert (await caller.send("GET", "/v1/items")).status_code == 200


async def test_processes_count_together(pair: list[Litestar], key: str) -> None:
    async with Api(pair[0], key) as here, Api(pair[1], key) as there:
        answers = await asyncio.gather(
            *(caller.send("GET", "/v1/items") for caller in (here, there) for _ in range(30))
        )
    passed = [answer.status_code for answer in answers].count(200)
    assert BURST <= passed <= BURST + RATE


async def test_a_refused_request_does_nothing_and_is_not_kept(
    pair: list[Litestar], key: str
) -> None:
    body, once = {"skus": ["any"]}, "a-limited-key"
    async with Api(pair[0], key) as caller:
        await use_up(caller)
        await caller.post("/v1/availability/query", body, key=once, expect=429)
        await asyncio.sleep(1.1 / RATE)
        answer = await caller.send("POST", "/v1/availability/query", body, key=once)
    assert answer.status_code == 200
    assert "idempotency-replayed" not in answer.headers


async def use_up(caller: Api) -> None:
    """Send until nothing is left."""
    while (await caller.send("GET", "/v1/items")).status_code == 200:
        pass


async def test_the_first_key_is_exempt(
    pair: list[Litestar], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does not even ask Redis."""

    async def never(*_: Any) -> None:
        raise AssertionError

    monkeypatch.setattr(pair[0].state["limits"], "pass_through", never)
    async with Api(pair[0], BOOTSTRAP_KEY) as first:
        for _ in range(BURST * 2):
            answer = await first.send("GET", "/v1/items")
            assert answer.status_code == 200
    assert "ratelimit" not in answer.headers


async def test_without_redis_everything_passes(services: Services, key: str) -> None:
    settings = msgspec.structs.replace(
        services.settings, rate_limit=1, rate_burst=1, redis_url="unix:///nowhere/redis.sock"
    )
    async with running(create_app(settings)) as app, Api(app, key) as caller:
        for _ in range(5):
            assert (await caller.send("GET", "/v1/items")).status_code == 200


async def test_limits_are_settings() -> None:
    environ = {
        "TRUESTOCK_DATABASE_URL": "",
        "TRUESTOCK_REDIS_URL": "",
        "TRUESTOCK_RATE_LIMIT": "0",
        "TRUESTOCK_RATE_BURST": "7",
    }
    settings = Settings.from_environment(environ)
    assert (settings.rate_limit, settings.rate_burst) == (0, 7)
    with pytest.raises(ConfigError):
        Settings.from_environment(environ | {"TRUESTOCK_RATE_BURST": "0"})


async def test_no_limit_is_no_limit(services: Services, key: str) -> None:
    settings = msgspec.structs.replace(services.settings, rate_limit=0)
    async with running(create_app(settings)) as app, Api(app, key) as caller:
        answer = await caller.send("GET", "/v1/items")
    assert "ratelimit" not in answer.headers
