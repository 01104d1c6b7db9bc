"""The Idempotency-Key, on every POST: one effect, one answer, also a hundred times at once."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
from tests.api.conftest import running
from tests.api.shop import BOOTSTRAP_KEY, Api, Shop, ago, assert_problem, fresh

from truestock.app import ENDPOINTS, create_app
from truestock.flows.services import Services

WithScopes = Callable[..., Awaitable[Api]]

# Each POST with a body of its own, and what counts its effects.
RESERVATIONS = "SELECT count(*) FROM reservations"
MOVEMENTS = "SELECT count(*) FROM movements"
Post = tuple[str, Any, Any, str]


async def posts(shop: Shop) -> dict[str, Post]:
    """For each endpoint: path, body, another body, and the query that counts its effects."""
    held = [
        (await shop.api.post("/v1/reservations", shop.cart(), expect=201))["reservation_id"]
        for _ in range(3)
    ]
    events = [shop.event("receipt", 1), shop.event("receipt", 2)]
    path = "/v1/reservations"
    return {
        "/v1/reservations": (path, shop.cart(), shop.cart(reference="other"), RESERVATIONS),
        "/v1/reservations/{reservation_id}/extend": (
            f"{path}/{held[0]}/extend", {"ttl_seconds": 700}, {"ttl_seconds": 701}, RESERVATIONS
        ),
        "/v1/reservations/{reservation_id}/release": (
            f"{path}/{held[1]}/release", {}, None, MOVEMENTS
        ),
        "/v1/reservations/{reservation_id}/confirm": (
            f"{path}/{held[2]}/confirm", {}, {"method": "ship"}, MOVEMENTS
        ),
        "/v1/availability/query": (
            "/v1/availability/query", {"skus": shop.skus}, {"skus": ["no"]}, MOVEMENTS
        ),
        "/v1/stock/events": (
            "/v1/stock/events",
            {"source": shop.source, "events": events[:1]},
            {"source": shop.source, "events": events[1:]},
            MOVEMENTS,
        ),
        "/v1/keys": (
            "/v1/keys",
            {"name": "k", "scopes": ["admin"]},
            {"name": "l", "scopes": ["admin"]},
            "SELECT count(*) FROM api_keys",
        ),
    }  # fmt: skip


JSON_POSTS = sorted(
    endpoint.doc.path
    for endpoint in ENDPOINTS
    if endpoint.doc.method == "POST" and endpoint.doc.media_types == ("application/json",)
)


@pytest.fixture(params=JSON_POSTS)
async def post(request: pytest.FixtureRequest, shop: Shop) -> Post:
    """Each POST of the contract; one that is not here yet fails."""
    return (await posts(shop))[request.param]


async def test_the_same_key_and_body_gives_the_first_answer_again(
    api: Api, services: Services, post: Post
) -> None:
    path, body, _, effects = post
    key = fresh("key")
    first = await api.send("POST", path, body, key=key)
    assert first.status_code in (200, 201), first.text
    assert "idempotency-replayed" not in first.headers
    before = await services.pool.fetchval(effects)
    again = await api.send("POST", path, body, key=key)
    assert (again.status_code, again.content) == (first.status_code, first.content)
    assert again.headers["idempotency-replayed"] == "true"
    assert again.headers["content-type"] == first.headers["content-type"]
    assert await services.pool.fetchval(effects) == before


async def test_the_same_key_with_another_body_is_refused(
    api: Api, services: Services, post: Post
) -> None:
    path, body, other, effects = post
    key = fresh("key")
    await api.send("POST", path, body, key=key)
    before = await services.pool.fetchval(effects)
    answer = await api.send("POST", path, other, key=key)
    assert (answer.status_code, assert_problem(answer)["code"]) == (422, "idempotency_mismatch")
    assert await services.pool.fetchval(effects) == before


async def test_the_same_request_a_hundred_times_at_once_has_one_effect(
    api: Api, services: Services, post: Post
) -> None:
    path, body, _, effects = post
    before = await services.pool.fetchval(effects)
    key = fresh("key")
    answers = await asyncio.gather(*(api.send("POST", path, body, key=key) for _ in range(100)))
    good = [answer for answer in answers if answer.status_code < 300]
    assert len({answer.content for answer in good}) == 1
    assert sum("idempotency-replayed" not in answer.headers for answer in good) == 1
    for answer in answers:
        if answer.status_code >= 300:
            assert assert_problem(answer)["code"] == "idempotency_in_flight"
    once = await services.pool.fetchval(effects) - before
    await api.send("POST", path, body, key=key)
    assert await services.pool.fetchval(effects) - before == once
    assert once == {RESERVATIONS: path == "/v1/reservations"}.get(effects, once)


async def test_without_a_key_each_request_counts(api: Api, shop: Shop) -> None:
    first = await api.post("/v1/reservations", shop.cart(), expect=201)
    second = await api.post("/v1/reservations", shop.cart(), expect=201)
    assert first["reservation_id"] != second["reservation_id"]
    assert (await shop.level())["held"] == 2


async def test_a_key_may_be_bare_or_quoted(api: Api, shop: Shop) -> None:
    key, cart = fresh("key"), shop.cart()
    first = await api.post("/v1/reservations", cart, key=f'"{key}"', expect=201)
    for same in (key, f'"{key}"', f"  {key} "):
        assert await api.post("/v1/reservations", cart, key=same, expect=201) == first


@pytest.mark.parametrize("key", ["", '""', "x" * 256, "a\tb", "\x7f"])
async def test_a_key_that_cannot_be_one_is_refused(
    api: Api, shop: Shop, post: Post, key: str
) -> None:
    path, body, _, _ = post
    answer = await api.send("POST", path, body, key=key)
    assert (answer.status_code, assert_problem(answer)["code"]) == (400, "validation_failed")


async def test_a_key_belongs_to_the_api_key_that_sent_it(
    api: Api, shop: Shop, with_scopes: WithScopes
) -> None:
    key, cart = fresh("key"), shop.cart()
    mine = await api.post("/v1/reservations", cart, key=key, expect=201)
    other = await with_scopes("reservations:write")
    theirs = await other.post("/v1/reservations", cart, key=key, expect=201)
    assert mine["reservation_id"] != theirs["reservation_id"]


async def test_a_key_belongs_to_its_endpoint(api: Api, shop: Shop) -> None:
    """The same body somewhere else is another request."""
    key, body = fresh("key"), {"ttl_seconds": 60}
    held = [await api.post("/v1/reservations", shop.cart(), expect=201) for _ in range(2)]
    first, second = (f"/v1/reservations/{one['reservation_id']}/extend" for one in held)
    await api.post(first, body, key=key)
    assert (await api.post(second, body, key=key, expect=422))["code"] == "idempotency_mismatch"


async def twice(api: Api, path: str, body: Any) -> tuple[httpx.Response, httpx.Response]:
    """The same request two times."""
    key = fresh("key")
    first = await api.send("POST", path, body, key=key)
    return first, await api.send("POST", path, body, key=key)


@pytest.mark.parametrize("status", [409, 422])
async def test_a_refusal_is_an_answer_and_is_replayed(api: Api, shop: Shop, status: int) -> None:
    line = shop.line(99) if status == 409 else shop.line(sku="nobody-knows")
    first, again = await twice(api, "/v1/reservations", shop.cart(line))
    assert first.status_code == again.status_code == status
    assert first.content == again.content
    assert again.headers["idempotency-replayed"] == "true"
    assert assert_problem(again)


async def test_a_refusal_stays_the_answer_when_stock_has_come(api: Api, shop: Shop) -> None:
    key, cart = fresh("key"), shop.cart(shop.line(11))
    await api.post("/v1/reservations", cart, key=key, expect=409)
    await shop.record(shop.event("receipt", 50))
    await api.post("/v1/reservations", cart, key=key, expect=409)
    await api.post("/v1/reservations", cart, key=fresh("key"), expect=201)


async def test_what_was_not_valid_is_not_kept(api: Api, shop: Shop) -> None:
    key = fresh("key")
    await api.post("/v1/reservations", shop.cart(shop.line(0)), key=key, expect=400)
    await api.post("/v1/reservations", shop.cart(), key=key, expect=201)


async def test_without_a_valid_api_key_nothing_is_kept(api: Api, app: Any, shop: Shop) -> None:
    key = fresh("key")
    async with Api(app, "no-such-key") as stranger:
        await stranger.post("/v1/reservations", shop.cart(), key=key, expect=401)
    await api.post("/v1/reservations", shop.cart(), key=key, expect=201)


async def test_a_key_in_use_by_a_slow_request_says_so(
    api: Api, services: Services, shop: Shop
) -> None:
    """Claimed by another process that has not answered yet."""
    key = fresh("key")
    await services.pool.execute(
        "INSERT INTO idempotent_answers VALUES ('bootstrap', $1, '', 0, '', now())", key
    )
    for path, body in (
        ("/v1/reservations", shop.cart()),
        ("/v1/keys", {"name": "k", "scopes": ["admin"]}),
    ):
        answer = await api.post(path, body, key=key, expect=409)
        assert answer["code"] == "idempotency_in_flight"


async def test_a_file_that_is_sent_again_is_imported_once(api: Api, shop: Shop) -> None:
    file = f"sku,location,on_hand\n{shop.sku},{shop.location},3\n".encode()
    request: dict[str, Any] = {
        "params": {"source": shop.source, "as_of": ago(), "scope": "partial"},
        "headers": {"content-type": "text/csv"},
        "key": fresh("key"),
    }
    first = await api.send("POST", "/v1/stock/snapshots", file, **request)
    again = await api.send("POST", "/v1/stock/snapshots", file, **request)
    assert (first.status_code, again.status_code) == (202, 202)
    assert again.content == first.content
    assert again.headers["idempotency-replayed"] == "true"
    request["params"] = request["params"] | {"scope": "full"}
    other = await api.send("POST", "/v1/stock/snapshots", file, **request)
    assert assert_problem(other)["code"] == "idempotency_mismatch"


async def test_an_answer_survives_a_restart(api: Api, services: Services, shop: Shop) -> None:
    """It is in the database: another process, with another memory, has it too."""
    key, cart = fresh("key"), shop.cart()
    first = await api.post("/v1/reservations", cart, key=key, expect=201)
    async with (
        running(create_app(services.settings)) as restarted,
        Api(restarted, BOOTSTRAP_KEY) as after,
    ):
        again = await after.send("POST", "/v1/reservations", cart, key=key)
    assert (again.json(), again.headers["idempotency-replayed"]) == (first, "true")
