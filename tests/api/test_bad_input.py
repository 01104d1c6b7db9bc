"""Nothing that a caller sends fails the service: each is a problem that points at the field."""

from collections.abc import AsyncIterator, Awaitable, Callable

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
            answer = await send(
                spoilt(example.body, path, msgspec.json.encode(inner | {name: 1}))
            )
            if answer.status_code < 300:
                assert b'"rejected"' in answer.content
                continue
            escaped = name.replace("~", "~0").replace("/", "~1")
            wanted = f"{pointer(path)}/{escaped}"
            assert (answer.status_code, pointers(assert_problem(answer))) == (400, [wanted])
