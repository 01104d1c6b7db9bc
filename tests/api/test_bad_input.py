"""Nothing that a caller sends fails the service: each is a problem that points at the field."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from urllib.parse import quote

import httpx
import msgspec
import pytest
from tests.api.requests import (
    POISONS,
    Example,
    Path,
    bodies,
    objects,
    places,
    pointer,
    queries,
    spoilt,
)
from tests.api.shop import Api, Shop, assert_problem, fresh, new_shop, pointers

from truestock.flows.services import Services

# What refusals must leave as it was.
STATE = """
SELECT (SELECT count(*) FROM movements), (SELECT count(*) FROM reservations),
       (SELECT count(*) FROM orders), (SELECT count(*) FROM facts),
       (SELECT count(*) FROM items), (SELECT count(*) FROM locations),
       (SELECT count(*) FROM location_groups), (SELECT count(*) FROM api_keys),
       (SELECT count(*) FROM sources), (SELECT md5(rules::text) FROM buffer_rules)
"""

Send = Callable[[bytes], Awaitable[httpx.Response]]


@pytest.fixture(scope="module")
async def store(api: Api) -> Shop:
    """One shop for all of these tests."""
    return await new_shop(api)


@pytest.fixture(autouse=True, scope="module")
async def no_buffers(api: Api) -> AsyncIterator[None]:
    """Buffers bind everyone: put them back."""
    yield
    await api.put("/v1/buffers", [])


async def make_reservation(store: Shop) -> str:
    """A reservation to work on."""
    cart = store.cart(store.line(1, sku=store.skus[1]))
    return (await store.api.post("/v1/reservations", cart, expect=201))["reservation_id"]


ENDPOINTS = [example.name for example in bodies(Shop(None, ["a"], ["b", "b", "b"], "s"))]


@pytest.fixture(params=range(len(ENDPOINTS)), ids=lambda n: ENDPOINTS[n].split("-")[0])
async def example(request: pytest.FixtureRequest, store: Shop) -> Example:
    """A valid request to each endpoint with a body."""
    example = bodies(store)[request.param]
    if "{reservation}" in example.path:
        example.path = example.path.replace("{reservation}", await make_reservation(store))
    return example


@pytest.fixture
def send(api: Api, example: Example) -> Send:
    """Sends the example with another body."""
    return lambda body: api.send(example.method, example.path, body)


async def test_the_examples_are_taken(send: Send, example: Example) -> None:
    answer = await send(msgspec.json.encode(example.body))
    assert answer.status_code in (example.status, 201), answer.text
    assert b"rejected" not in answer.content.replace(b'"rejected":0', b"")


async def test_wrong_values_are_refused_where_they_stand(
    send: Send, example: Example, services: Services
) -> None:
    faults = []
    for path in places(example.body):
        for name, poison in POISONS.items():
            before = await services.pool.fetchrow(STATE)
            answer = await send(spoilt(example.body, path, poison))
            if answer.status_code >= 400:
                after = await services.pool.fetchrow(STATE)
                if after != before:
                    faults.append(f"{name} at {pointer(path)}: {before} {after}")
            if fault := fault_in(answer, path):
                faults.append(f"{name} at {pointer(path)}: {fault}")
    assert not faults, "\n".join(faults)


def fault_in(answer: httpx.Response, path: Path) -> str | None:
    """What is wrong with the answer to a body that was spoilt at a place."""
    if answer.status_code < 400:
        return None
    try:
        problem = assert_problem(answer)
    except (AssertionError, msgspec.MsgspecError) as error:
        return f"{answer.status_code} {answer.text} {error}"
    if answer.status_code != 400 or "not JSON" in problem["detail"]:
        return None
    there = pointer(path)
    for found in pointers(problem):
        # A whole can be wrong for its part, and a part is missing from its whole.
        if found.startswith(there) or there.startswith(found):
            return None
    return f"points at {pointers(problem)}: {problem['detail']}"


async def test_unknown_fields_are_refused_everywhere(send: Send, example: Example) -> None:
    for path in objects(example.body):
        if path[-1:] in (("address",), ("opening_hours",)):
            continue
        for name in ("unknown", "", "a/b~c", "a`b", "a.b", "a[0]", "✗"):
            inner = example.body
            for part in path:
                inner = inner[part]
            answer = await send(spoilt(example.body, path, msgspec.json.encode(inner | {name: 1})))
            if answer.status_code < 300:
                assert b'"rejected"' in answer.content
                continue
            escaped = name.replace("~", "~0").replace("/", "~1")
            wanted = f"{pointer(path)}/{escaped}"
            assert (answer.status_code, pointers(assert_problem(answer))) == (400, [wanted])


# Queries --------------------------------------------------------------------

QUERIES = [example.name for example in queries(Shop(None, ["a"], ["b"], "s"))]
VALUES = {
    "nothing": "",
    "a text": "x",
    "NUL": "a\x00b",
    "a line break": "a\n",
    "DEL": "\x7f",
    "minus one": "-1",
    "zero": "0",
    "a float": "1.0",
    "true": "true",
    "null": "null",
    "2^63": str(2**63),
    "5000 digits": "9" * 5000,
    "a foreign digit": "１",
    "nan": "nan",
    "inf": "inf",
    "a long text": "x" * 5000,
    "a Unix time": "1700000000",
    "no offset": "2026-11-22T10:00:00",
    "the year 1": "0001-01-01T00:00:00+14:00",
    "the year 9999": "9999-12-31T23:59:59-14:00",
    "quotes": "';--",
}
# Whatever is right for one parameter is wrong for most: these take any text.
TEXTS = {"locations", "groups", "channel", "sku", "location", "cursor"}


@pytest.fixture(params=range(len(QUERIES)), ids=lambda n: QUERIES[n])
def query(request: pytest.FixtureRequest, store: Shop) -> Example:
    """A valid request with each endpoint's parameters."""
    return queries(store)[request.param]


