"""A fault campaign: real servers, real load, kill -9 at random moments, and the books afterwards.

1. The servers and the service run as processes of their own; shoppers reserve without a pause,
   each request with its Idempotency-Key, and try again with the same key until it is answered.
2. Every second or so something is killed: the service, PostgreSQL's postmaster, one of its
   backends, or Redis. Whoever watches the service starts it again, as an init system would.
3. At the end every answer that was given is held against the database, and the ledger is proven.
"""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import httpx
import msgspec

from truestock import db
from truestock.embedded import Servers
from truestock.ledger.check import Proof, check

KEY = "fault-campaign"
SHOPPERS = 24
SKUS = 40
LOCATIONS = 4
UNITS = 100_000
READY_SECONDS = 60.0


class Report(msgspec.Struct):
    """What a campaign did and found. ready_seconds: from each kill to /health/ready again."""

    kills: Counter[str]
    answered: int
    tried_again: int
    ready_seconds: list[float]
    lost: list[str]
    changed: list[str]
    doubled: int
    proof: Proof


class Site:
    """The servers and the service, each a process that can be killed and is started again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url = f"http://127.0.0.1:{free_port()}"
        self.keeper: subprocess.Popen[bytes] | None = None
        self.service: subprocess.Popen[bytes] | None = None
        self.servers: Servers | None = None

    def start_servers(self) -> Servers:
        """PostgreSQL and Redis under a keeper of their own."""
        self.keeper = subprocess.Popen(
            [sys.executable, "-m", "truestock.embedded", str(self.folder / "data")],
            stdout=subprocess.PIPE,
            stderr=(self.folder / "keeper.log").open("ab"),
        )
        assert self.keeper.stdout is not None
        self.servers = msgspec.json.decode(self.keeper.stdout.readline(), type=Servers)
        return self.servers

    def start_service(self) -> None:
        """The service as `truestock serve` runs it."""
        assert self.servers is not None
        environment = os.environ | {
            "TRUESTOCK_DATABASE_URL": self.servers.database_url,
            "TRUESTOCK_REDIS_URL": self.servers.redis_url,
            "TRUESTOCK_BOOTSTRAP_KEY": KEY,
        }
        port = self.url.rpartition(":")[2]
        self.service = subprocess.Popen(
            [sys.executable, "-m", "truestock", "serve", "--port", port],
            env=environment,
            stderr=(self.folder / "service.log").open("ab"),
        )

    async def watch_service(self) -> None:
        """Start the service again whenever it is gone."""
        while True:
            if self.service is None or self.service.poll() is not None:
                self.start_service()
            await asyncio.sleep(0.05)

    def kill(self, what: str, random: Random) -> bool:
        """kill -9 something; False if there was nothing to kill."""
        targets = self.targets(what)
        if not targets:
            return False
        with contextlib.suppress(ProcessLookupError):
            os.kill(random.choice(targets), signal.SIGKILL)
        return True

    def targets(self, what: str) -> list[int]:
        """The processes that go by this name."""
        assert self.keeper is not None
        if what == "service":
            return [self.service.pid] if self.service and self.service.poll() is None else []
        children = children_of(self.keeper.pid)
        if what == "redis":
            return [pid for pid in children if "redis" in command_of(pid)]
        postmasters = [pid for pid in children if "postgres" in command_of(pid)]
        if what == "postmaster":
            return postmasters
        backends = [child for pid in postmasters for child in children_of(pid)]
        return [pid for pid in backends if "truestock" in command_of(pid)]

    def stop(self) -> None:
        """Everything ends, the service first."""
        for process in (self.service, self.keeper):
            if process is not None and process.poll() is None:
                process.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(30)
                process.kill()


async def campaign(folder: Path, kinds: list[str], kills: int, seed: int) -> Report:
    """Kill things `kills` times under load, in the order that the seed says; see what is left."""
    site = Site(folder)
    servers = site.start_servers()
    watcher = None
    try:
        await db.migrate(servers.database_url)
        watcher = asyncio.create_task(site.watch_service())
        async with open_client(site.url) as client:
            await until_ready(client)
            await stock_up(client)
            return await run(site, client, kinds, kills, Random(seed))
    finally:
        if watcher is not None:
            watcher.cancel()
        site.stop()


async def run(
    site: Site, client: httpx.AsyncClient, kinds: list[str], kills: int, random: Random
) -> Report:
    """Shoppers and the killer at once, then the books."""
    answers: dict[str, dict[str, Any]] = {}
    counts: Counter[str] = Counter()
    stop = asyncio.Event()
    shoppers = [
        asyncio.create_task(shop(client, number, Random(random.random()), answers, counts, stop))
        for number in range(SHOPPERS)
    ]
    killed: Counter[str] = Counter()
    ready_seconds = []
    while killed.total() < kills:
        await asyncio.sleep(random.uniform(0.2, 1.5))
        what = kinds[killed.total() % len(kinds)]
        if site.kill(what, random):
            killed[what] += 1
            at = time.monotonic()
            # Not before the blow has landed: a dying process may still answer.
            await asyncio.sleep(0.1)
            await until_ready(client)
            ready_seconds.append(time.monotonic() - at)
    stop.set()
    await asyncio.gather(*shoppers)
    assert site.servers is not None
    lost, changed, doubled, proof = await audit(site.servers.database_url, answers)
    return Report(
        killed, len(answers), counts["again"], ready_seconds, lost, changed, doubled, proof
    )


async def shop(
    client: httpx.AsyncClient,
    shopper: int,
    random: Random,
    answers: dict[str, dict[str, Any]],
    counts: Counter[str],
    stop: asyncio.Event,
) -> None:
    """Reserve again and again; a request without an answer is sent again with its key."""
    number = 0
    while not stop.is_set():
        number += 1
        key = f"{shopper}-{number}"
        lines = [
            {
                "line_id": str(line),
                "sku": f"F-{random.randrange(SKUS)}",
                "quantity": random.randint(1, 3),
                "location": f"fault-{random.randrange(LOCATIONS)}",
            }
            for line in range(random.randint(1, 3))
        ]
        body = {"reference": key, "channel": "web", "ttl_seconds": 86_400, "lines": lines}
        while True:
            try:
                answer = await client.post(
                    "/v1/reservations", json=body, headers={"Idempotency-Key": key}
                )
            except httpx.HTTPError:
                answer = None
            if answer is not None and answer.status_code == 201:
                answers[key] = answer.json()
                break
            assert answer is None or answer.status_code in (409, 503), answer.text
            counts["again"] += 1
            await asyncio.sleep(0.05)


async def audit(
    database_url: str, answers: dict[str, dict[str, Any]]
) -> tuple[list[str], list[str], int, Proof]:
    """Which answers are lost or differ, how many requests took effect twice, and the proof."""
    connection = await db.connect(database_url)
    try:
        rows = await connection.fetch("SELECT reservation_id, reference, lines FROM reservations")
        stored = {row["reservation_id"]: msgspec.json.decode(row["lines"]) for row in rows}
        ids = {key: answer["reservation_id"] for key, answer in answers.items()}
        lost = [key for key, number in ids.items() if number not in stored]
        changed = [
            key
            for key, number in ids.items()
            if number in stored and stored[number] != answers[key]["lines"]
        ]
        doubled = len(rows) - len({row["reference"] for row in rows})
        return lost, changed, doubled, await check(connection)
    finally:
        await connection.close()


# Surroundings -------------------------------------------------------------


@asynccontextmanager
async def open_client(url: str) -> AsyncIterator[httpx.AsyncClient]:
    """A client with the first key."""
    async with httpx.AsyncClient(
        base_url=url,
        headers={"Authorization": f"Bearer {KEY}"},
        timeout=20.0,
        limits=httpx.Limits(max_connections=SHOPPERS + 4),
    ) as client:
        yield client


async def until_ready(client: httpx.AsyncClient) -> None:
    """Wait for /health/ready, READY_SECONDS at most."""
    async with asyncio.timeout(READY_SECONDS):
        while True:
            with contextlib.suppress(httpx.HTTPError):
                if (await client.get("/health/ready", timeout=3.0)).status_code == 200:
                    return
            await asyncio.sleep(0.05)


async def stock_up(client: httpx.AsyncClient) -> None:
    """Items, locations and enough of everything, through the API."""
    skus = [f"F-{number}" for number in range(SKUS)]
    locations = [f"fault-{number}" for number in range(LOCATIONS)]
    items = {"items": [{"sku": sku} for sku in skus]}
    places = {"locations": [{"location": name, "kind": "store"} for name in locations]}
    events = [
        {
            "event_id": f"{sku}-{name}",
            "type": "count",
            "sku": sku,
            "location": name,
            "quantity": UNITS,
            "occurred_at": "2026-01-01T00:00:00Z",
        }
        for sku in skus
        for name in locations
    ]
    for answer in (
        await client.put("/v1/items", json=items),
        await client.put("/v1/locations", json=places),
        await client.post("/v1/stock/events", json={"source": "erp", "events": events}),
    ):
        assert answer.status_code == 200, answer.text


def children_of(pid: int) -> list[int]:
    """The processes that this one started, whichever of its threads did."""
    found: list[int] = []
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            found += map(int, (task / "children").read_text().split())
    return found


def command_of(pid: int) -> str:
    """A process's command line."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    return ""


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
