"""The whole service in this process, reached over HTTP's semantics, on a database of its own."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import httpx
import pytest
import uvicorn
from litestar import Litestar
from tests.api.shop import BOOTSTRAP_KEY, Api, Shop, fresh, new_shop
from tests.seeding import assert_no_drift

from truestock.app import create_app
from truestock.config import Settings
from truestock.embedded import Servers
from truestock.flows.services import Services


@pytest.fixture(scope="package")
def service_database_url(make_database: Callable[[], Iterator[str]]) -> Iterator[str]:
    """One database for all of these tests: each makes its own items and locations."""
    with make_database() as url:
        yield url


def settings_for(database_url: str, servers: Servers) -> Settings:
    """Settings of a service that does nothing by itself."""
    return Settings(
        database_url=database_url,
        redis_url=urlsplit(servers.redis_url)._replace(query="db=7").geturl(),
        bootstrap_key=BOOTSTRAP_KEY,
        jobs=False,
        log_level="error",
    )


@asynccontextmanager
async def running(app: Litestar) -> AsyncIterator[Litestar]:
    """The application while it runs.

    In one task from start to end, as its task group needs: a fixture's two halves are two tasks.
    """
    started, stop = asyncio.Event(), asyncio.Event()

    async def run() -> None:
        async with app.lifespan():
            started.set()
            await stop.wait()

    task = asyncio.create_task(run())
    begun = asyncio.create_task(started.wait())
    await asyncio.wait({task, begun}, return_when="FIRST_COMPLETED")
    if task.done():
        await task
    yield app
    stop.set()
    await task


@pytest.fixture(scope="package")
async def app(service_database_url: str, servers: Servers) -> AsyncIterator[Litestar]:
    """The application; at the end its books must agree."""
    async with running(create_app(settings_for(service_database_url, servers))) as app:
        yield app
    await assert_no_drift(service_database_url)


@pytest.fixture(scope="package")
async def services(app: Litestar) -> Services:
    """What the service itself works with, to look behind its answers."""
    return app.state["services"]


@pytest.fixture(scope="package")
async def api(app: Litestar) -> AsyncIterator[Api]:
    """A caller with the bootstrap key."""
    async with Api(app, BOOTSTRAP_KEY) as api:
        yield api


@pytest.fixture
async def with_scopes(app: Litestar, api: Api) -> AsyncIterator[Callable[..., object]]:
    """Makes callers whose keys have these scopes, and these bounds."""
    made: list[Api] = []

    async def make(*scopes: str, **bounds: object) -> Api:
        body = {"name": fresh("key"), "scopes": list(scopes), **bounds}
        made.append(Api(app, (await api.post("/v1/keys", body, expect=201))["key"]))
        return made[-1]

    yield make
    for caller in made:
        await caller.aclose()


@pytest.fixture
async def shop(api: Api) -> Shop:
    """Three items at three locations: 10 of each at the first, 5 at the second, none at the third.

    The third has no level of any item.
    """
    return await new_shop(api)


@pytest.fixture(scope="package")
async def address(app: Litestar) -> AsyncIterator[str]:
    """Host and port of a real server, as `truestock serve` runs it."""
    config = uvicorn.Config(app, http="httptools", lifespan="off", log_level="error")
    server = uvicorn.Server(config)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        task = asyncio.create_task(server.serve(sockets=[listening]))
        while not server.started:
            await asyncio.sleep(0.01)
        yield f"127.0.0.1:{listening.getsockname()[1]}"
        server.should_exit = True
        await task


@pytest.fixture
async def wire(address: str) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the real server."""
    headers = {"authorization": f"Bearer {BOOTSTRAP_KEY}"}
    async with httpx.AsyncClient(base_url=f"http://{address}", headers=headers) as client:
        yield client