async def test_the_queries_are_taken(api: Api, query: Example) -> None:
    answer = await api.send("GET", query.path, params=query.params)
    assert answer.status_code == 200, answer.text


async def test_wrong_parameters_are_refused_by_name(api: Api, query: Example) -> None:
    faults = []
    for name in query.params:
        for label, value in VALUES.items():
            answer = await api.send("GET", query.path, params=query.params | {name: value})
            if answer.status_code < 400:
                continue
            problem = assert_problem(answer)
            if not any(found.startswith(f"/{name}") for found in pointers(problem)):
                faults.append(f"{label} as {name}: {answer.text}")
            elif name not in TEXTS and problem["status"] != 400:
                faults.append(f"{label} as {name}: {answer.status_code}")
    assert not faults, "\n".join(faults)


async def test_unknown_parameters_are_refused(api: Api, query: Example) -> None:
    for name in ("unknown", "a/b", "a.b", "✗", ""):
        answer = await api.send("GET", query.path, params={name: "1"})
        assert pointers(assert_problem(answer)) == ["/" + name.replace("/", "~1")], name


async def test_a_parameter_that_is_given_twice_is_refused(api: Api) -> None:
    answer = await api.send("GET", "/v1/items", params=[("limit", "1"), ("limit", "1")])
    assert pointers(assert_problem(answer)) == ["/limit"]


@pytest.mark.parametrize("query", ["limit=%FF", "%ED%A0%80=1", "limit=1&cursor=%C0%80"])
async def test_a_query_that_is_not_utf8_is_refused(api: Api, query: str) -> None:
    assert assert_problem(await api.send("GET", f"/v1/items?{query}"))["status"] == 400


async def test_floats_and_unix_times_are_no_whole_numbers_and_dates(api: Api) -> None:
    for path, name, value in (
        ("/v1/items", "limit", "1.0"),
        ("/v1/availability/x", "latitude", "1e400"),
    ):
        answer = await api.send("GET", path, params={name: value})
        assert (answer.status_code, pointers(assert_problem(answer))) == (400, [f"/{name}"])


async def test_wrong_parameters_of_a_file_are_refused_by_name(
    api: Api, store: Shop, services: Services
) -> None:
    good = {
        "source": store.source,
        "as_of": "2026-11-20T00:00:00Z",
        "scope": "partial",
        "locations": store.location,
        "acknowledged_seq": "1",
        "nets_allocations": "false",
    }
    file = b"sku,location,on_hand\n"
    faults = []
    for name in good:
        for label, value in VALUES.items():
            before = await services.pool.fetchval("SELECT count(*) FROM imports")
            answer = await api.send(
                "POST",
                "/v1/stock/snapshots",
                file,
                params=good | {name: value},
                headers={"content-type": "text/csv"},
            )
            if answer.status_code < 400:
                continue
            found = pointers(assert_problem(answer))
            if not any(each.startswith(f"/{name}") for each in found):
                faults.append(f"{label} as {name}: {answer.text}")
            if await services.pool.fetchval("SELECT count(*) FROM imports") != before:
                faults.append(f"{label} as {name}: an import was made")
    assert not faults, "\n".join(faults)


