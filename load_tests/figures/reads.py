"""Availability: the service against bare handlers that answer the same bytes."""

import contextlib
import random
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import httpx
import msgspec

from load_tests import bare, wrk
from load_tests.bench import Bench, Shape, alternate
from load_tests.databases import drop_database, seeded_database
from load_tests.processes import Server, handlers, service
from load_tests.result import BenchError, Figure, Sample

QUERY = "/v1/availability/query"
SKUS_EACH = 50
# So many different answers are ready in the bare handler, asked for in turn.
READY_ANSWERS = 200
WARM_SKUS = 1_000


def one_sku(bench: Bench) -> list[Figure]:
    """One item at 20 locations, the same again and again."""
    with both(bench) as (ours, base):
        path = one_path(bench.shape)
        sides = {"ours": partial(one, bench, ours, path), "bare": partial(one, bench, base, path)}
        samples = alternate(bench, sides)
    title = "One sku at 20 locations, GET"
    return [Figure("one-sku", title, "requests/s", "bare GET handler", 0.80, *samples)]


def fifty_skus(bench: Bench) -> list[Figure]:
    """50 items at 20 locations each, other ones in each request."""
    with both(bench) as (ours, base):
        warm_items(ours, bench.shape)
        sides = {"ours": partial(many, bench, ours, bench.shape)}
        sides["bare"] = partial(many, bench, base, bench.shape)
        samples = alternate(bench, sides)
    title = "50 skus × 20 locations, POST query"
    return [Figure("fifty-skus", title, "requests/s", "bare POST handler", 0.50, *samples)]


@contextlib.contextmanager
def both(bench: Bench) -> Iterator[tuple[Server, Server]]:
    """The service on a seeded database, and bare handlers with answers fetched from it."""
    database_url = seeded_database(bench, bench.shape)
    answers = bench.folder / "answers"
    with service(bench, database_url) as ours:
        fetch_answers(ours, bench.shape, answers)
        with handlers(bench, "bare", {bare.ANSWERS: str(answers)}) as base:
            same_bytes(ours, base, bench.shape)
            yield ours, base
    drop_database(bench, database_url)


def one(bench: Bench, server: Server, path: str) -> Sample:
    """One round of GETs."""
    return wrk.warmed(bench, server, path, "report.lua").sample()


def many(bench: Bench, server: Server, shape: Shape) -> Sample:
    """One round of queries."""
    seed = next(wrk.runs)
    return wrk.warmed(bench, server, QUERY, "query.lua", shape.spread, shape.stride, seed).sample()


def one_path(shape: Shape) -> str:
    """Where one item in the middle of all is asked for."""
    return f"/v1/availability/{sku(shape, shape.spread // 2)}"


def sku(shape: Shape, position: int) -> str:
    """The items that a load names, as the Lua scripts have them."""
    return f"SKU-{position * shape.stride + 1 + position % shape.stride:06d}"


def warm_items(server: Server, shape: Shape) -> None:
    """Ask for each item that the load names, so that what is measured is a service that runs."""
    skus = [sku(shape, position) for position in range(shape.spread)]
    with httpx.Client(base_url=server.url, headers=server.headers, timeout=60) as client:
        for start in range(0, len(skus), WARM_SKUS):
            body = {"skus": skus[start : start + WARM_SKUS]}
            client.post(QUERY, json=body).raise_for_status()


def fetch_answers(server: Server, shape: Shape, file: Path) -> None:
    """Keep the answer to GET, and some to the query, for the bare handlers to give."""
    with httpx.Client(base_url=server.url, headers=server.headers) as client:
        bodies = [client.get(one_path(shape)).raise_for_status().content]
        for _ in range(READY_ANSWERS):
            drawn = random.sample(range(shape.spread), SKUS_EACH)
            body = {"skus": [sku(shape, position) for position in drawn]}
            bodies.append(client.post(QUERY, json=body).raise_for_status().content)
    file.write_bytes(msgspec.msgpack.encode(bodies))


def same_bytes(ours: Server, base: Server, shape: Shape) -> None:
    """Both answer the same to the same, to the last byte."""
    answers = [
        httpx.get(f"{server.url}{one_path(shape)}", headers=server.headers)
        for server in (ours, base)
    ]
    if answers[0].content != answers[1].content or any(a.status_code != 200 for a in answers):
        raise BenchError("The service and the bare handler answer differently.")