FILES = {
    "nothing": b"",
    "no header": b"tee,oslo,5\n",
    "bytes": bytes(range(256)) * 20,
    "NULs": b"\x00" * 5000,
    "UTF-16": "sku,location,on_hand\ntee,oslo,1\n".encode("utf-16"),
    "half a quote": b'sku,location,on_hand\n"tee,oslo,5\n',
    "a huge number": b"sku,location,on_hand\ntee,oslo," + b"9" * 5000 + b"\n",
    "a long line": b"sku,location,on_hand\n" + b"x" * 200_000 + b"\n",
    "too many fields": b"sku,location,on_hand\n" + b"," * 5000 + b"\n",
    "a header twice": b"sku,sku,location,on_hand\na,a,b,1\n",
    "broken UTF-8": b"sku,location,on_hand\n\xff\xfe,oslo,5\n",
}


@pytest.mark.parametrize("file", FILES.values(), ids=FILES)
@pytest.mark.parametrize("media_type", ["text/csv", "application/x-ndjson"])
@pytest.mark.parametrize("encoding", ["identity", "gzip"])
async def test_a_file_of_nonsense_changes_nothing(
    api: Api, store: Shop, services: Services, file: bytes, media_type: str, encoding: str
) -> None:
    """It is taken, since it streams, and its import says what was wrong."""
    before = await services.pool.fetchval("SELECT count(*) FROM movements")
    headers = {"content-type": media_type, "content-encoding": encoding}
    params = {"source": store.source, "as_of": "2026-11-20T00:00:00Z", "scope": "partial"}
    answer = await api.send("POST", "/v1/stock/snapshots", file, params=params, headers=headers)
    if answer.status_code != 202:
        assert assert_problem(answer)["status"] == 400
        return
    status = await import_over(api, answer.json()["status_url"])
    assert status["status"] in ("failed", "completed")
    assert status["rows_applied"] == 0
    assert await services.pool.fetchval("SELECT count(*) FROM movements") == before
    errors = await api.send("GET", answer.json()["status_url"] + "/errors")
    assert errors.text.startswith("row,code,detail,line")


async def import_over(api: Api, status_url: str) -> dict[str, Any]:
    """An import's last status."""
    async with asyncio.timeout(10):
        while True:
            status = await api.get(status_url)
            if status["status"] not in ("receiving", "queued", "running"):
                return status
            await asyncio.sleep(0.01)


# Paths ----------------------------------------------------------------------

PATHS = [
    ("GET", "/v1/availability/{}"),
    ("GET", "/v1/items/{}"),
    ("PUT", "/v1/items/{}"),
    ("GET", "/v1/locations/{}"),
    ("PUT", "/v1/locations/{}"),
    ("PUT", "/v1/location-groups/{}"),
    ("PUT", "/v1/sources/{}"),
    ("GET", "/v1/reservations/{}"),
    ("PUT", "/v1/reservations/{}/lines"),
    ("POST", "/v1/reservations/{}/extend"),
    ("POST", "/v1/reservations/{}/release"),
    ("POST", "/v1/reservations/{}/confirm"),
    ("GET", "/v1/orders/{}"),
    ("DELETE", "/v1/keys/{}"),
]
NAMES = ["%00", "a%00b", "%0A", "a%0A", "%7F", "x" * 300, "x" * 9000]


@pytest.mark.parametrize(("method", "path"), PATHS)
async def test_a_name_in_a_path_that_cannot_be_one_is_refused(
    api: Api, store: Shop, services: Services, method: str, path: str
) -> None:
    body = {
        "PUT /v1/items/{}": {},
        "PUT /v1/locations/{}": {"kind": "store"},
        "PUT /v1/location-groups/{}": {"locations": []},
        "PUT /v1/sources/{}": {},
        "PUT /v1/reservations/{}/lines": {"lines": [store.line()]},
        "POST /v1/reservations/{}/extend": {"ttl_seconds": 1},
        "POST /v1/reservations/{}/confirm": {},
    }.get(f"{method} {path}")
    before = await services.pool.fetchrow(STATE)
    for name in NAMES:
        answer = await api.send(method, path.format(name), body)
        (pointer,) = pointers(assert_problem(answer))
        assert (answer.status_code, pointer.count("/")) == (400, 1)
    assert await services.pool.fetchrow(STATE) == before


@pytest.mark.parametrize(
    "name", ["a b", "Größe 42", "🧦", "%", "%2F", "a;b=c", "...", "a/b", "/", "a?b#c", "a,b|c"]
)
async def test_any_other_name_goes_there_and_back(api: Api, name: str) -> None:
    name = fresh(name)
    path = f"/v1/items/{quote(name, safe='')}"
    await api.put(path, {"name": "any"}, expect=201)
    assert (await api.get(path))["sku"] == name
